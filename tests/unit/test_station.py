"""The station alone, without an event loop: who starts, who waits, who is sent away."""

import pytest

from mailshed.admission.room import ELEPHANT_OCTETS
from mailshed.control.limit import FixedLimit, Flight, LimitChange, SlotEnding
from mailshed.mail.delivery import StageTimes
from mailshed.station import Slot, Station, Work
from mailshed.terms import TrafficClass
from tests.support.builders import BULK, CLINICAL, PERSONAL, TELEWORK

LIMIT = 10
NO_TIMES = StageTimes()


class Recorder(FixedLimit):
    """A limit that remembers what it was told, and changes when a test says so."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.started: list[tuple[float, Flight]] = []
        self.ended: list[tuple[float, Flight, SlotEnding, StageTimes]] = []
        self.backlogged: list[bool] = []

    @property
    def ceiling(self) -> int:
        """Two more than there are, as an estimate and a fact differ."""
        return self._slots + 2

    def set(self, slots: int) -> None:
        self._slots = slots

    def on_start(self, now: float, flight: Flight) -> None:
        self.started.append((now, flight))

    def on_end(self, now: float, flight: Flight, ending: SlotEnding, times: StageTimes) -> None:
        self.ended.append((now, flight, ending, times))

    def tick(self, now: float, *, is_backlogged: bool) -> LimitChange | None:
        self.backlogged.append(is_backlogged)
        return LimitChange(before=1, after=2, cause="test")


class Bench:
    """A station, and what a test does with it."""

    def __init__(self, slots: int = LIMIT) -> None:
        self.limit = Recorder(slots)
        self.station: Station[str] = Station(self.limit)
        self.now = 100.0

    def start(self, made: TrafficClass = PERSONAL, size: int = 0) -> Slot | None:
        return self.station.try_start(Work(traffic_class=made, size=size), self.now)

    def must_start(self, made: TrafficClass = PERSONAL) -> Slot:
        slot = self.start(made)
        assert slot is not None
        return slot

    def fill(self) -> list[Slot]:
        """Let clinical mail have every slot, the overdraft aside."""
        slots = []
        while self.station.in_flight < self.station.limit(self.now):
            slots.append(self.must_start(CLINICAL))
        return slots

    def wait(self, item: str, made: TrafficClass = PERSONAL, *, is_live: bool = True) -> None:
        self.station.offer(item, Work(traffic_class=made, is_live=is_live), self.now)

    def end(self, slot: Slot, ending: SlotEnding = SlotEnding.COMPLETED) -> None:
        self.station.release(slot, ending, NO_TIMES, self.now, 0.5)

    def served(self) -> list[str]:
        """Whoever may start now, in their order."""
        items = []
        while found := self.station.next(self.now, self.now):
            items.append(found[0])
        return items


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_limit_is_told_of_each_start_and_end(bench: Bench) -> None:
    slot = bench.station.try_start(Work(traffic_class=CLINICAL, size=7000, recipients=3), bench.now)
    assert slot is not None
    assert bench.limit.started == [(100.0, slot.flight)]
    flight = slot.flight
    assert (flight.size, flight.recipients, flight.is_first) == (7000, 3, True)
    assert (flight.started_at, flight.in_flight) == (100.0, 1)
    assert bench.must_start(PERSONAL).flight.is_first is False
    times = StageTimes(service=0.25)
    bench.now = 101.0
    bench.station.release(slot, SlotEnding.BUSY, times, bench.now, 0.0)
    assert bench.limit.ended == [(101.0, flight, SlotEnding.BUSY, times)]
    assert bench.station.in_flight == 1


def test_the_limit_hears_of_unused_slots_too(bench: Bench) -> None:
    """It counts what is in flight, so it must not miss that one is not any more."""
    bench.end(bench.must_start(), SlotEnding.UNUSED)
    assert [ending for _, _, ending, _ in bench.limit.ended] == [SlotEnding.UNUSED]


def test_those_who_wait_are_served_when_slots_come_back(bench: Bench) -> None:
    slots = bench.fill()
    bench.wait("bulk", BULK)
    bench.wait("personal", PERSONAL)
    bench.wait("clinical", CLINICAL)
    assert bench.station.waiting == 3
    assert bench.served() == ["clinical"], "from the overdraft"
    for slot in slots[:2]:
        bench.end(slot)
    assert bench.served() == ["personal"], "bulk stops at 6 of 10"
    for slot in slots[2:]:
        bench.end(slot)
    assert bench.served() == ["bulk"]
    assert (bench.station.waiting, bench.station.in_flight) == (0, 3)


def test_a_limit_that_rises_lets_more_start(bench: Bench) -> None:
    bench.fill()
    bench.wait("one")
    assert bench.served() == []
    bench.limit.set(LIMIT + 1)
    assert bench.served() == ["one"]


def test_whoever_withdraws_is_not_served(bench: Bench) -> None:
    slots = bench.fill()
    bench.wait("one")
    bench.wait("two")
    bench.station.withdraw("one")
    bench.station.withdraw("one")
    bench.end(slots[0])
    assert (bench.served(), bench.station.waiting) == (["two"], 0)


def test_only_live_mail_below_rank_0_counts_as_waiting_live(bench: Bench) -> None:
    bench.fill()
    bench.wait("live", TELEWORK)
    bench.wait("first", CLINICAL)
    bench.wait("spooled", TELEWORK, is_live=False)
    assert (bench.station.live_waiting, bench.station.waiting) == (1, 3)
    bench.station.withdraw("live")
    assert bench.station.live_waiting == 0


def test_live_mail_is_sent_away_from_a_backend_that_is_away(bench: Bench) -> None:
    slots = bench.fill()
    bench.wait("live")
    bench.wait("spooled", is_live=False)
    assert bench.station.send_away(bench.now) == []
    for slot in slots:
        bench.end(slot, SlotEnding.REFUSED)
    assert bench.station.breaker.is_open
    assert bench.station.send_away(bench.now) == ["live"]
    assert (bench.station.live_waiting, bench.station.waiting) == (0, 1)
    wake_at = bench.station.wake_at(bench.now)
    assert wake_at is not None
    assert wake_at > bench.now
    assert bench.served() == []
    bench.now = wake_at
    assert bench.served() == ["spooled"], "as the probe"


def test_nobody_is_to_be_woken_where_nobody_waits(bench: Bench) -> None:
    for slot in bench.fill():
        bench.end(slot, SlotEnding.REFUSED)
    assert bench.station.wake_at(bench.now) is None


def test_time_passes_for_the_limit_with_word_of_a_backlog(bench: Bench) -> None:
    change = bench.station.tick(bench.now, has_spooled=False)
    assert change is not None
    assert change.after == 2
    bench.station.tick(bench.now, has_spooled=True)
    bench.fill()
    bench.wait("one")
    bench.station.tick(bench.now, has_spooled=False)
    assert bench.limit.backlogged == [False, True, True]


def test_a_closed_station_hands_nothing_out(bench: Bench) -> None:
    slots = bench.fill()
    bench.wait("one")
    assert bench.station.close() == ["one"]
    bench.end(slots[0])
    assert bench.start(CLINICAL) is None
    assert bench.served() == []
    assert bench.station.state(CLINICAL, bench.now).is_away


def test_what_a_message_would_meet(bench: Bench) -> None:
    assert bench.station.state(BULK, bench.now).may_start
    bench.fill()
    state = bench.station.state(PERSONAL, bench.now)
    assert (state.may_start, state.is_away, state.is_pressed) == (False, False, True)
    assert state.has_place_to_wait
    for number in range(5):
        bench.wait(f"item {number}", PERSONAL)
    assert not bench.station.state(PERSONAL, bench.now).has_place_to_wait


def test_elephants_hold_a_quarter_of_the_slots(bench: Bench) -> None:
    large = ELEPHANT_OCTETS + 1
    assert [bench.start(size=large) is not None for _ in range(3)] == [True, True, False]
    assert bench.start(CLINICAL, large) is not None
    assert bench.start() is not None


def test_while_observing_classes_are_not_told_apart(bench: Bench) -> None:
    bench.station.is_observing = True
    most = LIMIT + 2
    assert [bench.start(BULK) is not None for _ in range(most + 1)] == [True] * most + [False]
    assert bench.start(CLINICAL) is None
    assert not bench.station.state(BULK, bench.now).may_start, "if we were not observing"


def test_a_slot_comes_back_once(bench: Bench) -> None:
    slot = bench.must_start()
    bench.end(slot)
    with pytest.raises(AssertionError):
        bench.end(slot)
