"""Fair over senders, first come first served within one, and nothing left behind."""

import time
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mailshed.admission.fair_queue import IDLE_MAX, FairQueue

Message = tuple[bytes, int]
"""A sender and a number."""


def offer(
    queue: FairQueue[Message], sender: bytes, numbers: range, cost: float = 1.0, **changes: float
) -> None:
    for number in numbers:
        queue.offer(
            (sender, number), sender=sender, arrived_wall=float(number), cost=cost, **changes
        )


def taken(queue: FairQueue[Message], number: int) -> list[Message]:
    served = [queue.take() for _ in range(number)]
    return [each.item for each in served if each is not None]


def jain(values: list[float]) -> float:
    """Jain's index: 1 if all are equal, 1/n if one has everything."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


def test_a_sender_is_served_in_the_order_of_arrival() -> None:
    queue: FairQueue[str] = FairQueue()
    for item, arrived in (("late", 3.0), ("early", 1.0), ("middle", 2.0)):
        queue.offer(item, sender=b"a", arrived_wall=arrived, cost=1.0)
    served = [queue.take(), queue.take(), queue.take()]
    assert [each and (each.item, each.arrived_wall, each.cost) for each in served] == [
        ("early", 1.0, 1.0),
        ("middle", 2.0, 1.0),
        ("late", 3.0, 1.0),
    ]
    assert queue.take() is None


def test_of_those_that_arrived_together_the_one_offered_first_goes_first() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(10):
        queue.offer(number, sender=b"a", arrived_wall=1.0, cost=1.0)
    assert [each.item for _ in range(10) if (each := queue.take())] == list(range(10))


def test_items_need_not_be_comparable() -> None:
    queue: FairQueue[object] = FairQueue()
    items = [object() for _ in range(4)]
    for number, item in enumerate(items):
        queue.offer(item, sender=b"%d" % (number % 2), arrived_wall=1.0, cost=1.0)
    assert {id(each.item) for _ in items if (each := queue.take())} == set(map(id, items))


def test_a_single_message_waits_for_one_of_a_crowd_and_not_for_all() -> None:
    queue: FairQueue[Message] = FairQueue()
    offer(queue, b"crowd", range(10_000))
    taken(queue, 100)
    offer(queue, b"single", range(1))
    assert (b"single", 0) in taken(queue, 2)


def test_who_was_away_saves_nothing_up() -> None:
    queue: FairQueue[Message] = FairQueue()
    offer(queue, b"back", range(1))
    offer(queue, b"here", range(100))
    taken(queue, 50)
    offer(queue, b"back", range(1, 50))
    counts = Counter(sender for sender, _ in taken(queue, 20))
    assert counts == {b"here": 10, b"back": 10}


def test_who_has_just_been_served_does_not_come_first_by_leaving_and_coming_back() -> None:
    queue: FairQueue[Message] = FairQueue()
    offer(queue, b"large", range(1), cost=10.0)
    offer(queue, b"steady", range(100))
    assert (b"large", 0) in taken(queue, 2)
    offer(queue, b"large", range(1, 2), cost=10.0)
    assert taken(queue, 8) == [(b"steady", number) for number in range(1, 9)]


def test_shares_are_of_cost_and_not_of_messages() -> None:
    queue: FairQueue[Message] = FairQueue()
    offer(queue, b"large", range(200), cost=5.0)
    offer(queue, b"small", range(200), cost=1.0)
    counts = Counter(sender for sender, _ in taken(queue, 120))
    assert counts[b"small"] == pytest.approx(100, abs=5)
    assert counts[b"large"] == pytest.approx(20, abs=1)


def test_a_penalty_is_paid_by_the_sender_alone() -> None:
    queue: FairQueue[Message] = FairQueue()
    offer(queue, b"excessive", range(200), penalty=2.0)
    offer(queue, b"modest", range(200))
    served = [queue.take() for _ in range(90)]
    counts = Counter(each.item[0] for each in served if each is not None)
    assert counts == {b"modest": 60, b"excessive": 30}
    assert {each.cost for each in served if each is not None} == {1.0}, "the class pays once"


@settings(max_examples=30)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=8), st.integers(0, 200))
def test_equal_senders_have_equal_shares(sizes: list[int], seed: int) -> None:
    """Jain's index is 0.99 or better over any stretch in which all have something waiting."""
    queue: FairQueue[Message] = FairQueue()
    costs = {b"%d" % number: 1.0 + (size + seed) % 7 for number, size in enumerate(sizes)}
    for sender, cost in costs.items():
        offer(queue, sender, range(800), cost=cost)
    served: Counter[bytes] = Counter()
    for sender, _ in taken(queue, 100 * len(sizes)):
        served[sender] += 1
    work = [served[sender] * cost for sender, cost in costs.items()]
    assert max(work) - min(work) <= 2 * max(costs.values())
    assert jain(work) >= 0.99


# Passing over.


def test_a_sender_whose_first_may_not_go_is_passed_over_and_keeps_its_place() -> None:
    queue: FairQueue[Message] = FairQueue()
    offer(queue, b"blocked", range(2))
    offer(queue, b"free", range(100))
    served = [queue.take(lambda item: item[0] != b"blocked") for _ in range(50)]
    assert {each.item[0] for each in served if each} == {b"free"}
    assert (b"blocked", 0) in taken(queue, 2), "no longer than one message of another"
    counts = Counter(sender for sender, _ in taken(queue, 4))
    assert counts[b"blocked"] == 1, "and it has saved nothing up"


