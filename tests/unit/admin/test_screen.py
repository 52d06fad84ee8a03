"""The screen answers 'what is full now' in 80 columns by 24 rows."""

import dataclasses
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.admin.screen import _age, _count, _rate, _size, override_words, render
from mailshed.admin.status import status_document
from mailshed.metrics.history import Recent
from mailshed.metrics.snapshot import ClassSnapshot, Snapshot, SpoolSnapshot
from tests.support.snapshots import busy_snapshot


def screen(snapshot: Snapshot, age: float = 0.1) -> str:
    return render(status_document(snapshot, snapshot.made_at + age))


def test_a_backend_that_answers_again_and_has_not_all_mail_yet_says_so() -> None:
    snapshot = busy_snapshot()
    backend = dataclasses.replace(snapshot.backends[0], breaker="half_open", limit=6)
    shown = screen(dataclasses.replace(snapshot, backends=(backend,)))
    assert "BACKEND exch01 COMING BACK   in flight 20/6" in shown


def test_it_says_whose_mail_goes_elsewhere_and_what_waits_for_whom() -> None:
    snapshot = busy_snapshot()
    here, away = snapshot.backends
    away = dataclasses.replace(
        away,
        fallback="exch01",
        fallback_since_wall=time.mktime((2026, 11, 22, 12, 3, 0, 0, 0, -1)),
        away_seconds=900.0,
        queued_messages=1234,
    )
    lines = screen(dataclasses.replace(snapshot, backends=(here, away))).splitlines()
    line = "  mail of exch02 goes to exch01 since 12:03 (exch02 away for 15m)"
    assert lines[lines.index(line) - 1].startswith("  next probe in 12 s")
    assert (
        "BACKEND exch02 AWAY   in flight 0/20   waiting 0   queued 1 234   conn 0+0 idle" in lines
    )
    only = dataclasses.replace(snapshot, backends=(dataclasses.replace(here, queued_messages=9),))
    assert "queued 9 " not in screen(only), "with one backend the spool's line says it"


def test_a_busy_service_looks_like_this() -> None:
    assert screen(busy_snapshot()).splitlines() == [
        "mailshed 1.0.0 on smtp-int-1  ENFORCING  up 12d7h  config 3f9a2c1d (2h1m ago)",
        "LEVEL 3 FORCED, SHEDDING telework 1.5/s, bulk 379/s   LIMITED BY exch02 away",
        "OVERRIDE 7: hold bulk, 1h30m left (dupont: newsletter RH)",
        "OVERRIDE 6: level 3, 1d left (martin: patch night)",
        "CLASS         IN/s  OUT/s  QUEUED OLDEST    ETA    OK/h SPOOLED/h NOTE",
        "clinical       3.1    3.1       0      -      -  11 203         0",
        "continuity    0.05   0.05       1     4s stands       0         0",
        "personal      0.05   0.05       2     8s stands       0         0",
        "calendar      0.05   0.05       3    12s stands       0         0",
        "application   0.05   0.05       4    16s stands       0         0",
        "telework       4.0    2.5       5    20s   4m5s   9 104       231 2.1x usual",
        "bulk           380   0.80   9 412  4h10m  grows   2 880     9 412 LATE>4h,held",
        "extra         0.05   0.05       7    28s stands       0         0",
        "BACKEND exch01 up   in flight 20/20   waiting 14   conn 20+2 idle",
        "  exch01.hospital.example:25",
        "BACKEND exch02 AWAY   in flight 0/20   waiting 0   conn 0+0 idle",
        "  exch02.hospital.example:25",
        "  next probe in 12 s; connection refused ?[2J by 10.0.0.9",
        "SPOOL 9 412/1.00M messages   1.2 GiB/10 GiB   disk free 40 GiB (keeps 256 MiB)",
        "Accounted (recipients spooled): 46 057 accepted + 3 generated = 36 430 delivered",
        "  + 1 bounced + 1 refused + 1 expired + 1 removed + 9 626 queued   OK",
    ]


