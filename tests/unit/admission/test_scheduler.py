"""Who takes the next slot."""

import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mailshed.admission.scheduler import Scheduler, has_room
from mailshed.terms import TrafficClass
from tests.support.builders import BULK, CLASSES, CLINICAL, PERSONAL, TELEWORK, traffic_class

LIMIT = 20
CONTINUITY = traffic_class("continuity", PERSONAL.rank, threshold=0.95)


# Room.


@pytest.mark.parametrize(
    ("threshold", "limit", "last"),
    [
        (1.0, 20, 19),
        (0.95, 20, 18),
        (0.6, 20, 11),
        (0.6, 1, 0),
        (0.6, 2, 1),
        (0.01, 20, 0),
        (1.0, 1, 0),
        (0.55, 20, 10),  # 11.000000000000002 in floating point
        (0.07, 100, 6),  # 7.000000000000001
        (0.29, 100, 28),  # 28.999999999999996
    ],
)
def test_a_class_may_start_while_the_slots_in_use_stay_below_its_share(
    threshold: float, limit: int, last: int
) -> None:
    made = traffic_class(threshold=threshold)
    allowed = [has_room(made, in_flight, limit) for in_flight in range(limit + 2)]
    assert allowed == [in_flight <= last for in_flight in range(limit + 2)]


@given(st.integers(1, 100), st.integers(1, 500), st.integers(0, 600))
def test_shares_are_exact_for_thresholds_as_people_write_them(
    percent: int, limit: int, in_flight: int
) -> None:
    threshold = Decimal(percent) / 100
    expected = in_flight == 0 or in_flight < threshold * limit
    assert has_room(traffic_class(threshold=float(threshold)), in_flight, limit) == expected


# Order.


def test_the_better_rank_goes_first_whoever_came_earlier() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.offer("bulk", BULK, 1.0)
    scheduler.offer("telework", TELEWORK, 2.0)
    scheduler.offer("clinical", CLINICAL, 3.0)
    scheduler.offer("personal", PERSONAL, 4.0)
    order = [scheduler.next(0, LIMIT) for _ in range(5)]
    assert order == ["clinical", "personal", "telework", "bulk", None]


def test_within_a_rank_the_one_that_arrived_first_goes_first() -> None:
    """By its arrival at our door, not at this room: age is the only privilege of spooled mail."""
    scheduler: Scheduler[str] = Scheduler()
    scheduler.offer("live", PERSONAL, 100.0)
    scheduler.offer("spooled", PERSONAL, 50.0)
    scheduler.offer("other class, same rank", CONTINUITY, 75.0)
    order = [scheduler.next(0, LIMIT) for _ in range(3)]
    assert order == ["spooled", "other class, same rank", "live"]


def test_at_one_instant_the_one_that_was_offered_first_goes_first() -> None:
    scheduler: Scheduler[int] = Scheduler()
    for number in range(10):
        scheduler.offer(number, PERSONAL, 1.0)
    assert [scheduler.next(0, LIMIT) for _ in range(10)] == list(range(10))


def test_items_need_not_be_comparable() -> None:
    scheduler: Scheduler[object] = Scheduler()
    one, other = object(), object()
    scheduler.offer(one, PERSONAL, 1.0)
    scheduler.offer(other, PERSONAL, 1.0)
    assert [scheduler.next(0, LIMIT), scheduler.next(0, LIMIT)] == [one, other]


def test_nobody_starts_without_room_for_the_first() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.offer("bulk", BULK, 1.0)
    assert scheduler.next(12, LIMIT) is None
    assert scheduler.next(11, LIMIT) == "bulk"


def test_a_better_rank_without_room_keeps_lower_ones_waiting() -> None:
    """Thresholds that contradict the ranks cost a slot, never the order."""
    narrow = traffic_class("narrow", 1, threshold=0.5)
    wide = traffic_class("wide", 2, threshold=1.0)
    scheduler: Scheduler[str] = Scheduler()
    scheduler.offer("wide", wide, 1.0)
    scheduler.offer("narrow", narrow, 2.0)
    assert scheduler.next(10, LIMIT) is None
    assert scheduler.next(9, LIMIT) == "narrow"
    assert scheduler.next(10, LIMIT) == "wide"


# Counting and leaving.


def test_counts_who_waits_by_class_and_by_rank() -> None:
    scheduler: Scheduler[str] = Scheduler()
    assert (len(scheduler), scheduler.waiting_up_to(99)) == (0, 0)
    for item, made in (("a", PERSONAL), ("b", PERSONAL), ("c", CONTINUITY), ("d", BULK)):
        scheduler.offer(item, made, 1.0)
    assert len(scheduler) == 4
    assert [scheduler.waiting(each) for each in (PERSONAL, CONTINUITY, BULK, CLINICAL)] == [
        2,
        1,
        1,
        0,
    ]
    assert [scheduler.waiting_up_to(rank) for rank in (0, 1, 4, 5)] == [0, 3, 3, 4]
    scheduler.next(0, LIMIT)
    assert (scheduler.waiting(PERSONAL), scheduler.waiting_up_to(1)) == (1, 2)


