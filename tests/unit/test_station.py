"""The station alone, without an event loop: who starts, who waits, who is sent away."""

import pytest

from mailshed.admission.room import ELEPHANT_OCTETS
from mailshed.control.breaker import BreakerState
from mailshed.control.limit import FixedLimit, Flight, LimitChange, Reading, SlotEnding
from mailshed.control.overrides import Wish
from mailshed.mail.delivery import StageTimes
from mailshed.station import Station
from mailshed.terms import Reason, TrafficClass
from mailshed.work import Slot, Work
from tests.support.builders import BULK, CLASSES, CLINICAL, PERSONAL, TELEWORK, traffic_class
from tests.support.overrides import hold, in_force, limit, release

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
        self.station.offer(item, Work(traffic_class=made, is_live=is_live), self.now, self.now)

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


# A backend that is away, and the way back. More of it is in relay/test_gate.py.


def away(bench: Bench) -> None:
    """Let the backend be away, and a probe be due."""
    while not bench.station.breaker.is_open:
        bench.end(bench.must_start(CLINICAL), SlotEnding.REFUSED)
    bench.now += bench.station.breaker.next_probe(bench.now)


def keep(
    bench: Bench, item: str, made: TrafficClass = PERSONAL, size: int = 0, arrived: float = 0.0
) -> None:
    work = Work(
        traffic_class=made,
        size=size,
        sender=item.encode(),
        arrived_wall=arrived,
        is_live=False,
    )
    bench.station.offer(item, work, bench.now, bench.now)


def next_slot(bench: Bench) -> tuple[str, Slot]:
    found = bench.station.next(bench.now, bench.now)
    assert found is not None
    return found


def test_the_probe_is_the_oldest_clinical_message_or_else_the_smallest(bench: Bench) -> None:
    away(bench)
    keep(bench, "large", PERSONAL, size=9000, arrived=1.0)
    keep(bench, "small", BULK, size=100, arrived=9.0)
    keep(bench, "clinical", CLINICAL, size=50_000, arrived=8.0)
    keep(bench, "first", CLINICAL, size=90_000, arrived=7.0)
    order = []
    for _ in range(4):
        item, slot = next_slot(bench)
        order.append(item)
        assert bench.served() == [], "one at a time"
        bench.end(slot, SlotEnding.STALLED)
        bench.now += bench.station.breaker.next_probe(bench.now)
    assert order == ["first", "clinical", "small", "large"]


def test_the_same_message_does_not_probe_twice_in_a_row(bench: Bench) -> None:
    """It may be the one that the backend stalls at."""
    away(bench)
    keep(bench, "poison", CLINICAL)
    keep(bench, "other", BULK, size=9000)
    tried = []
    for _ in range(4):
        item, slot = next_slot(bench)
        tried.append(item)
        bench.end(slot, SlotEnding.STALLED)
        made = CLINICAL if item == "poison" else BULK
        keep(bench, item, made, size=0 if item == "poison" else 9000)
        bench.now += bench.station.breaker.next_probe(bench.now)
    assert tried == ["poison", "other"] * 2


def test_the_only_message_there_is_may_probe_again(bench: Bench) -> None:
    away(bench)
    for _ in range(2):
        keep(bench, "only")
        item, slot = next_slot(bench)
        assert item == "only"
        bench.end(slot, SlotEnding.STALLED)
        bench.now += bench.station.breaker.next_probe(bench.now)


def test_a_probe_needs_no_slot_beside_those_that_hang(bench: Bench) -> None:
    bench.fill()
    away(bench)
    bench.limit.set(2)
    assert bench.station.in_flight == LIMIT
    keep(bench, "one")
    assert bench.served() == [], "the ceiling holds"
    bench.limit.set(LIMIT)
    assert bench.served() == ["one"]


def test_while_mail_waits_on_the_way_back_it_is_looked_at_each_second(bench: Bench) -> None:
    away(bench)
    for _ in range(2):
        bench.end(bench.must_start())
    assert bench.station.limit(bench.now) == 2
    assert bench.station.wake_at(bench.now) is None
    slots = [bench.must_start(), bench.must_start()]
    keep(bench, "one")
    assert bench.served() == []
    assert bench.station.wake_at(bench.now) == bench.now + 1.0
    served: list[str] = []
    for _ in range(60):
        bench.now += 1.0
        served += bench.served()
    assert served == ["one"], "without a tick, and though nothing has ended"
    assert bench.station.wake_at(bench.now) is None
    assert len(slots) < bench.station.limit(bench.now)