def test_many_overrides_do_not_push_the_table_off_the_screen() -> None:
    one = busy_snapshot().overrides[1]
    many = [
        dataclasses.replace(one, id=number, left_seconds=100.0 * number, reason="why " * 100)
        for number in range(9, 0, -1)
    ]
    snapshot = dataclasses.replace(busy_snapshot(), overrides=tuple(many))
    shown = [line for line in screen(snapshot).splitlines() if "verride" in line.lower()]
    assert [line[:12] for line in shown[:3]] == ["OVERRIDE 1: ", "OVERRIDE 2: ", "OVERRIDE 3: "]
    assert all(line.endswith("...") for line in shown[:3])
    assert shown[3:] == ["and 6 more overrides: mailshed override list"]

    whole = render(status_document(snapshot, snapshot.made_at), None)
    assert whole.count("OVERRIDE") == 9
    assert whole.count("why why") == 9 * 50


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"kind": "hold", "traffic_class": "bulk", "value": 0}, "hold bulk"),
        ({"kind": "release", "traffic_class": "bulk", "value": 0}, "release bulk"),
        ({"kind": "limit", "traffic_class": "bulk", "value": 4}, "limit bulk 4"),
        ({"kind": "level", "traffic_class": "", "value": 0}, "level 0"),
        ({}, "? ?"),
    ],
)
def test_an_override_in_few_words(override: dict[str, Any], words: str) -> None:
    assert override_words(override) == words


def test_it_fits_80_by_24_with_eight_classes_when_all_is_wrong() -> None:
    spool = dataclasses.replace(busy_snapshot().spool, is_healthy=False, sick_reason="x" * 300)
    backend = dataclasses.replace(busy_snapshot().backends[1], last_error="no route " * 40)
    worst = dataclasses.replace(
        busy_snapshot(), backends=(backend,), spool=spool, is_stopping=True, reload_ok=False
    )
    assert len(screen(worst, age=99.0).splitlines()) <= 24
    lines = screen(dataclasses.replace(worst, is_stopping=False), age=99.0).splitlines()
    assert len(lines) <= 24
    assert "2 overrides: mailshed override list" in lines
    assert max(map(len, lines)) <= 80


def test_a_picture_that_is_not_current_says_so_loudly() -> None:
    assert "NOT CURRENT" not in screen(busy_snapshot(), age=1.9)
    assert "!!! NOT CURRENT: the service made this picture 7s ago" in screen(
        busy_snapshot(), age=7.0
    )


def test_stress_says_what_it_means() -> None:
    assert "STRESS" not in screen(busy_snapshot())
    stressed = dataclasses.replace(busy_snapshot(), is_stressed=True)
    line = "STRESS: 140 of 5 000 sessions are open, so strangers have less time"
    assert line in screen(stressed).splitlines()


def test_a_sick_spool_says_what_that_means() -> None:
    spool = dataclasses.replace(busy_snapshot().spool, is_healthy=False, sick_reason="I/O error")
    text = screen(dataclasses.replace(busy_snapshot(), spool=spool))
    assert "SPOOL SICK: relay-only mode" in text
    assert "I/O error" in text


def with_spool(**changes: Any) -> Snapshot:
    snapshot = busy_snapshot()
    return dataclasses.replace(snapshot, spool=dataclasses.replace(snapshot.spool, **changes))


def test_a_full_spool_says_so_loudly_and_why() -> None:
    assert "SPOOL FULL" not in screen(busy_snapshot())
    reason = "90 MiB of disk are free, 256 MiB are reserved"
    lines = screen(with_spool(full_reason=reason, has_clinical_room=False)).splitlines()
    banner = "!!! SPOOL FULL: mail gets 452 unless it is relayed !!!"
    assert lines[lines.index(banner) + 1] == f"  {reason}"
    clinical = screen(with_spool(full_reason=reason, has_clinical_room=True))
    assert (
        "!!! SPOOL FULL but for clinical mail: other mail gets 452 unless relayed !!!" in clinical
    )
    assert max(map(len, clinical.splitlines())) <= 80


