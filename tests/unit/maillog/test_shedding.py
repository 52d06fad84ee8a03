"""The lines about shedding say what is held back, on whose word, and by how much."""

from dataclasses import replace

from mailshed.control.overrides import Override, OverrideKind
from mailshed.terms import ShedLevel
from tests.support.log_lines import Log

OVERRIDE = Override(
    number=7,
    kind=OverrideKind.LIMIT,
    traffic_class="bulk",
    value=2,
    user="dupont",
    reason="newsletter RH",
    since_wall=1795339862.0,
    seconds=7200.0,
    request="77aa",
)


def test_an_override_is_told_with_who_and_why() -> None:
    log = Log()
    log.maillog.override_set(OVERRIDE)
    log.maillog.override_restored(replace(OVERRIDE, kind=OverrideKind.HOLD), left=60.04)
    log.maillog.override_ended(OVERRIDE, "cancelled", by="martin", because="sent")
    one, again, over = (line.partition(" warning - ")[2] for line in log.lines)
    assert one == (
        "event=override_set override=7 kind=limit class=bulk value=2 user=dupont"
        ' reason="newsletter RH" left=7200.0 request=77aa'
    )
    assert again == (
        "event=override_restored override=7 kind=hold class=bulk user=dupont"
        ' reason="newsletter RH" left=60.0 request=77aa'
    )
    assert over == (
        "event=override_ended override=7 kind=limit class=bulk value=2 user=dupont"
        ' reason="newsletter RH" request=77aa cause=cancelled by=martin because=sent'
    )


def test_a_surge_is_told_with_its_figures() -> None:
    log = Log()
    log.maillog.surge_began("telework", "", ratio=2.13, messages=640, expected=10.04)
    log.maillog.surge_ended("telework", "vpn", ratio=1.204, seconds=2400.3)
    first, second = log.lines
    assert first.endswith(
        "warning - event=surge_began class=telework ratio=2.13 messages=640 expected=10.0"
    )
    assert second.endswith(
        "info - event=surge_ended class=telework network=vpn ratio=1.2 seconds=2400"
    )


def test_a_level_is_a_warning_from_where_mail_waits() -> None:
    log = Log()
    log.maillog.shed_level(ShedLevel.NORMAL, ShedLevel.BULK_WAITS)
    log.maillog.shed_level(ShedLevel.BULK_WAITS, ShedLevel.SLOW_BULK)
    up, down = (line.split(" ", 1)[1] for line in log.lines)
    assert up == "warning - event=shed_level level=2 means=bulk_waits before=0"
    assert down == "info - event=shed_level level=1 means=slow_bulk before=2"


def test_a_divert_is_told_with_its_cause_and_its_end() -> None:
    log = Log()
    log.maillog.divert_begun("telework", "waits")
    log.maillog.divert_ended("telework")
    begun, ended = (line.split(" ", 1)[1] for line in log.lines)
    assert begun == "warning - event=divert_begun class=telework cause=waits"
    assert ended == "info - event=divert_ended class=telework"