def test_on_the_way_back_spooled_mail_of_low_rank_comes_last(bench: Bench) -> None:
    away(bench)
    for _ in range(2):
        bench.end(bench.must_start())
    slots = bench.fill()
    keep(bench, "old bulk", BULK, arrived=-9999.0)
    for number in range(3):
        keep(bench, f"personal {number}")
    bench.wait("bulk", BULK)
    for slot in slots:
        bench.end(slot)
    order = []
    while bench.station.waiting:
        item, slot = next_slot(bench)
        order.append(item)
        bench.end(slot)
    assert order[-1] == "old bulk"
    assert sorted(order) == ["bulk", "old bulk", "personal 0", "personal 1", "personal 2"]


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


CODEL = traffic_class("codel", 1, wait_target=0.5)
LATER = traffic_class("later", 4)


class Measured(Recorder):
    """A limit that says what the backend can do, and takes a second for every message."""

    def expected(self, size: int, recipients: int) -> float | None:
        return 1.0

    def on_crowded(self, now: float, connections: int) -> None:
        self.set(connections)

    def reading(self, now: float) -> Reading:
        return Reading(capacity=8.0, queue=0.0, queue_low=3.0, queue_high=6.0, windows=int(now))


def test_a_limit_that_learns_is_told_that_the_backend_is_crowded(bench: Bench) -> None:
    bench.station.note_crowded(3, bench.now)
    assert bench.station.limit(bench.now) == LIMIT, "this one does not learn"
    station: Station[str] = Station(Measured(LIMIT))
    station.note_crowded(3, bench.now)
    assert station.limit(bench.now) == 3


def pass_time(bench: Bench, seconds: float) -> list[str]:
    """Ticks, and who is sent away at them."""
    gone = []
    for _ in range(round(seconds / 0.25)):
        bench.now += 0.25
        bench.station.tick(bench.now, has_spooled=False)
        gone += bench.station.send_away(bench.now)
    return gone


def test_who_waits_too_long_in_a_standing_queue_is_sent_away_early(bench: Bench) -> None:
    bench.station.shedding.classes = (CLINICAL, CODEL, PERSONAL)
    bench.fill()
    pass_time(bench, 0.25)
    for number in range(4):
        bench.wait(f"codel {number}", CODEL)
    bench.wait("personal", PERSONAL)
    bench.wait("spooled", CODEL, is_live=False)
    gone = pass_time(bench, 4.5)
    assert gone == []
    gone = pass_time(bench, 1.0)
    assert gone == [f"codel {number}" for number in range(4)]
    assert bench.station.waiting == 2
    bench.wait("newcomer", CODEL)
    assert pass_time(bench, 1.0) == []
    assert pass_time(bench, 0.25) == ["newcomer"], "two targets"


def test_while_observing_nobody_is_sent_away_early(bench: Bench) -> None:
    bench.station.shedding.classes = (CODEL,)
    bench.station.is_observing = True
    for _ in range(LIMIT + 2):
        bench.must_start(BULK)
    for number in range(4):
        bench.wait(f"codel {number}", CODEL)
    assert pass_time(bench, 12.0) == []


def test_what_is_served_at_once_shows_that_there_is_no_queue(bench: Bench) -> None:
    bench.station.shedding.classes = (CLINICAL, CODEL)
    slots = bench.fill()
    pass_time(bench, 0.25)
    for number in range(4):
        bench.wait(f"codel {number}", CODEL)
    pass_time(bench, 4.0)
    for slot in slots:
        bench.end(slot)
    assert len(bench.served()) == 4
    assert bench.start(CODEL) is not None
    pass_time(bench, 2.0)
    assert bench.station.shedding.waits.overloaded == frozenset()


def flood(bench: Bench, made: TrafficClass, a_second: int, seconds: int) -> None:
    """So much work comes in."""
    for _ in range(seconds):
        for _ in range(a_second):
            bench.station.note_arrival(Work(traffic_class=made), bench.now)
        pass_time(bench, 1.0)


def test_a_class_that_does_not_fit_diverts_and_the_state_says_so() -> None:
    bench = Bench()
    bench.limit = Measured(LIMIT)
    bench.station = Station(bench.limit)
    bench.station.shedding.classes = CLASSES
    bench.fill()
    flood(bench, BULK, 4, 100)
    load = bench.station.shedding.loads(bench.now)["bulk"]
    assert load.sigma == pytest.approx(4 / 8, rel=0.1)
    assert bench.station.state(BULK, bench.now).kept_back is None
    flood(bench, BULK, 16, 60)
    assert bench.station.state(BULK, bench.now).kept_back is Reason.DIVERTED
    assert bench.station.state(PERSONAL, bench.now).kept_back is None
    assert [each.traffic_class for each in bench.station.diverted] == []


