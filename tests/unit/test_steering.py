"""Time that passes for the station, and what is said about it."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from mailshed.control.fallback import FallbackRule
from mailshed.control.overrides import Override, OverrideKind, Overrides
from mailshed.maillog import MailLog
from mailshed.metrics import BackendSnapshot, SnapshotHolder
from mailshed.relay.destination import Destination
from mailshed.steering import Steering
from tests.support.builders import CLASSES, WALL
from tests.support.middle import LogLines, Middle
from tests.support.snapshots import busy_snapshot
from tests.support.virtual_time import in_virtual_time


class Bench:
    """A steering of a gate, and time that passes in ticks."""

    def __init__(self, folder: Path) -> None:
        self.middle = Middle(folder)
        self.gate = self.middle.gate
        self.shedding = self.gate.station.shedding
        self.shedding.classes = tuple(
            dataclasses.replace(each, wait_target=0.0) if each.rank else each for each in CLASSES
        )
        self.holder = SnapshotHolder()
        self.log = LogLines()
        self.has_due_mail = False
        self.steering = Steering(
            destinations=self.middle.destinations,
            holder=self.holder,
            maillog=MailLog(self.log, "json", "debug", wall=lambda: WALL),
            clock=self.middle.clock,
            has_due_mail=lambda _: self.has_due_mail,
        )

    def saturate(self, saturation: float) -> None:
        snapshot = dataclasses.replace(busy_snapshot(), saturation={"backend": saturation})
        self.holder.swap(snapshot)

    async def tick(self, seconds: float, *, waits: float | None = None) -> None:
        """Pass time; `waits`: telework has waited so long for its slots."""
        for _ in range(round(seconds / 0.25)):
            await asyncio.sleep(0.25)
            if waits is not None:
                now = self.middle.clock.monotonic()
                self.shedding.waits.on_served(self.shedding.classes[2], waits, now)
            self.steering.tick()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@in_virtual_time
async def test_in_calm_there_is_nothing_to_say(bench: Bench) -> None:
    await bench.tick(5.0)
    bench.saturate(0.2)
    await bench.tick(60.0, waits=0.0)
    assert bench.log.lines == []
    assert bench.shedding.pressure.value == pytest.approx(0.2)


@in_virtual_time
async def test_the_level_is_told_when_it_changes(bench: Bench) -> None:
    bench.saturate(1.0)
    await bench.tick(30.0)
    bench.saturate(0.0)
    await bench.tick(30.0)
    levels = [(line["before"], line["level"], line["means"]) for line in bench.log.of("shed_level")]
    assert levels == [
        *((0, 1, "slow_bulk"), (1, 2, "bulk_waits")),
        *((2, 1, "slow_bulk"), (1, 0, "normal")),
    ]


@in_virtual_time
async def test_a_class_that_diverts_is_told_of_at_both_ends(bench: Bench) -> None:
    await bench.tick(11.0, waits=2.0)
    assert bench.gate.state(bench.shedding.classes[2]).kept_back is not None
    line = bench.log.one("divert_begun")
    assert (line["class"], line["cause"]) == ("telework", "waits")
    await bench.tick(60.0)
    assert bench.log.one("divert_ended")["class"] == "telework"
    assert bench.log.events == ["divert_begun", "divert_ended"]


@in_virtual_time
async def test_while_observing_nothing_is_told(bench: Bench) -> None:
    bench.gate.is_observing = True
    bench.saturate(1.0)
    await bench.tick(30.0, waits=2.0)
    assert bench.log.lines == []
    assert bench.shedding.divert.diverting == {"telework"}, "it is found all the same"


@in_virtual_time
async def test_a_level_that_an_operator_forces_is_the_one_in_force(bench: Bench) -> None:
    forced = Override(
        number=1,
        kind=OverrideKind.LEVEL,
        value=3,
        user="eve",
        reason="a test",
        since_wall=WALL,
        seconds=60.0,
    )
    bench.gate.set_overrides(Overrides([forced]))
    await bench.tick(1.0)
    assert bench.log.one("shed_level")["level"] == 3


@in_virtual_time
async def test_the_limit_hears_of_spooled_mail(bench: Bench) -> None:
    heard: list[bool] = []

    def tick(now: float, *, has_spooled: bool) -> None:
        heard.append(has_spooled)

    bench.gate.station.tick = tick  # type: ignore[method-assign]
    await bench.tick(0.25)
    bench.has_due_mail = True
    await bench.tick(0.25)
    assert heard == [False, True]


class Pair:
    """A steering of two gates, of which one has the other as its fallback."""

    def __init__(self, folder: Path) -> None:
        self.middle = Middle(
            folder,
            others={"north": ["north.example"]},
            fallbacks={"north": FallbackRule(fallback="fake", after=60.0)},
        )
        self.gates = {each.name: each.gate for each in self.middle.destinations}
        self.holder = SnapshotHolder()
        self.log = LogLines()
        self.moved: list[str] = []
        self.asked: list[str] = []
        self.steering = Steering(
            destinations=self.middle.destinations,
            holder=self.holder,
            maillog=MailLog(self.log, "json", "debug", wall=lambda: WALL),
            clock=self.middle.clock,
            has_due_mail=self._has_due_mail,
            on_fallback=self.moved.append,
        )

    def _has_due_mail(self, destination: Destination) -> bool:
        self.asked.append(destination.name)
        return False

    async def tick(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.25)):
            await asyncio.sleep(0.25)
            self.steering.tick()


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@in_virtual_time
async def test_each_gate_is_pressed_by_itself_and_the_worst_level_is_told(pair: Pair) -> None:
    both = [
        BackendSnapshot(name="fake", target="", is_up=True, saturation=0.1),
        BackendSnapshot(name="north", target="", is_up=True, saturation=1.0),
    ]
    pair.holder.swap(
        dataclasses.replace(busy_snapshot(), backends=tuple(both), saturation={"backend": 1.0})
    )
    await pair.tick(30.0)
    pressures = {name: gate.station.shedding.pressure.value for name, gate in pair.gates.items()}
    assert pressures["fake"] == pytest.approx(0.1, abs=0.01)
    assert pressures["north"] == pytest.approx(1.0, abs=0.05)
    assert pair.gates["fake"].station.shedding.level == 0
    assert [line["level"] for line in pair.log.of("shed_level")] == [1, 2]
    assert set(pair.asked) == {"fake", "north"}


@in_virtual_time
async def test_a_class_that_diverts_is_told_of_with_its_backend(pair: Pair) -> None:
    station = pair.gates["north"].station
    station.shedding.classes = tuple(
        dataclasses.replace(each, wait_target=0.0) if each.rank else each for each in CLASSES
    )
    for _ in range(44):
        await asyncio.sleep(0.25)
        now = pair.middle.clock.monotonic()
        station.shedding.waits.on_served(station.shedding.classes[2], 2.0, now)
        pair.steering.tick()
    line = pair.log.one("divert_begun")
    assert (line["class"], line["backend"]) == ("telework", "north")


@in_virtual_time
async def test_a_fallback_is_told_at_both_ends_and_the_drain_hears_of_it(pair: Pair) -> None:
    breaker = pair.gates["north"].station.breaker
    breaker._open(0.0, 0.5)
    await pair.tick(61.0)
    began = pair.log.one("fallback_began")
    assert (began["backend"], began["fallback"], began["away"]) == ("north", "fake", 60.0)
    assert pair.moved == ["north"]
    breaker._half_open(pair.middle.clock.monotonic())
    await pair.tick(10.0)
    assert pair.log.of("fallback_ended") == []
    await pair.tick(60.0)
    ended = pair.log.one("fallback_ended")
    assert (ended["cause"], ended["fallback"]) == ("back", "fake")
    assert pair.moved == ["north", "north"]


@in_virtual_time
async def test_a_backend_whose_mail_another_takes_raises_no_level(pair: Pair) -> None:
    """Its mail is delivered: at three in the morning the level must not say that most waits."""
    away = BackendSnapshot(name="north", target="", is_up=False, saturation=1.0)
    here = BackendSnapshot(name="fake", target="", is_up=True, saturation=0.1)
    pair.holder.swap(dataclasses.replace(busy_snapshot(), backends=(here, away)))
    pair.gates["north"].station.breaker._open(0.0, 0.5)
    await pair.tick(59.0)
    assert pair.log.of("shed_level")[-1]["level"] == 4
    await pair.tick(60.0)
    assert pair.log.one("fallback_began")["fallback"] == "fake"
    assert pair.log.of("shed_level")[-1]["level"] == 0


@in_virtual_time
async def test_fallbacks_work_while_observing_too(pair: Pair) -> None:
    for gate in pair.gates.values():
        gate.is_observing = True
    pair.gates["north"].station.breaker._open(0.0, 0.5)
    await pair.tick(61.0)
    pair.gates["fake"].station.breaker._open(pair.middle.clock.monotonic(), 0.5)
    await pair.tick(1.0)
    assert pair.log.one("fallback_ended")["cause"] == "fallback_away"