def test_if_nobody_may_go_nobody_does_and_all_stay() -> None:
    queue: FairQueue[Message] = FairQueue()
    offer(queue, b"a", range(3))
    assert queue.take(lambda _: False) is None
    assert len(queue) == 3
    assert taken(queue, 3) == [(b"a", 0), (b"a", 1), (b"a", 2)]


# Leaving.


def test_who_has_withdrawn_is_not_served() -> None:
    queue: FairQueue[Message] = FairQueue()
    offer(queue, b"a", range(3))
    queue.withdraw((b"a", 1))
    queue.withdraw((b"a", 1))
    queue.withdraw((b"stranger", 1))
    assert ((b"a", 1) in queue, (b"a", 2) in queue, len(queue)) == (False, True, 2)
    assert taken(queue, 3) == [(b"a", 0), (b"a", 2)]


def test_offering_an_item_twice_is_a_mistake_of_ours() -> None:
    queue: FairQueue[Message] = FairQueue()
    offer(queue, b"a", range(1))
    with pytest.raises(AssertionError):
        offer(queue, b"a", range(1))


def test_those_that_gave_up_leave_nothing_behind() -> None:
    """An outage of hours must not fill the memory with those who waited for seconds."""
    queue: FairQueue[Message] = FairQueue()
    offer(queue, b"stays", range(-1, 0))
    for number in range(20_000):
        sender = b"stays" if number % 2 else b"%d" % number
        queue.offer((sender, number), sender=sender, arrived_wall=float(number), cost=1.0)
        queue.withdraw((sender, number))
    assert len(queue._order) < 200
    assert sum(len(flow.heap) for flow in queue._flows.values()) < 200 + IDLE_MAX
    assert len(queue._flows) <= IDLE_MAX + 1
    assert taken(queue, 2) == [(b"stays", -1)]


def test_senders_are_forgotten_in_time_those_served_least_first() -> None:
    queue: FairQueue[Message] = FairQueue()
    offer(queue, b"anchor", range(1), cost=0.0)
    offer(queue, b"heavy", range(1), cost=1000.0)
    taken(queue, 2)
    for number in range(3 * IDLE_MAX):
        sender = b"%d" % number
        offer(queue, sender, range(1), cost=1.0)
        assert taken(queue, 1) == [(sender, 0)]
    assert len(queue._flows) <= IDLE_MAX + 1
    offer(queue, b"heavy", range(1, 2))
    offer(queue, b"new", range(20))
    assert taken(queue, 20) == [(b"new", number) for number in range(20)], "its debt is known"


def test_a_hundred_thousand_waiting_are_no_burden() -> None:
    """Five seconds are a wide margin; a list that is searched would take hours."""
    queue: FairQueue[Message] = FairQueue()
    started = time.perf_counter()
    for number in range(50_000):
        sender = b"%d" % (number % 1000)
        queue.offer((sender, number), sender=sender, arrived_wall=float(-number), cost=1.0)
    for number in range(0, 50_000, 2):
        queue.withdraw((b"%d" % (number % 1000), number))
    assert len(taken(queue, 25_000)) == 25_000
    assert (len(queue), queue.take()) == (0, None)
    assert time.perf_counter() - started < 5


# Any course of events.


SENDERS = (b"a", b"b", b"c")


class AnyCourse(RuleBasedStateMachine):
    """Nothing is lost, nobody withdrawn is served, senders keep their order and their shares."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[Message] = FairQueue()
        self.waiting: dict[Message, tuple[float, int, float]] = {}
        self.offers = 0
        self.work: defaultdict[bytes, float] = defaultdict(float)
        """What each was served while all three have had something waiting without a break."""

    @rule(
        sender=st.sampled_from(SENDERS),
        arrived=st.integers(0, 5),
        cost=st.sampled_from((1.0, 2.0, 8.0)),
    )
    def offer(self, sender: bytes, arrived: int, cost: float) -> None:
        self.offers += 1
        item = (sender, self.offers)
        self.queue.offer(item, sender=sender, arrived_wall=float(arrived), cost=cost)
        self.waiting[item] = (float(arrived), self.offers, cost)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(sorted(self.waiting)))
        self.queue.withdraw(item)
        del self.waiting[item]
        self._note_break()

    @rule()
    def take(self) -> None:
        served = self.queue.take()
        if served is None:
            assert not self.waiting
            return
        arrived, _, cost = self.waiting.pop(served.item)
        assert (served.arrived_wall, served.cost) == (arrived, cost)
        sender = served.item[0]
        of_sender = [(key[0], key[1]) for item, key in self.waiting.items() if item[0] == sender]
        assert all((arrived, served.item[1]) < other for other in of_sender)
        self.work[sender] += cost
        if all(map(self._has, SENDERS)):
            work = [self.work[each] for each in SENDERS]
            assert max(work) - min(work) <= 2 * 8.0, "fair to within one message of each"
        self._note_break()

    def _has(self, sender: bytes) -> bool:
        return any(item[0] == sender for item in self.waiting)

    def _note_break(self) -> None:
        if not all(map(self._has, SENDERS)):
            self.work.clear()

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert self.queue._busy == len({sender for sender, _ in self.waiting})


AnyCourse.TestCase.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
TestAnyCourse = AnyCourse.TestCase