def test_an_unmeasured_backend_has_no_offered_work(bench: Bench) -> None:
    bench.station.shedding.classes = CLASSES
    bench.station.note_arrival(Work(traffic_class=BULK), bench.now)
    assert bench.station.shedding.loads(bench.now)["bulk"].offered == 0.0
    assert bench.station.reading(bench.now) == Reading()
    assert bench.station.expected(1, 1) is None


def start_spooled(bench: Bench, made: TrafficClass) -> bool:
    return bench.station.try_start(Work(traffic_class=made, is_live=False), bench.now) is not None


WIDE = traffic_class("wide", 2)
NARROW = traffic_class("narrow", 3, threshold=0.5)


def test_beyond_its_share_spooled_mail_comes_after_live_mail_that_may_start(bench: Bench) -> None:
    """Though it is older, and its class has the greater weight."""
    assert start_spooled(bench, WIDE)
    slots = bench.fill()
    heavy = traffic_class("heavy", 2, weight=100.0)
    bench.wait("spooled", heavy, is_live=False)
    bench.wait("live", LATER)
    bench.wait("live too", LATER)
    for slot in slots[:4]:
        bench.end(slot)
    bench.now += 100.0  # when live mail had nearly all slots is long ago
    assert bench.served() == ["live", "live too", "spooled"]


def test_live_mail_that_may_not_start_leaves_no_slot_idle(bench: Bench) -> None:
    """It waits below its threshold; spooled mail of a better class does not wait for that."""
    bench.must_start(NARROW)
    for _ in range(4):
        assert start_spooled(bench, WIDE)
    bench.wait("live", NARROW)
    assert not start_spooled(bench, WIDE), "it has its share, and stands in line"
    for number in range(6):
        bench.wait(f"spooled {number}", WIDE, is_live=False)
    assert bench.served() == [f"spooled {number}" for number in range(4)], (
        "one slot is for live mail"
    )


def test_without_live_mail_nothing_holds_spooled_mail_back(bench: Bench) -> None:
    assert [start_spooled(bench, LATER) for _ in range(LIMIT + 1)] == [True] * LIMIT + [False]


def test_spooled_mail_leaves_live_mail_what_it_has_had_lately_and_one_slot_more(
    bench: Bench,
) -> None:
    for _ in range(4):
        bench.must_start(LATER)
    assert [start_spooled(bench, LATER) for _ in range(6)] == [True] * 5 + [False]
    assert bench.start(LATER) is not None


def test_spooled_mail_of_the_best_ranks_is_not_held_back(bench: Bench) -> None:
    bench.must_start(PERSONAL)
    assert all(start_spooled(bench, PERSONAL) for _ in range(LIMIT - 1))
    assert start_spooled(bench, CLINICAL)


def test_the_share_of_the_drain_grows_with_the_windows_of_the_limit() -> None:
    bench = Bench()
    bench.limit = Measured(LIMIT)
    bench.station = Station(bench.limit)
    bench.wait("spooled", LATER, is_live=False)
    pass_time(bench, 10.0)
    assert bench.station.shedding.ramp.slots == LIMIT - 1


def test_quotas_bite_by_the_pressure_once_there_is_one(bench: Bench) -> None:
    shedding = bench.station.shedding
    bench.fill()
    assert bench.station.quotas_bite(bench.now)
    for second in range(3):
        shedding.note_saturation(0.0, float(second), is_away=False)
    assert not bench.station.quotas_bite(bench.now)
    assert not bench.station.state(PERSONAL, bench.now).is_pressed
    for second in range(30):
        shedding.note_saturation(1.0, float(second), is_away=False)
    assert bench.station.quotas_bite(bench.now)
    assert bench.station.state(PERSONAL, bench.now).is_pressed


def override(bench: Bench, *wishes: Wish) -> list[str]:
    """Let an operator have these overrides and no others; return who is sent away."""
    return bench.station.set_overrides(in_force(*wishes))