def test_all_that_is_full_is_named() -> None:
    ratios = {"spool_disk": 1.0, "memory": 1.2, "sessions": 0.6, "files": 0.3}
    up = busy_snapshot().backends[:1]
    calm = dataclasses.replace(
        busy_snapshot(), backends=up, shed_level=0, derived_level=0, classes=()
    )
    shed = dataclasses.replace(calm, saturation=ratios)
    level = "NORMAL, nothing is shed   LIMITED BY memory 120%, spool_disk 100%   sessions 60%"
    assert level in screen(shed).splitlines()


def test_a_backend_that_is_away_limits_not_its_slots() -> None:
    """None of them is in use."""
    snapshot = busy_snapshot()
    away = dataclasses.replace(snapshot, backends=snapshot.backends[1:])
    assert "ALL MAIL WAITS   LIMITED BY backend exch02 away" in screen(away).splitlines()


def test_of_several_backends_the_one_that_is_away_is_named() -> None:
    """`backend 100%` would send somebody to look at the wrong server."""
    ratios = {"backend": 1.0, "memory": 0.1}
    calm = dataclasses.replace(
        busy_snapshot(), shed_level=0, derived_level=0, classes=(), saturation=ratios
    )
    assert "mail of exch02 waits   LIMITED BY exch02 away" in screen(calm).splitlines()
    here, away = calm.backends
    helped = dataclasses.replace(calm, backends=(here, dataclasses.replace(away, fallback="x")))
    assert "NORMAL, nothing is shed   LIMITED BY exch02 away" in screen(helped).splitlines()
    full = dataclasses.replace(calm, backends=(here, here))
    assert "NORMAL, nothing is shed   LIMITED BY backend 100%" in screen(full).splitlines()


def test_names_of_different_length_leave_the_columns_in_line() -> None:
    here, _ = busy_snapshot().backends
    both = (dataclasses.replace(here, name="a"), dataclasses.replace(here, name="neighbour"))
    shown = screen(dataclasses.replace(busy_snapshot(), backends=both)).splitlines()
    assert [line.index(" up ") for line in shown if line.startswith("BACKEND")] == [17, 17]


def test_that_nobody_can_log_in_is_said_loudly_and_why() -> None:
    assert "LOG IN" not in screen(busy_snapshot())
    failing = dataclasses.replace(
        busy_snapshot(), logins_failing="auth.sock: Connection refused", logins_failing_seconds=250
    )
    line = "!!! NOBODY CAN LOG IN, for 4m10s: auth.sock: Connection refused"
    assert line in screen(failing).splitlines()
    endless = dataclasses.replace(failing, logins_failing="x" * 300)
    assert max(map(len, screen(endless).splitlines())) <= 80


def test_without_a_width_neither_address_nor_cause_is_cut_or_wrapped() -> None:
    snapshot = busy_snapshot()
    cause = "connect: " + "no route to host " * 20 + "end"
    backend = dataclasses.replace(snapshot.backends[1], target="t" * 200, last_error=cause)
    status = status_document(dataclasses.replace(snapshot, backends=(backend,)), 1000.0)
    lines = render(status, None).splitlines()
    assert any(line.endswith("t" * 200) for line in lines)
    assert f"  next probe in 12 s; {cause}" in lines


@pytest.mark.parametrize("width", [80, 100, 132])
def test_on_a_terminal_a_cause_is_wrapped_once_and_then_cut(width: int) -> None:
    snapshot = busy_snapshot()
    cause = "connect: [Errno 113] no route to host exch02.hospital.example, port 25, from 10.0.0.5"
    backend = dataclasses.replace(snapshot.backends[1], last_error=cause)
    status = status_document(dataclasses.replace(snapshot, backends=(backend,)), 1000.0)
    text = render(status, width)
    assert max(map(len, text.splitlines())) <= width
    assert cause in " ".join(text.split())
    backend = dataclasses.replace(backend, last_error=cause * 9)
    status = status_document(dataclasses.replace(snapshot, backends=(backend,)), 1000.0)
    text = render(status, width)
    assert len([line for line in text.splitlines() if line.endswith("...")]) == 1
    assert max(map(len, text.splitlines())) <= width


