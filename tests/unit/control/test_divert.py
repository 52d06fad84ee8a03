"""Which classes divert: by what does not fit, from the worst one up, and back from the best one."""

from collections.abc import Collection
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.control.divert import (
    ENTER_SECONDS,
    LEAVE_SECONDS,
    MEMORY_SECONDS,
    RESTORE_SECONDS,
    STANDING_SECONDS,
    Divert,
    DivertChange,
    OfferedWork,
    Situation,
    class_loads,
)
from mailshed.terms import TrafficClass
from tests.support.builders import traffic_class

CLINICAL = traffic_class("clinical", 0)
PERSONAL = traffic_class("personal", 1, guarantee=0.2)
ALARMS = traffic_class("alarms", 1, guarantee=0.1)
CALENDAR = traffic_class("calendar", 2, guarantee=0.1)
TELEWORK = traffic_class("telework", 4, guarantee=0.1)
BULK = traffic_class("bulk", 5)
CLASSES = (BULK, TELEWORK, CALENDAR, ALARMS, PERSONAL, CLINICAL)
CAPACITY = 10.0
TICK = 0.25


class Bench:
    """Classes that offer a steady load, and time that passes in ticks."""

    def __init__(self) -> None:
        self.divert = Divert()
        self.now = 1000.0
        self.offered: dict[str, float] = {}
        self.capacity: float | None = CAPACITY
        self.use = 1.0
        self.backlogged: set[str] = set()
        self.lanes: set[str] = set()
        self.overloaded: set[str] = set()
        self.classes: tuple[TrafficClass, ...] = CLASSES
        self.log: list[str] = []

    def offer(self, **shares: float) -> None:
        """From now on classes offer these shares of the capacity, as if they always had."""
        for name, share in shares.items():
            rate = share * CAPACITY
            self.offered[name] = rate
            self.divert.offered._rates[name] = rate, self.now

    def tick(self) -> list[DivertChange]:
        for name, rate in self.offered.items():
            self.divert.offered.note(name, rate * TICK, self.now)
        situation = Situation(
            self.classes, self.capacity, self.use, self.backlogged, self.lanes, self.overloaded
        )
        changes = self.divert.tick(self.now, situation)
        self.log += [
            f"{'+' if each.is_diverting else '-'}{each.traffic_class.name} {each.cause}"
            for each in changes
        ]
        self.now += TICK
        return changes

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.tick()

    @property
    def diverting(self) -> Collection[str]:
        return self.divert.diverting


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_fits_does_not_divert(bench: Bench) -> None:
    bench.offer(personal=0.5, telework=0.3, bulk=0.1)
    bench.wait(120)
    assert bench.log == []


def test_only_the_class_that_does_not_fit_diverts_however_far_the_total_exceeds(
    bench: Bench,
) -> None:
    bench.offer(clinical=0.1, personal=0.4, telework=0.2, bulk=20.0)
    bench.wait(ENTER_SECONDS + 1)
    assert bench.log == ["+bulk load"]


def test_it_takes_three_seconds_of_too_much(bench: Bench) -> None:
    bench.offer(bulk=2.0)
    bench.wait(ENTER_SECONDS - TICK)
    bench.use = 0.5
    bench.tick()
    bench.use = 1.0
    bench.wait(ENTER_SECONDS)
    assert bench.log == []
    bench.tick()
    assert bench.log == ["+bulk load"]


def test_nothing_is_too_much_while_the_limit_is_not_in_use(bench: Bench) -> None:
    """The capacity is an estimate that fades; an idle backend refutes it."""
    bench.offer(personal=5.0)
    bench.use = 0.9
    bench.wait(60)
    assert bench.log == []


def test_guarantees_of_worse_classes_that_wait_count_against_a_class(bench: Bench) -> None:
    bench.offer(personal=0.85)
    bench.wait(10)
    assert bench.diverting == frozenset()
    bench.backlogged = {"calendar", "telework"}
    bench.wait(10)
    assert bench.diverting == {"personal", "alarms", "calendar", "telework", "bulk"}


