"""Who takes the next slot: rank 0 strictly first, the others by shares, senders fairly."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mailshed.admission.room import ELEPHANT_OCTETS, Occupancy, is_elephant, may_start
from mailshed.admission.scheduler import STARVING_SECONDS, Scheduler, cost_of
from mailshed.terms import TrafficClass
from tests.support.builders import BULK, CLASSES, CLINICAL, PERSONAL, TELEWORK, traffic_class

LIMIT = 20
NOW = 1_700_000_000.0
CONTINUITY = traffic_class("continuity", PERSONAL.rank, weight=8.0)
NONE: Mapping[str, int] = {}
LARGE = ELEPHANT_OCTETS + 1


def slots(
    in_flight: int = 0, limit: int = LIMIT, elephants: int = 0, reserve: int = 0
) -> Occupancy:
    return Occupancy(in_flight, elephants, limit, limit, reserve)


class Room:
    """A scheduler, and how often each class was served."""

    def __init__(self) -> None:
        self.scheduler: Scheduler[str] = Scheduler()
        self.served: Counter[str] = Counter()
        self.now = NOW
        self._offers = 0

    def offer(
        self,
        made: TrafficClass,
        number: int = 1,
        *,
        arrived: float | None = None,
        sender: bytes = b"",
        size: int = 0,
        penalty: float = 1.0,
    ) -> list[str]:
        """Let `number` messages of a class wait; their names tell class and order."""
        names = []
        for _ in range(number):
            self._offers += 1
            name = f"{made.name}/{sender.decode()}/{self._offers}"
            self.scheduler.offer(
                name,
                made,
                wall=self.now,
                arrived_wall=self.now if arrived is None else arrived,
                sender=sender,
                size=size,
                penalty=penalty,
            )
            names.append(name)
        return names

    def next(self, occupancy: Occupancy | None = None, own: Mapping[str, int] = NONE) -> str | None:
        item = self.scheduler.next(occupancy or slots(), own, self.now)
        if item is not None:
            self.served[item.split("/")[0]] += 1
        return item

    def serve(self, number: int) -> list[str]:
        """Serve so many on an idle backend; the classes of those served."""
        return [item.split("/")[0] for _ in range(number) if (item := self.next())]


@pytest.fixture
def room() -> Room:
    return Room()


# Rank 0.


def test_rank_0_goes_first_whoever_came_earlier(room: Room) -> None:
    room.offer(BULK, arrived=NOW - 100)
    room.offer(PERSONAL, arrived=NOW - 50)
    room.offer(CLINICAL, 3)
    assert room.serve(5) == ["clinical"] * 3 + ["personal", "bulk"]
    assert room.next() is None


def test_while_rank_0_waits_for_room_nobody_else_starts(room: Room) -> None:
    room.offer(CLINICAL)
    room.offer(PERSONAL)
    assert room.next(slots(LIMIT)) is None
    assert room.next(slots(LIMIT - 1)) is not None
    assert room.served == {"clinical": 1}


def test_two_classes_of_rank_0_share_by_weight(room: Room) -> None:
    room.offer(CLINICAL, 50)
    room.offer(replace(CLINICAL, name="alarms", weight=3.0), 50)
    room.serve(40)
    assert room.served == {"alarms": 30, "clinical": 10}


# Shares.


def test_waiting_classes_share_by_weight(room: Room) -> None:
    for made in (PERSONAL, TELEWORK, BULK):
        room.offer(made, 200)
    room.serve(120)
    assert room.served == {"personal": 80, "telework": 30, "bulk": 10}


def test_a_class_alone_has_everything(room: Room) -> None:
    room.offer(BULK, 5)
    assert room.serve(5) == ["bulk"] * 5


def test_of_equals_the_better_rank_goes_first(room: Room) -> None:
    for made in (BULK, TELEWORK, PERSONAL):
        room.offer(made)
    assert room.serve(3) == ["personal", "telework", "bulk"]


def test_a_class_that_was_away_saves_nothing_up(room: Room) -> None:
    room.offer(BULK, 100)
    room.serve(60)
    room.offer(PERSONAL, 100)
    room.served.clear()
    room.serve(18)
    assert room.served["personal"] == pytest.approx(16, abs=1)


def test_a_class_that_may_not_start_saves_nothing_up(room: Room) -> None:
    """Blocked by its threshold for a hundred messages, it has its share afterwards and no more."""
    room.offer(BULK, 100)
    room.offer(PERSONAL, 300)
    held = {"bulk": 12}
    assert all(room.next(slots(18), held) for _ in range(100))
    assert room.served == {"personal": 100}
    room.served.clear()
    room.serve(18)
    assert room.served["bulk"] == pytest.approx(2, abs=1)


def test_size_and_recipients_cost(room: Room) -> None:
    assert cost_of(0, 1) == 1.0
    assert cost_of(3 * 1024**2, 1) == 4.0
    assert cost_of(0, 21) == 2.0
    room.offer(replace(PERSONAL, weight=1.0), 100, size=3 * 1024**2)
    room.offer(BULK, 100)
    room.serve(50)
    assert room.served["bulk"] == pytest.approx(40, abs=2)


def test_a_class_past_its_objective_counts_double_until_it_is_on_time(room: Room) -> None:
    one, other = (traffic_class(name, 1, objective=60.0) for name in ("late", "prompt"))
    room.offer(one, 20, arrived=NOW - 61)
    room.offer(one, 100)
    room.offer(other, 100)
    room.serve(30)
    assert room.served == {"late": 20, "prompt": 10}
    room.served.clear()
    room.serve(20)
    assert room.served["late"] == pytest.approx(10, abs=1)


# Senders.


def test_senders_share_their_class(room: Room) -> None:
    room.offer(PERSONAL, 1000, sender=b"crowd")
    room.serve(10)
    (single,) = room.offer(PERSONAL, sender=b"single")
    assert single in [room.next(), room.next()]


def test_a_penalty_halves_the_sender_and_not_the_class(room: Room) -> None:
    room.offer(PERSONAL, 400, sender=b"excessive", penalty=2.0)
    room.offer(PERSONAL, 400, sender=b"modest")
    room.offer(CONTINUITY, 400)
    by_sender = Counter((room.next() or "").rsplit("/", 1)[0] for _ in range(120))
    assert by_sender["continuity/"] == pytest.approx(60, abs=1)
    assert by_sender["personal/modest"] == pytest.approx(40, abs=1)
    assert by_sender["personal/excessive"] == pytest.approx(20, abs=1)


def test_spooled_and_live_mail_of_one_sender_go_by_their_arrival(room: Room) -> None:
    (live,) = room.offer(PERSONAL, arrived=NOW)
    (spooled,) = room.offer(PERSONAL, arrived=NOW - 3600)
    assert [room.next(), room.next()] == [spooled, live]


# Room.


def test_a_class_without_room_is_passed_by_one_that_has_some(room: Room) -> None:
    room.offer(BULK)
    assert room.next(slots(12), {"bulk": 3}) is None
    room.offer(PERSONAL)
    assert room.next(slots(12), {"bulk": 3}) is not None
    assert room.served == {"personal": 1}
    assert room.next(slots(11), {"bulk": 3}) is not None


def test_a_guarantee_is_served_beside_a_better_class_that_waits(room: Room) -> None:
    """Above its threshold bulk has its one slot, when it is its turn."""
    room.offer(PERSONAL, 100)
    room.offer(BULK, 10)
    for _ in range(27):
        room.next(slots(18), {"personal": 18, "bulk": 0})
    assert room.served == {"personal": 24, "bulk": 3}
    room.served.clear()
    for _ in range(27):
        room.next(slots(18), {"personal": 17, "bulk": 1})
    assert room.served == {"personal": 27}


def test_with_few_slots_a_class_that_has_not_been_served_for_long_has_one(room: Room) -> None:
    busy, held = slots(3, 4), {"personal": 3}
    room.offer(BULK, 2)
    assert room.next(busy, held) is None
    room.now += STARVING_SECONDS + 1
    assert room.next(busy, held) is not None
    assert room.next(busy, held) is None, "it has been served just now"


def test_elephants_wait_for_their_quarter_and_others_pass_them(room: Room) -> None:
    full = slots(10, elephants=5)
    (elephant,) = room.offer(PERSONAL, sender=b"a", size=LARGE)
    (small,) = room.offer(PERSONAL, sender=b"b")
    assert [room.next(full), room.next(full)] == [small, None]
    assert room.next(slots(10, elephants=4)) == elephant


def test_clinical_elephants_do_not_wait(room: Room) -> None:
    (elephant,) = room.offer(CLINICAL, size=LARGE)
    assert room.next(slots(10, elephants=5)) == elephant


# Newcomers.


def test_a_newcomer_stands_behind_its_like_and_behind_rank_0(room: Room) -> None:
    assert not room.scheduler.must_queue(PERSONAL)
    room.offer(TELEWORK)
    assert [room.scheduler.must_queue(each) for each in CLASSES] == [False, False, True, False]
    (clinical,) = room.offer(CLINICAL)
    assert [room.scheduler.must_queue(each) for each in CLASSES] == [True] * 4
    room.scheduler.withdraw(clinical)
    assert not room.scheduler.must_queue(PERSONAL)


def test_a_newcomer_does_not_stand_behind_elephants(room: Room) -> None:
    room.offer(PERSONAL, size=LARGE)
    assert not room.scheduler.must_queue(PERSONAL)
    room.offer(PERSONAL)
    assert room.scheduler.must_queue(PERSONAL)


# Counting and leaving.


def test_counts_who_waits(room: Room) -> None:
    room.offer(PERSONAL, 2)
    (bulk,) = room.offer(BULK)
    assert (len(room.scheduler), bulk in room.scheduler, "x" in room.scheduler) == (3, True, False)
    assert [room.scheduler.waiting(each) for each in CLASSES] == [0, 2, 0, 1]
    room.next()
    assert [room.scheduler.waiting(each) for each in CLASSES] == [0, 1, 0, 1]


def test_who_has_withdrawn_is_not_served(room: Room) -> None:
    first, second = room.offer(PERSONAL, 2)
    room.scheduler.withdraw(first)
    room.scheduler.withdraw(first)
    room.scheduler.withdraw("a stranger")
    assert [room.next(), room.next()] == [second, None]


def test_offering_an_item_twice_is_a_mistake_of_ours() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.offer("a", PERSONAL, wall=NOW, arrived_wall=NOW)
    with pytest.raises(AssertionError):
        scheduler.offer("a", BULK, wall=NOW, arrived_wall=NOW)


def test_a_reload_changes_the_terms_of_those_who_wait(room: Room) -> None:
    room.offer(PERSONAL, 100)
    room.offer(BULK, 100)
    room.serve(18)
    room.offer(replace(BULK, rank=0))
    room.served.clear()
    assert room.serve(20) == ["bulk"] * 20
    room.offer(replace(BULK, weight=8.0))
    room.served.clear()
    room.serve(20)
    assert room.served["bulk"] == pytest.approx(10, abs=1)


def test_a_hundred_thousand_waiting_are_no_burden() -> None:
    """Five seconds are a wide margin; a list that is searched would take hours."""
    scheduler: Scheduler[int] = Scheduler()
    started = time.perf_counter()
    for number in range(50_000):
        sender = b"%d" % (number % 100)
        scheduler.offer(
            number,
            CLASSES[number % len(CLASSES)],
            wall=NOW,
            arrived_wall=float(-number),
            sender=sender,
        )
    for number in range(0, 50_000, 2):
        scheduler.withdraw(number)
    while scheduler.next(slots(), NONE, NOW) is not None:
        pass
    assert len(scheduler) == 0
    assert time.perf_counter() - started < 5


@settings(max_examples=30)
@given(st.lists(st.sampled_from((1.0, 2.0, 3.0, 8.0)), min_size=2, max_size=6), st.data())
def test_backlogged_classes_are_served_by_weight_to_within_one_message_each(
    weights: list[float], data: st.DataObject
) -> None:
    """The bound of start-time fair queueing: |Wi/wi - Wj/wj| <= ci/wi + cj/wj, at every moment."""
    scheduler: Scheduler[tuple[int, int]] = Scheduler()
    classes = [traffic_class(f"c{i}", 1, weight=weight) for i, weight in enumerate(weights)]
    sizes = [data.draw(st.sampled_from((0, 1024**2, 4 * 1024**2))) for _ in classes]
    for i, made in enumerate(classes):
        for number in range(200):
            scheduler.offer((i, number), made, wall=NOW, arrived_wall=NOW, size=sizes[i])
    costs = [cost_of(size, 1) for size in sizes]
    done = [0.0] * len(classes)
    for _ in range(100):
        item = scheduler.next(slots(), NONE, NOW)
        assert item is not None
        done[item[0]] += costs[item[0]]
        normal = [work / weight for work, weight in zip(done, weights, strict=True)]
        for i, one in enumerate(normal):
            for j, other in enumerate(normal):
                bound = costs[i] / weights[i] + costs[j] / weights[j]
                assert abs(one - other) <= bound + 1e-9


# Any course of events, with a plain list as the truth about who waits.


def test_a_class_that_is_closed_is_passed_over() -> None:
    room = Room()
    clinical, personal, bulk = room.offer(CLINICAL), room.offer(PERSONAL), room.offer(BULK)
    taken = [
        room.scheduler.next(slots(), NONE, room.now, closed=closed)
        for closed in ({"personal"}, {"personal", "bulk"}, {"personal"}, ())
    ]
    assert taken == [clinical[0], None, bulk[0], personal[0]]


def test_an_item_that_is_held_is_passed_over_with_those_behind_it_of_its_sender() -> None:
    room = Room()
    held = room.offer(PERSONAL, sender=b"a")[0]
    behind = room.offer(PERSONAL, sender=b"a")[0]
    other = room.offer(PERSONAL, sender=b"b")[0]

    def take(is_held: bool) -> str | None:
        return room.scheduler.next(
            slots(), NONE, room.now, is_held=(lambda item: item == held) if is_held else None
        )

    assert [take(True), take(True), take(False), take(True)] == [other, None, held, behind]


def test_an_elephant_that_may_not_start_and_an_item_that_is_held_are_both_passed_over() -> None:
    room = Room()
    room.offer(PERSONAL, sender=b"a", size=LARGE)
    held = room.offer(PERSONAL, sender=b"b")[0]
    free = room.offer(PERSONAL, sender=b"c")[0]
    full = slots(in_flight=5, limit=20, elephants=5)
    for expected in (free, None):
        assert room.scheduler.next(full, NONE, room.now, is_held=lambda i: i == held) == expected


class AnyCourse(RuleBasedStateMachine):
    """Nothing is lost, nobody withdrawn is served, and no slot stays free that one could have."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler: Scheduler[int] = Scheduler()
        self.waiting: dict[int, tuple[TrafficClass, int]] = {}
        self.in_flight: Counter[str] = Counter()
        self.elephants = 0
        self.holders: list[tuple[TrafficClass, bool]] = []
        self.offers = 0
        self.now = NOW

    @rule(
        made=st.sampled_from((*CLASSES, CONTINUITY)),
        age=st.integers(0, 1000),
        sender=st.sampled_from((b"a", b"b")),
        size=st.sampled_from((0, 0, LARGE)),
    )
    def offer(self, made: TrafficClass, age: int, sender: bytes, size: int) -> None:
        self.offers += 1
        self.scheduler.offer(
            self.offers,
            made,
            wall=self.now,
            arrived_wall=self.now - age,
            sender=sender,
            size=size,
        )
        self.waiting[self.offers] = (made, size)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(sorted(self.waiting)))
        self.scheduler.withdraw(item)
        del self.waiting[item]

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        made, is_large = self.holders.pop(data.draw(st.integers(0, len(self.holders) - 1)))
        self.in_flight[made.name] -= 1
        self.elephants -= is_large

    @rule(seconds=st.sampled_from((0.1, 10.0, 100.0)))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=st.integers(1, 20), reserve=st.integers(0, 3))
    def next(self, limit: int, reserve: int) -> None:
        occupancy = Occupancy(len(self.holders), self.elephants, limit, limit, reserve)
        item = self.scheduler.next(occupancy, self.in_flight, self.now)
        if item is None:
            assert not any(self.may_start(each, occupancy) for each in self.waiting.values())
            return
        made, size = self.waiting.pop(item)
        is_large = made.rank > 0 and is_elephant(size)
        clinical = any(other.rank == 0 for other, _ in self.waiting.values())
        assert made.rank == 0 or not clinical, "strictly first"
        assert may_start(
            made, self.in_flight[made.name], occupancy, is_large=is_large, is_starving=True
        )
        self.holders.append((made, is_large))
        self.in_flight[made.name] += 1
        self.elephants += is_large

    def may_start(self, waiting: tuple[TrafficClass, int], occupancy: Occupancy) -> bool:
        """Whether this one could start, by its class alone; of a sender the first may be large."""
        made, size = waiting
        large = any(
            other.name == made.name and is_elephant(octets)
            for other, octets in self.waiting.values()
        )
        is_large = made.rank > 0 and (is_elephant(size) or large)
        return may_start(made, self.in_flight[made.name], occupancy, is_large=is_large)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.scheduler) == len(self.waiting)
        for made in CLASSES:
            number = sum(each.name == made.name for each, _ in self.waiting.values())
            assert self.scheduler.waiting(made) == number


AnyCourse.TestCase.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
TestAnyCourse = AnyCourse.TestCase