def test_mail_of_a_class_that_is_not_configured_has_its_row() -> None:
    snapshot = busy_snapshot()
    lost = dataclasses.replace(snapshot.classes[6], name="lost", is_configured=False)
    lines = screen(dataclasses.replace(snapshot, classes=(*snapshot.classes[:6], lost)))
    row = "lost           380   0.80   9 412  4h10m  grows   2 880     9 412 LATE>4h,7 4xx"
    assert row in lines.splitlines()
    status = status_document(dataclasses.replace(snapshot, classes=(lost,)), 1000.0)
    assert f"{row},not configured" in render(status, 100).splitlines()


def test_a_ledger_that_does_not_balance_is_a_mismatch() -> None:
    """One accepted recipient is nowhere."""
    ledger = {"clinical": {"accepted": 3, "delivered": 2}}
    snapshot = dataclasses.replace(busy_snapshot(), spool=SpoolSnapshot(ledger=ledger))
    assert "MISMATCH of +1" in screen(snapshot)


def test_with_room_everywhere_the_fullest_resource_is_named() -> None:
    snapshot = dataclasses.replace(busy_snapshot(), saturation={"sessions": 0.3, "spool_bytes": 0})
    text = screen(snapshot)
    assert "FULLEST sessions 30%" in text
    assert "LIMITED BY" not in text


def test_an_empty_document_is_no_error() -> None:
    """A newer command line may meet an older service."""
    assert "mailshed ?" in render({})


@given(st.dictionaries(st.sampled_from(["hostname", "version", "config_hash"]), st.text()))
def test_no_text_from_outside_reaches_the_terminal_raw(texts: dict[str, str]) -> None:
    status: dict[str, Any] = {
        **texts,
        "backends": [{"name": "b", "is_up": False, "last_error": "".join(texts.values())}],
    }
    assert re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]*", render(status))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (250, "4m10s"),
        (3600, "1h"),
        (11_760, "3h16m"),
        (86_400, "1d"),
        (12.3 * 86400, "12d7h"),
    ],
)
def test_ages_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert _age(seconds) == text


def row_of(**changes: Any) -> str:
    """The row of a quiet class but for these changes."""
    quiet = ClassSnapshot(name="x", rank=1, objective_seconds=300.0)
    snapshot = dataclasses.replace(
        busy_snapshot(), classes=(dataclasses.replace(quiet, **changes),), spool=SpoolSnapshot()
    )
    return next(line for line in screen(snapshot).splitlines() if line.startswith("x "))


@pytest.mark.parametrize(
    ("queued", "rate", "eta"),
    [
        (0, -1.0, "-"),
        (0, 1.0, "-"),
        (300, -2.0, "2m30s"),
        (300, 2.0, "grows"),
        (300, 0.0, "stands"),
        (10**6, -0.01, ">99d"),
    ],
)
def test_an_empty_queue_is_foretold_only_if_it_shrinks(queued: int, rate: float, eta: str) -> None:
    row = row_of(queued_messages=queued, recent=Recent(queue_rate=rate))
    assert row.split()[5] == eta


def test_mail_that_came_too_late_is_a_note_also_when_it_is_gone() -> None:
    assert row_of(recent=Recent(hour_late=3)).endswith("3 late")
    late = row_of(queued_messages=1, oldest_age_seconds=301.0, recent=Recent(hour_late=3))
    assert late.endswith("LATE>5m")
    assert row_of(recent=Recent(hour_deferred=2)).endswith("2 4xx")
    assert row_of() == row_of().rstrip()