def test_no_worse_class_passes_where_a_better_one_does_not(bench: Bench) -> None:
    """Though the total fits: a worse class has its guarantee, at the expense of a better one."""
    bench.offer(personal=0.85, telework=0.01)
    bench.backlogged = {"telework", "calendar"}
    loads = class_loads(CLASSES, bench.offered, CAPACITY, bench.backlogged)
    assert loads["telework"].sigma is not None
    assert loads["telework"].sigma < loads["telework"].headroom
    bench.wait(10)
    assert "telework" in bench.diverting


def test_the_first_rank_never_diverts(bench: Bench) -> None:
    bench.offer(clinical=3.0)
    bench.overloaded = {"clinical"}
    bench.wait(30)
    assert not bench.divert.is_diverting(CLINICAL)
    assert bench.diverting == {"personal", "alarms", "calendar", "telework", "bulk"}


def test_a_class_that_becomes_the_first_rank_by_a_reload_does_not_divert_any_more(
    bench: Bench,
) -> None:
    bench.offer(bulk=3.0)
    bench.wait(10)
    assert bench.divert.is_diverting(BULK)
    assert not bench.divert.is_diverting(traffic_class("bulk", 0))


def test_a_standing_queue_diverts_a_class_of_an_unknown_backend(bench: Bench) -> None:
    bench.capacity = None
    bench.offer(telework=3.0)
    bench.wait(30)
    assert bench.log == []
    bench.overloaded = {"telework"}
    bench.wait(STANDING_SECONDS)
    assert bench.log == []
    bench.tick()
    assert bench.log == ["+telework waits"]


def test_a_short_queue_does_not(bench: Bench) -> None:
    """As while the limit probes the backend."""
    for _ in range(5):
        bench.overloaded = {"personal"}
        bench.wait(STANDING_SECONDS)
        bench.overloaded = set()
        bench.wait(STANDING_SECONDS)
    assert bench.log == []


def test_it_ends_when_it_has_fitted_for_half_a_minute_and_the_lane_is_empty(bench: Bench) -> None:
    bench.offer(bulk=2.0)
    bench.lanes = {"bulk"}
    bench.wait(10)
    bench.offer(bulk=0.5)
    bench.wait(LEAVE_SECONDS + 60)
    assert bench.diverting == {"bulk"}, "spooled mail of the class would be overtaken"
    bench.lanes = set()
    bench.tick()
    assert bench.log == ["+bulk load", "-bulk room"]


def test_it_does_not_end_just_below_the_mark(bench: Bench) -> None:
    bench.offer(bulk=2.0)
    bench.wait(10)
    bench.offer(bulk=0.93)
    bench.wait(300)
    assert bench.diverting == {"bulk"}
    bench.offer(bulk=0.85)
    bench.wait(LEAVE_SECONDS)
    assert bench.diverting == {"bulk"}
    bench.wait(1)
    assert bench.diverting == frozenset()


def test_it_ends_on_a_steady_day_too(bench: Bench) -> None:
    """The capacity is the most that was seen lately, so hours of the same load look like it."""
    bench.offer(bulk=0.95)
    bench.use = 0.5
    bench.overloaded = {"bulk"}
    bench.wait(STANDING_SECONDS + TICK)
    bench.overloaded = set()
    assert bench.log == ["+bulk waits"]
    bench.wait(LEAVE_SECONDS + 2 * TICK)
    assert bench.log[1:] == ["-bulk room"]


def test_classes_are_restored_one_by_one_the_best_first(bench: Bench) -> None:
    bench.offer(personal=2.0)
    bench.wait(10)
    bench.log.clear()
    bench.offer(personal=0.3)
    times = [bench.now for _ in range(round(200 / TICK)) if bench.tick()]
    assert [each.split()[0][1:] for each in bench.log[2:]] == ["calendar", "telework", "bulk"]
    assert {each.split()[0][1:] for each in bench.log[:2]} == {"personal", "alarms"}
    gaps = [after - before for before, after in pairwise(times)]
    assert all(gap >= RESTORE_SECONDS for gap in gaps)


def test_a_class_with_mail_in_its_lane_keeps_the_worse_ones_but_not_its_like(bench: Bench) -> None:
    bench.offer(personal=2.0)
    bench.wait(10)
    bench.offer(personal=0.1)
    bench.lanes = {"personal"}
    bench.wait(200)
    assert bench.diverting == {"personal", "calendar", "telework", "bulk"}


