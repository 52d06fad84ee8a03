"""The rows of the classes, and their notes."""

import dataclasses
from typing import Any

import pytest

from mailshed.admin.screen.page import render
from mailshed.admin.status import status_document
from mailshed.metrics.history import Recent
from mailshed.metrics.snapshot import ClassSnapshot, SpoolSnapshot
from tests.support.snapshots import busy_snapshot, notes_of, screen


def row_of(**changes: Any) -> str:
    """The row of a quiet class but for these changes."""
    quiet = ClassSnapshot(name="x", rank=1, objective_seconds=300.0)
    snapshot = dataclasses.replace(
        busy_snapshot(), classes=(dataclasses.replace(quiet, **changes),), spool=SpoolSnapshot()
    )
    return next(line for line in screen(snapshot).splitlines() if line.startswith("x "))


def test_mail_of_a_class_that_is_not_configured_has_its_row() -> None:
    snapshot = busy_snapshot()
    lost = dataclasses.replace(snapshot.classes[6], name="lost", is_configured=False)
    lines = screen(dataclasses.replace(snapshot, classes=(*snapshot.classes[:6], lost)))
    row = "lost           380   0.80   9 412  4h10m  grows   2 880     9 412 LATE>4h,7 4xx"
    assert row in lines.splitlines()
    status = status_document(dataclasses.replace(snapshot, classes=(lost,)), 1000.0)
    assert f"{row},not configured" in render(status, 100).splitlines()


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