def test_who_has_withdrawn_is_not_served() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.offer("a", PERSONAL, 1.0)
    scheduler.offer("b", PERSONAL, 2.0)
    scheduler.withdraw("a")
    scheduler.withdraw("a")
    scheduler.withdraw("a stranger")
    assert len(scheduler) == 1
    assert [scheduler.next(0, LIMIT), scheduler.next(0, LIMIT)] == ["b", None]


def test_who_withdrew_and_comes_again_stands_where_it_comes_again() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.offer("a", PERSONAL, 1.0)
    scheduler.offer("b", PERSONAL, 2.0)
    scheduler.withdraw("a")
    scheduler.offer("a", BULK, 3.0)
    assert [scheduler.next(0, LIMIT) for _ in range(3)] == ["b", "a", None]


def test_offering_an_item_twice_is_a_mistake_of_ours() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.offer("a", PERSONAL, 1.0)
    with pytest.raises(AssertionError):
        scheduler.offer("a", PERSONAL, 1.0)


def test_all_can_be_sent_away_at_once() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.offer("a", PERSONAL, 1.0)
    scheduler.offer("b", BULK, 2.0)
    assert scheduler.withdraw_all() == ["a", "b"]
    assert (len(scheduler), scheduler.waiting_up_to(99), scheduler.next(0, LIMIT)) == (0, 0, None)
    assert scheduler.withdraw_all() == []


def test_those_that_gave_up_behind_one_that_waits_for_long_leave_nothing_behind() -> None:
    """An outage of hours must not fill the memory with those who waited for seconds."""
    scheduler: Scheduler[int] = Scheduler()
    scheduler.offer(-1, TELEWORK, 0.0)
    for number in range(10_000):
        scheduler.offer(number, TELEWORK, 1.0 + number)
        scheduler.withdraw(number)
    kept = sum(len(heap) for heap in scheduler._heaps.values())
    assert kept < 200
    assert scheduler.next(0, LIMIT) == -1


def test_a_hundred_thousand_waiting_are_no_burden() -> None:
    """Two seconds are a wide margin; a list that is searched would take hours."""
    scheduler: Scheduler[int] = Scheduler()
    started = time.perf_counter()
    for number in range(100_000):
        scheduler.offer(number, CLASSES[number % len(CLASSES)], float(-number))
    for number in range(0, 100_000, 2):
        scheduler.withdraw(number)
    while scheduler.next(0, LIMIT) is not None:
        pass
    assert len(scheduler) == 0
    assert time.perf_counter() - started < 5


# Against a model: a list, searched anew each time.


class SchedulerAgainstModel(RuleBasedStateMachine):
    """Any sequence of offers, withdrawals and grants, with a plain list as the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler: Scheduler[int] = Scheduler()
        self.model: list[tuple[int, float, int, int, TrafficClass]] = []
        self.offers = 0

    @rule(
        item=st.integers(0, 30),
        made=st.sampled_from((*CLASSES, CONTINUITY)),
        arrived=st.integers(0, 5),
    )
    def offer(self, item: int, made: TrafficClass, arrived: int) -> None:
        if any(each[3] == item for each in self.model):
            return
        self.scheduler.offer(item, made, float(arrived))
        self.offers += 1
        self.model.append((made.rank, float(arrived), self.offers, item, made))

    @rule(item=st.integers(0, 30))
    def withdraw(self, item: int) -> None:
        self.scheduler.withdraw(item)
        self.model = [each for each in self.model if each[3] != item]

    @precondition(lambda self: self.model)
    @rule(in_flight=st.integers(0, 20), limit=st.integers(1, 20))
    def next(self, in_flight: int, limit: int) -> None:
        first = min(self.model, key=lambda each: each[:3])
        may_start = has_room(first[4], in_flight, limit)
        assert self.scheduler.next(in_flight, limit) == (first[3] if may_start else None)
        if may_start:
            self.model.remove(first)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.scheduler) == len(self.model)
        for rank in range(6):
            assert self.scheduler.waiting_up_to(rank) == sum(each[0] <= rank for each in self.model)
        for made in CLASSES:
            assert self.scheduler.waiting(made) == sum(each[4] is made for each in self.model)


SchedulerAgainstModel.TestCase.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=60
)
TestSchedulerAgainstModel = SchedulerAgainstModel.TestCase
