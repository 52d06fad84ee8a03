"""How each backend stands for itself, and that the whole is the worst and the sum of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from mailshed.backend_picture import (
    BackendPainter,
    View,
    bracketed,
    fullest_level,
    own_loads,
    worst,
)
from mailshed.control.breaker import BreakerState
from mailshed.control.fallback import FallbackRule
from mailshed.control.saturation import Level
from mailshed.metrics import ClassSnapshot
from mailshed.spool.store import SpoolTotals
from mailshed.work import Work
from tests.support.builders import CLASSES, PERSONAL, WALL, spool_record
from tests.support.middle import Middle
from tests.support.virtual_time import in_virtual_time


@pytest.fixture
def middle(tmp_path: Path) -> Middle:
    help_out = {"north": FallbackRule(fallback="fake", after=60.0)}
    return Middle(tmp_path, others={"north": ["north.example"]}, fallbacks=help_out)


def painter(middle: Middle) -> BackendPainter:
    return BackendPainter(destinations=middle.destinations, limit_picture=lambda _: None)


def be_away(middle: Middle) -> None:
    """The north is away for long."""
    middle.destinations.own("north").gate.station.breaker._state = BreakerState.OPEN
    middle.destinations.tick(0.0)


async def totals_of(middle: Middle, north: int = 3, fake: int = 1) -> SpoolTotals:
    for backend, count in (("north", north), ("fake", fake), ("gone", 1)):
        for _ in range(count):
            await middle.keep(spool_record(backend=backend))
    return await middle.spool.totals()


def queued(view: View) -> int:
    return sum(part.messages for part in view.totals.by_class)


@in_virtual_time
async def test_a_view_has_the_mail_that_its_backend_takes_now(middle: Middle) -> None:
    totals = await totals_of(middle)
    views = painter(middle).views(totals)
    assert [(view.destination.name, queued(view)) for view in views] == [("fake", 1), ("north", 3)]
    be_away(middle)
    middle.destinations.tick(60.0)
    views = painter(middle).views(totals)
    assert [(view.destination.name, queued(view)) for view in views] == [("fake", 4), ("north", 0)]


@in_virtual_time
async def test_with_one_backend_the_view_is_the_whole_spool(tmp_path: Path) -> None:
    middle = Middle(tmp_path)
    totals = await totals_of(middle)
    ((destination, seen),) = painter(middle).views(totals)
    assert destination is middle.destinations.default
    assert seen is totals


@in_virtual_time
async def test_each_snapshot_has_its_own_mail_and_who_takes_it(middle: Middle) -> None:
    totals = await totals_of(middle)
    be_away(middle)
    middle.destinations.tick(60.0)
    pictures = painter(middle)
    views = pictures.views(totals)
    loads = own_loads(views, CLASSES, 90.0, WALL + 90.0)
    here, north = pictures.snapshots(
        views, totals, {"sessions": 0.5}, loads, now=90.0, wall=WALL + 90.0
    )
    assert (here.name, here.queued_messages, here.fallback) == ("fake", 2, "")
    assert (north.queued_messages, north.fallback) == (3, "fake")
    assert (north.away_seconds, north.fallback_since_wall) == (90.0, WALL + 60.0)
    assert (north.is_up, here.is_up) == (False, True)
    assert north.saturation == 1.0
    assert here.saturation < 1.0, "one that is away puts no pressure on another"


@in_virtual_time
async def test_old_mail_of_one_that_is_away_presses_nobody_else(middle: Middle) -> None:
    for _ in range(2):
        await middle.keep(spool_record(backend="north", wall=WALL - 9000))
    await middle.keep(spool_record(backend="fake"))
    views = painter(middle).views(await middle.spool.totals())
    here, north = own_loads(views, CLASSES, 0.0, WALL)
    assert (here["spool_age"], north["spool_age"]) == (0.0, 1.0)
    assert worst([here, north])["spool_age"] == 1.0


@in_virtual_time
async def test_a_class_has_the_slots_of_all_and_the_worst_forecast(middle: Middle) -> None:
    middle.gate.try_acquire(Work(PERSONAL))
    middle.destinations.own("north").gate.try_acquire(Work(PERSONAL))
    empty = ClassSnapshot(name="personal", rank=1, objective_seconds=120.0)
    pictures = painter(middle)
    shown = pictures.with_slots(empty, PERSONAL)
    assert (shown.in_flight, shown.kept_back) == (2, "")
    assert shown.in_flight_limit == 2 * middle.gate.open_to(PERSONAL)
    be_away(middle)
    views = pictures.views(await totals_of(middle))
    (loaded,) = pictures.with_load([replace(empty)], views, 0.0)
    assert loaded.drain_seconds is None, "who is away drains nothing"


def test_of_levels_the_fullest_counts() -> None:
    assert fullest_level([Level(1, 10), Level(3, 4), Level(6, 8)]) == Level(3, 4)
    assert worst([{"a": 0.5, "b": 0.1}, {"a": 0.2, "c": 0.0}]) == {"a": 0.5, "b": 0.1, "c": 0.0}


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("::1:25", "[::1]:25"),
        ("2001:db8::25:2525", "[2001:db8::25]:2525"),
        ("[::1]:25", "[::1]:25"),
        ("10.0.0.9:25", "10.0.0.9:25"),
        ("exch:25", "exch:25"),
        ("Maildir /srv/a:b", "Maildir /srv/a:b"),
    ],
)
def test_an_ipv6_address_stands_in_brackets(target: str, shown: str) -> None:
    assert bracketed(target) == shown