def test_the_level_names_who_is_shed_and_what_limits() -> None:
    snapshot = dataclasses.replace(busy_snapshot(), saturation={"backend_slots": 0.6})
    shed = "SHEDDING telework 1.5/s, bulk 379/s   FULLEST backend_slots 20/20 on exch01"
    for level, derived, said in (
        (0, 0, shed),
        (2, 2, f"LEVEL 2, {shed}"),
        (0, 2, f"LEVEL 0 FORCED, {shed}"),
    ):
        at_level = dataclasses.replace(snapshot, shed_level=level, derived_level=derived)
        assert render(status_document(at_level, 1000.0), 132).splitlines()[1] == said
    observing = dataclasses.replace(snapshot, is_observing=True)
    assert screen(observing).splitlines()[1].startswith("OBSERVING, nothing is acted on   FULLEST")


def test_calm_is_normal() -> None:
    up = busy_snapshot().backends[:1]
    calm = dataclasses.replace(
        busy_snapshot(), backends=up, classes=(), shed_level=0, derived_level=0
    )
    assert screen(calm).splitlines()[1].startswith("NORMAL, nothing is shed   ")
    slow = dataclasses.replace(calm, shed_level=1, derived_level=1)
    assert screen(slow).splitlines()[1].startswith("LEVEL 1, nothing is shed   ")


def test_what_is_there_to_be_used_up_is_not_named_beside_the_backend() -> None:
    ratios = {"backend": 0.4, "backend_slots": 1.0, "live_waiting": 0.9, "waits": 0.2}
    snapshot = dataclasses.replace(busy_snapshot(), saturation=ratios)
    assert screen(snapshot).splitlines()[1].endswith("FULLEST backend 40%")


def test_it_says_when_the_last_backlog_will_be_gone_if_that_is_known_of_all() -> None:
    classes = tuple(
        dataclasses.replace(each, drain_seconds=seconds)
        for each, seconds in zip(busy_snapshot().classes, (0.0, 0.0, 75.0, 7_500.0), strict=False)
    )
    snapshot = dataclasses.replace(busy_snapshot(), classes=classes)
    assert "   EMPTY IN 2h5m   " in screen(snapshot).splitlines()[1]
    unknown = (*classes, dataclasses.replace(classes[0], drain_seconds=None))
    assert "EMPTY" not in screen(dataclasses.replace(snapshot, classes=unknown))


def test_a_level_of_many_classes_stays_one_line() -> None:
    many = tuple(
        dataclasses.replace(busy_snapshot().classes[6], name=f"class-with-a-name-{number}")
        for number in range(8)
    )
    lines = screen(dataclasses.replace(busy_snapshot(), classes=many)).splitlines()
    # The reason is not cut off for a list that the table has, too.
    assert lines[1] == "LEVEL 3 FORCED, SHEDDING 3034/s of 8 classes   LIMITED BY exch02 away"
    assert lines[2].startswith("OVERRIDE ")
    whole = render(
        status_document(dataclasses.replace(busy_snapshot(), classes=many), 1000.0), None
    )
    assert "SHEDDING class-with-a-name-0 379/s, class-with-a-name-1 379/s, " in whole


def test_classes_that_divert_are_named_though_no_mail_of_them_comes() -> None:
    calm = tuple(
        dataclasses.replace(each, recent=Recent(), kept_back=kept)
        for each, kept in zip(
            busy_snapshot().classes, ("", "", "diverted", "override"), strict=False
        )
    )
    snapshot = dataclasses.replace(busy_snapshot(), classes=calm, shed_level=0, derived_level=0)
    shown = screen(snapshot)
    assert shown.splitlines()[1].startswith("DIVERTING personal   ")
    assert "NORMAL" not in shown
    assert notes_of(snapshot, "personal") == "diverted"
    assert notes_of(snapshot, "calendar") == ""
    assert notes_of(snapshot, "clinical") == ""


def backend_line(**changes: Any) -> str:
    backend = dataclasses.replace(busy_snapshot().backends[0], **changes)
    return screen(dataclasses.replace(busy_snapshot(), backends=(backend,)))