def test_a_class_that_is_held_has_no_slot_and_is_spooled_at_once(bench: Bench) -> None:
    override(bench, hold("personal"))

    assert bench.start(PERSONAL) is None
    assert bench.start(TELEWORK) is not None
    assert bench.station.state(PERSONAL, bench.now).kept_back is Reason.OVERRIDE
    assert bench.station.state(TELEWORK, bench.now).kept_back is None
    assert bench.station.open_to(PERSONAL, bench.now) == 0
    bench.wait("spooled", PERSONAL, is_live=False)
    bench.wait("other", TELEWORK, is_live=False)
    assert bench.served() == ["other"]

    assert override(bench) == []
    assert bench.served() == ["spooled"]


def test_live_mail_that_waits_is_sent_away_when_its_class_is_held(bench: Bench) -> None:
    bench.fill()
    bench.wait("live", PERSONAL)
    bench.wait("spooled", PERSONAL, is_live=False)
    bench.wait("other", TELEWORK)

    assert override(bench, hold("personal")) == ["live"]
    assert bench.station.waiting == 2
    assert bench.station.live_waiting == 1


def test_what_is_in_flight_when_its_class_is_held_comes_back_as_usual(bench: Bench) -> None:
    slot = bench.must_start(PERSONAL)
    override(bench, hold("personal"))
    bench.end(slot)

    assert bench.station.in_flight == 0
    assert bench.start(PERSONAL) is None


def test_a_class_that_is_limited_has_so_many_slots_live_and_spooled_together(
    bench: Bench,
) -> None:
    override(bench, limit("personal", 2))
    first = bench.must_start(PERSONAL)
    assert bench.station.state(PERSONAL, bench.now).may_start
    bench.wait("spooled", PERSONAL, is_live=False)
    bench.wait("second", PERSONAL, is_live=False)

    assert bench.served() == ["spooled"]
    assert bench.start(PERSONAL) is None
    assert bench.start(TELEWORK) is not None
    bench.end(first)
    assert bench.served() == ["second"]


def test_a_newcomer_does_not_wait_behind_those_of_a_class_that_is_limited(bench: Bench) -> None:
    override(bench, limit("personal", 2))
    bench.must_start(PERSONAL)
    assert bench.station.state(PERSONAL, bench.now).kept_back is None

    bench.must_start(PERSONAL)
    assert bench.station.state(PERSONAL, bench.now).kept_back is Reason.OVERRIDE
    assert bench.station.state(TELEWORK, bench.now).kept_back is None


def test_a_class_that_was_limited_below_what_it_has_waits_until_it_has_less(bench: Bench) -> None:
    slots = [bench.must_start(PERSONAL) for _ in range(3)]
    override(bench, limit("personal", 2))
    bench.wait("spooled", PERSONAL, is_live=False)
    bench.end(slots[0])
    assert bench.served() == []
    bench.end(slots[1])
    assert bench.served() == ["spooled"]


def test_mail_that_an_operator_keeps_back_is_no_pressure_and_no_backlog(bench: Bench) -> None:
    bench.wait("spooled", PERSONAL, is_live=False)
    assert bench.station.is_pressed(bench.now)

    override(bench, hold("personal"))
    assert not bench.station.is_pressed(bench.now)
    bench.station.tick(bench.now, has_spooled=False)
    assert bench.limit.backlogged == [False]


def test_a_class_that_is_held_gives_no_probe(bench: Bench) -> None:
    away(bench)
    override(bench, hold("personal"))
    bench.wait("held", PERSONAL, is_live=False)
    bench.now += 3600
    assert bench.served() == []

    bench.wait("free", TELEWORK, is_live=False)
    assert bench.served() == ["free"]


def test_a_class_that_is_released_is_not_kept_out_of_the_last_slots(bench: Bench) -> None:
    bench.must_start(TELEWORK)  # its guarantee
    while bench.station.in_flight < TELEWORK.threshold * LIMIT:
        bench.must_start(CLINICAL)
    assert bench.start(TELEWORK) is None
    assert not bench.station.state(TELEWORK, bench.now).may_start

    override(bench, release("telework"))
    assert bench.station.state(TELEWORK, bench.now).may_start
    assert bench.station.open_to(TELEWORK, bench.now) == LIMIT
    while bench.station.in_flight < LIMIT:
        bench.must_start(TELEWORK)
    assert bench.start(TELEWORK) is None

    override(bench)
    assert bench.station.open_to(TELEWORK, bench.now) < LIMIT


def test_quotas_do_not_bite_a_class_that_is_released(bench: Bench) -> None:
    bench.fill()
    assert bench.station.state(PERSONAL, bench.now).is_pressed

    override(bench, release("personal"))
    assert not bench.station.state(PERSONAL, bench.now).is_pressed
    assert bench.station.state(TELEWORK, bench.now).is_pressed