def test_what_was_seen_before_an_outage_does_not_go_on_after_it(bench: Bench) -> None:
    bench.offer(bulk=2.0)
    bench.wait(ENTER_SECONDS)
    bench.divert.pause()
    bench.now += 600
    bench.offer(bulk=2.0)
    bench.tick()
    assert bench.log == []


def test_a_class_that_a_reload_has_taken_away_is_forgotten(bench: Bench) -> None:
    bench.offer(bulk=2.0)
    bench.wait(10)
    bench.classes = (CLINICAL, PERSONAL)
    bench.tick()
    assert bench.diverting == frozenset()
    assert bench.divert.offered.rate("bulk", bench.now) == 0.0


def test_offered_work_is_a_rate_that_forgets() -> None:
    offered = OfferedWork()
    now = 0.0
    while now < 10 * MEMORY_SECONDS:
        offered.note("one", 0.5, now)  # two slot-seconds a second
        now += 0.25
    assert offered.rate("one", now) == pytest.approx(2.0, rel=0.02)
    assert offered.rate("one", now + MEMORY_SECONDS) == pytest.approx(2.0 / 2.718, rel=0.02)
    assert offered.rate("other", now) == 0.0
    assert offered.rate("one", 0.0) == pytest.approx(2.0, rel=0.02), "a clock that went back"


SHARES = st.dictionaries(
    st.sampled_from([each.name for each in CLASSES]), st.floats(0, 50), max_size=6
)
NAMES = st.sets(st.sampled_from([each.name for each in CLASSES]))


@given(SHARES, st.floats(0.1, 100), NAMES)
def test_loads_only_grow_from_rank_to_rank_and_with_what_is_offered(
    offered: dict[str, float], capacity: float, backlogged: set[str]
) -> None:
    loads = class_loads(CLASSES, offered, capacity, backlogged)
    by_rank = sorted(CLASSES, key=lambda each: each.rank)
    for better, worse in pairwise(by_rank):
        one, other = loads[better.name], loads[worse.name]
        assert one.sigma is not None
        assert other.sigma is not None
        assert one.sigma <= other.sigma
        assert 0.0 <= one.headroom <= other.headroom <= 1.0
        assert one.saturation is not None
        assert 0.0 <= one.saturation <= 1.0
    last = loads["bulk"].sigma
    assert last == pytest.approx(sum(offered.values()) / capacity)
    more = class_loads(CLASSES, {**offered, "clinical": 60.0}, capacity, backlogged)
    for name, load in loads.items():
        assert load.sigma is not None
        assert (more[name].sigma or 0.0) >= load.sigma


def test_equal_ranks_count_together() -> None:
    loads = class_loads(CLASSES, {"personal": 3.0, "alarms": 1.0}, 10.0, {"alarms", "bulk"})
    assert loads["personal"].sigma == loads["alarms"].sigma == pytest.approx(0.4)
    assert loads["personal"].headroom == loads["alarms"].headroom == 1.0
    assert loads["clinical"].headroom == pytest.approx(0.9)
    assert loads["personal"].offered == 3.0


def test_without_a_capacity_there_is_no_share_of_it() -> None:
    for capacity in (None, 0.0):
        load = class_loads(CLASSES, {"personal": 3.0}, capacity, set())["personal"]
        assert (load.sigma, load.saturation) == (None, None)


@given(
    st.lists(
        st.tuples(SHARES, NAMES, NAMES, NAMES, st.floats(0, 1), st.floats(0.25, 40)), max_size=12
    )
)
def test_whatever_happens_those_that_divert_are_no_better_than_they_should_be(
    steps: list[tuple[dict[str, float], set[str], set[str], set[str], float, float]],
) -> None:
    """Rank 0 never; a change is told exactly when it is one; nobody comes back with a full lane."""
    bench = Bench()
    for shares, bench.backlogged, bench.lanes, bench.overloaded, bench.use, seconds in steps:
        bench.offer(**shares)
        for _ in range(round(seconds / TICK)):
            before = bench.divert.diverting
            changes = bench.tick()
            begun = {each.traffic_class.name for each in changes if each.is_diverting}
            ended = {each.traffic_class.name for each in changes if not each.is_diverting}
            assert bench.divert.diverting == (before | begun) - ended
            assert not begun & before
            assert ended <= before
            assert not ended & bench.lanes
            assert len(ended) <= 1
            assert "clinical" not in bench.divert.diverting
