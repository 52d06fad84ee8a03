"""The watch over waits: a queue that stays is told from one that comes and goes."""

from math import inf

import pytest

from mailshed.admission.codel import INTERVAL_SECONDS, SAMPLES_MIN, WaitWatch
from mailshed.terms import TrafficClass
from tests.support.builders import traffic_class

PERSONAL = traffic_class("personal", 1, wait_target=0.5)
BULK = traffic_class("bulk", 5, wait_target=0.0)
CLINICAL = traffic_class("clinical", 0)


class Bench:
    """A watch, and who waits now."""

    def __init__(self) -> None:
        self.watch = WaitWatch()
        self.now = 100.0
        self.waiting: dict[str, tuple[int, float]] = {}
        self.classes: tuple[TrafficClass, ...] = (CLINICAL, PERSONAL, BULK)

    def serve(self, *waits: float, made: TrafficClass = PERSONAL) -> None:
        for wait in waits:
            self.watch.on_served(made, wait, self.now)

    def pass_interval(self) -> None:
        self.tick()
        self.now += INTERVAL_SECONDS
        self.tick()

    def tick(self) -> None:
        self.watch.tick(self.now, self.classes, lambda made: self.waiting.get(made.name, (0, 0.0)))

    def is_overloaded(self) -> bool:
        return "personal" in self.watch.overloaded


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nothing_is_overloaded_when_nothing_waits(bench: Bench) -> None:
    for _ in range(3):
        bench.pass_interval()
    assert bench.watch.overloaded == frozenset()
    assert bench.watch.patience(PERSONAL) == inf


def test_if_all_have_waited_longer_than_the_target_the_class_is_overloaded(bench: Bench) -> None:
    bench.serve(0.6, 3.0, 0.8)
    assert not bench.is_overloaded(), "an interval is judged at its end"
    bench.pass_interval()
    assert bench.is_overloaded()
    assert bench.watch.patience(PERSONAL) == 1.0, "two targets"
    assert bench.watch.least_wait(PERSONAL) == 0.6


def test_one_that_was_quick_tells_a_burst_from_a_standing_queue(bench: Bench) -> None:
    bench.serve(*[9.0] * 50, 0.5)
    bench.pass_interval()
    assert not bench.is_overloaded()


def test_the_target_itself_is_still_normal(bench: Bench) -> None:
    bench.serve(*[0.5] * 5)
    bench.pass_interval()
    assert not bench.is_overloaded()


def test_it_ends_with_the_first_interval_in_which_somebody_was_quick(bench: Bench) -> None:
    bench.serve(1.0, 1.0, 1.0)
    bench.pass_interval()
    bench.serve(1.0, 0.0, 1.0)
    assert bench.is_overloaded()
    assert bench.watch.least_wait(PERSONAL) == 0.0, "known at once"
    bench.pass_interval()
    assert not bench.is_overloaded()


def test_where_nobody_is_served_the_longest_of_those_who_wait_counts(bench: Bench) -> None:
    bench.waiting["personal"] = (SAMPLES_MIN, 4.0)
    bench.pass_interval()
    assert bench.is_overloaded()
    assert bench.watch.least_wait(PERSONAL) == 4.0


def test_and_so_do_those_who_were_sent_away(bench: Bench) -> None:
    for _ in range(SAMPLES_MIN):
        bench.watch.on_left(PERSONAL, 1.1, bench.now)
    bench.pass_interval()
    assert bench.is_overloaded()


def test_those_sent_away_do_not_hide_one_that_was_quick(bench: Bench) -> None:
    for _ in range(20):
        bench.watch.on_left(PERSONAL, 1.1, bench.now)
    bench.serve(0.1)
    bench.pass_interval()
    assert not bench.is_overloaded()


def test_a_few_messages_say_nothing(bench: Bench) -> None:
    bench.serve(*[5.0] * (SAMPLES_MIN - 1))
    bench.pass_interval()
    assert not bench.is_overloaded()
    bench.serve(*[5.0] * SAMPLES_MIN)
    bench.pass_interval()
    assert bench.is_overloaded()


def test_an_interval_is_not_judged_before_its_end(bench: Bench) -> None:
    bench.tick()
    bench.serve(2.0, 2.0, 2.0)
    bench.now += INTERVAL_SECONDS - 0.01
    bench.tick()
    assert not bench.is_overloaded()
    bench.now += 0.01
    bench.tick()
    assert bench.is_overloaded()


def test_a_class_without_a_target_is_never_overloaded(bench: Bench) -> None:
    bench.serve(*[60.0] * 10, made=CLINICAL)
    bench.waiting["clinical"] = (10, 60.0)
    bench.pass_interval()
    assert bench.watch.overloaded == frozenset()
    assert bench.watch.patience(CLINICAL) == inf
    assert bench.watch.least_wait(CLINICAL) == 0.0


def test_the_first_rank_is_never_overloaded_whatever_its_target(bench: Bench) -> None:
    """It is measured like others, and not sent away; nor if it has become that by a reload."""
    first = traffic_class("personal", 0, wait_target=0.5)
    bench.classes = (first,)
    bench.serve(2.0, 2.0, 2.0, made=first)
    bench.pass_interval()
    assert bench.watch.least_wait(first) == 2.0
    assert not bench.is_overloaded()

    bench.classes = (PERSONAL,)
    bench.serve(2.0, 2.0, 2.0)
    bench.pass_interval()
    assert bench.is_overloaded()
    assert bench.watch.patience(first) == inf


def test_a_target_of_nothing_allows_no_wait(bench: Bench) -> None:
    bench.serve(0.01, 0.02, 0.03, made=BULK)
    bench.pass_interval()
    assert bench.watch.overloaded == {"bulk"}
    assert bench.watch.patience(BULK) == 0.0


def test_a_class_that_a_reload_has_taken_away_is_forgotten(bench: Bench) -> None:
    bench.serve(9.0, 9.0, 9.0)
    bench.pass_interval()
    assert bench.is_overloaded()
    bench.classes = (CLINICAL, BULK)
    bench.tick()
    assert not bench.is_overloaded()
    assert bench.watch.least_wait(PERSONAL) == 0.0
