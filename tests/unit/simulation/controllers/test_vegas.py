"""Vegas: what one sample does to the limit, by the queue it speaks of."""

import pytest

from mailshed.control.limit import SlotEnding
from mailshed.simulation.controllers.vegas import VegasLimit
from tests.unit.simulation.controllers.samples import feed


def _limit(start: float) -> VegasLimit:
    """A limit that has seen a message of 0.1 s."""
    limit = VegasLimit(start=start)
    feed(limit, 0.1)
    assert limit.limit(0.0) == start
    return limit


@pytest.mark.parametrize(
    ("start", "service", "after"),
    [
        # log L = 1: queue = ceil(10 (1 - 0.1 / T))
        (10, 0.1, 16),  # 0: no queue, six more
        (10, 0.111, 16),  # 0.99 -> 1
        (10, 0.12, 11),  # 1.67 -> 2: one more
        (10, 0.13, 10),  # 2.31 -> 3: neither below 3 nor above 6
        (10, 0.25, 10),  # 6
        (10, 0.26, 9),  # 6.15 -> 7: one fewer
        # log L = 2: queue = ceil(100 (1 - 0.1 / T))
        (100, 0.102, 112),  # 1.96 -> 2
        (100, 0.105, 102),  # 4.76 -> 5
        (100, 0.108, 100),  # 7.41 -> 8
        (100, 0.12, 98),  # 16.7 -> 17
    ],
)
def test_the_queue_decides(start: float, service: float, after: int) -> None:
    limit = _limit(start)
    feed(limit, service)
    assert limit.limit(0.0) == after


def test_a_drop_is_one_step_down_however_fast_it_was() -> None:
    limit = _limit(10)
    feed(limit, 0.101, ending=SlotEnding.BUSY)
    assert limit.limit(0.0) == 9


def test_who_uses_less_than_half_stays() -> None:
    limit = _limit(10)
    feed(limit, 0.1, in_flight=4)
    assert limit.limit(0.0) == 10
    feed(limit, 0.1, in_flight=5)
    assert limit.limit(0.0) == 16


def test_a_shorter_time_is_the_new_shortest_and_changes_nothing_else() -> None:
    limit = _limit(10)
    feed(limit, 0.05)
    assert limit.limit(0.0) == 10
    feed(limit, 0.1)  # now a queue of 5
    assert limit.limit(0.0) == 10


def test_the_shortest_time_is_forgotten_after_15_limits_of_samples() -> None:
    limit = VegasLimit(start=10)
    for _ in range(149):
        feed(limit, 0.1, in_flight=0)
    feed(limit, 0.2, in_flight=0)  # 0.5 * 30 * 10 samples: this one is the new measure
    feed(limit, 0.2)
    assert limit.limit(0.0) == 16  # no queue
