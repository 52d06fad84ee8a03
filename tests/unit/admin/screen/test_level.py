"""The line that is read first."""

import dataclasses

from mailshed.admin.screen.page import render
from mailshed.admin.status import status_document
from mailshed.metrics.history import Recent
from tests.support.snapshots import busy_snapshot, notes_of, screen


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


def test_with_room_everywhere_the_fullest_resource_is_named() -> None:
    snapshot = dataclasses.replace(busy_snapshot(), saturation={"sessions": 0.3, "spool_bytes": 0})
    text = screen(snapshot)
    assert "FULLEST sessions 30%" in text
    assert "LIMITED BY" not in text


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