def test_while_observing_overrides_act_on_nothing(bench: Bench) -> None:
    bench.station.is_observing = True
    bench.wait("waits", PERSONAL)

    assert override(bench, hold("personal")) == []
    assert not bench.station.is_held(PERSONAL)
    assert bench.served() == ["waits"]
    assert bench.start(PERSONAL) is not None
    assert bench.station.state(PERSONAL, bench.now).kept_back is Reason.OVERRIDE, "it would be"


class Estimate(Recorder):
    """A limit whose ceiling stays where it is."""

    @property
    def ceiling(self) -> int:
        return LIMIT + 2


def back_from_an_outage(dead: int, made: TrafficClass, *, is_live: bool) -> Bench:
    """A backend that is back since a while; before it went, it had messages that never end."""
    bench = Bench()
    bench.limit = Estimate(LIMIT)
    bench.station = Station(bench.limit)
    bench.station.shedding.classes = CLASSES
    for number in range(dead):
        work = Work(traffic_class=made, sender=b"%d" % number, is_live=is_live)
        if bench.station.try_start(work, bench.now) is None:
            bench.station.offer(f"dead {number}", work, bench.now, bench.now)
            next_slot(bench)
    bench.now += 61.0
    bench.station.tick(bench.now, has_spooled=False)
    assert bench.station.breaker.is_open
    while bench.station.breaker.state is not BreakerState.CLOSED:
        bench.now += 1.0
        bench.station.tick(bench.now, has_spooled=False)
        probe = bench.start(CLINICAL)
        if probe is not None:
            bench.end(probe)
        assert bench.now < 300.0, "it answers"
    return bench


def test_what_an_outage_left_in_flight_takes_no_slot_after_it() -> None:
    """It may hang for ten minutes, and the limit begins low."""
    bench = back_from_an_outage(8, PERSONAL, is_live=True)
    bench.limit.set(4)
    bench.must_start(PERSONAL)
    bench.must_start(PERSONAL)
    assert bench.station.in_flight == 10


def test_what_an_outage_left_in_flight_counts_for_the_ceiling() -> None:
    """To the backend these are connections like any other."""
    bench = back_from_an_outage(8, PERSONAL, is_live=True)
    while bench.start(CLINICAL):
        pass
    assert bench.station.in_flight == bench.station.ceiling
    bench.wait("one more", CLINICAL)
    assert bench.served() == []


def test_spooled_mail_that_an_outage_left_in_flight_does_not_keep_the_rest_back() -> None:
    bench = back_from_an_outage(6, BULK, is_live=False)
    bench.limit.set(4)
    bench.wait("bulk", BULK, is_live=False)
    assert bench.served() == ["bulk"]


def test_on_the_way_back_the_ceiling_holds() -> None:
    bench = Bench()
    bench.limit = Estimate(LIMIT)
    bench.station = Station(bench.limit)
    bench.station.breaker.can_ask = True
    for number in range(bench.station.ceiling):
        work = Work(traffic_class=CLINICAL, sender=b"%d" % number)
        assert bench.station.try_start(work, bench.now) is not None
    bench.now += 61.0
    while bench.station.breaker.state is not BreakerState.HALF_OPEN:
        bench.station.tick(bench.now, has_spooled=False)
        bench.now += 1.0
        if question := bench.station.breaker.try_ask(bench.now):
            ending = SlotEnding.COMPLETED
            bench.station.breaker.on_answer(bench.now, question, ending, 0.0)
        assert bench.now < 300.0, "it answers"
    bench.wait("one more", CLINICAL)
    assert bench.served() == []


def test_who_waits_when_observing_ends_goes_by_the_rules_from_then_on(bench: Bench) -> None:
    """Clinical mail does not stay behind what it was equal to."""
    bench.station.is_observing = True
    slots = bench.fill() + [bench.must_start() for _ in range(2)]
    for number in range(3):
        keep(bench, f"bulk {number}", BULK, arrived=1.0)
    keep(bench, "clinical", CLINICAL, arrived=2.0)
    assert bench.served() == []
    bench.station.is_observing = False
    assert bench.station.waiting_of(BULK) == 3
    for slot in slots[:7]:
        bench.end(slot)
    assert bench.served() == ["clinical", "bulk 0"]

    bench.station.is_observing = True
    assert bench.station.waiting_of(BULK) == 0