def test_a_limit_below_the_ceiling_says_what_it_may_be_and_why_it_is_not() -> None:
    assert "   in flight 20/20   waiting" in backend_line()
    assert "   in flight 3/4 of 20   waiting" in backend_line(in_flight=3, limit=4, ceiling=20)
    adaptive = busy_snapshot().backends[0].learning
    assert adaptive is not None
    learned = dataclasses.replace(adaptive, learned_ceiling=12)
    seen = {"ceiling": 12, "learning": learned}
    assert "   in flight 3/4 of 12   waiting" in backend_line(in_flight=3, limit=4, **seen)
    assert "   in flight 9/12 (it allows 12)   " in backend_line(in_flight=9, limit=12, **seen)
    away = backend_line(in_flight=0, limit=1, is_up=False, **seen)
    assert "   in flight 0/1   waiting" in away


def test_a_refused_reload_says_what_is_in_force() -> None:
    """A file that needs a restart is not faulty."""
    shown = screen(dataclasses.replace(busy_snapshot(), reload_ok=False))
    assert "!!! Reload REFUSED: the old configuration is in force, see the log !!!" in shown


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (None, ""),
        (30.1, ""),
        (29.5, "The certificate that clients are shown ends in 29d12h."),
        (0.5, "The certificate that clients are shown ends in 12h."),
        (-1.5, "!!! The CERTIFICATE has ended 1d12h ago: clients refuse it !!!"),
    ],
)
def test_a_certificate_that_ends_soon_is_named(days: float | None, said: str) -> None:
    snapshot = busy_snapshot()
    ends = None if days is None else snapshot.wall + days * 86400
    shown = screen(dataclasses.replace(snapshot, certificate_ends_wall=ends))
    assert [line for line in shown.splitlines() if "certificate" in line.lower()] == [said] * bool(
        said
    )


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0, "0"), (0.054, "0.05"), (3.14, "3.1"), (42.0, "42.0"), (412.4, "412"), (12_345.0, "12345")],
)
def test_rates_have_the_digits_that_are_worth_reading(rate: float, text: str) -> None:
    assert _rate(rate) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (40 * 1024**3, "40 GiB")],
)
def test_sizes_are_binary(octets: int, text: str) -> None:
    assert _size(octets) == text


def test_large_counts_keep_their_column() -> None:
    assert [_count(n) for n in (0, 999, 46057, 999_999, 12_345_678)] == [
        *("0", "999", "46 057", "999 999", "12.35M")
    ]


def notes_of(snapshot: Snapshot, name: str, width: int | None = 200) -> str:
    page = render(status_document(snapshot, snapshot.made_at), width)
    (line,) = [each for each in page.splitlines() if each.startswith(name)]
    return line[65:].strip()


def test_a_surge_is_a_note_of_its_class_behind_what_is_late_now() -> None:
    snapshot = busy_snapshot()
    assert notes_of(snapshot, "telework") == "2.1x usual,4 late,diverted"
    assert notes_of(snapshot, "telework", 80) == "2.1x usual"

    late = dataclasses.replace(snapshot.classes[5], oldest_age_seconds=99_999.0)
    classes = (*snapshot.classes[:5], late, *snapshot.classes[6:])
    assert notes_of(dataclasses.replace(snapshot, classes=classes), "telework") == (
        "LATE>15m,2.1x usual,diverted"
    )


def test_without_an_alarm_the_ratio_is_no_note() -> None:
    snapshot = busy_snapshot()
    calm = tuple(dataclasses.replace(each, is_alarm=False) for each in snapshot.surges)
    assert notes_of(dataclasses.replace(snapshot, surges=calm), "telework") == "4 late,diverted"
    of_network = tuple(each for each in snapshot.surges if each.network)
    assert notes_of(dataclasses.replace(snapshot, surges=of_network), "telework") == (
        "4 late,diverted"
    )
