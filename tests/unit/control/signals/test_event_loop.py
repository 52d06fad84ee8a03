"""Lag is what the loop made the task wait for, and nothing else."""

import pytest

from mailshed.control.signals.event_loop import WINDOW_TICKS, EventLoopLag

INTERVAL = 0.25


@pytest.fixture
def lag() -> EventLoopLag:
    return EventLoopLag(INTERVAL)


def test_the_first_tick_is_never_late(lag: EventLoopLag) -> None:
    assert lag.recent_max == 0.0
    assert lag.tick(1000.0) == 0.0


def test_is_the_time_beyond_the_interval(lag: EventLoopLag) -> None:
    lag.tick(1000.0)
    lag.rest(1000.0)
    assert lag.tick(1000.0 + INTERVAL + 0.5) == pytest.approx(0.5)
    assert lag.recent_max == pytest.approx(0.5)


def test_does_not_count_what_the_task_itself_waited_for(lag: EventLoopLag) -> None:
    """A tick of three seconds, because a disk was slow, blocked nobody."""
    lag.tick(1000.0)
    lag.rest(1003.0)
    assert lag.tick(1003.0 + INTERVAL) == 0.0


def test_a_tick_out_of_turn_is_not_late(lag: EventLoopLag) -> None:
    lag.rest(1000.0)
    assert lag.tick(1000.1) == 0.0
    assert lag.tick(1900.0) == 0.0, "nobody slept in between"


def test_the_maximum_forgets_after_a_while(lag: EventLoopLag) -> None:
    lag.rest(0.0)
    lag.tick(INTERVAL + 1.0)
    for _ in range(WINDOW_TICKS - 1):
        lag.tick(5.0)
    assert lag.recent_max == pytest.approx(1.0)
    lag.tick(5.0)
    assert lag.recent_max == 0.0


def test_one_stall_is_not_how_the_loop_runs(lag: EventLoopLag) -> None:
    assert lag.recent_high == 0.0
    for number in range(WINDOW_TICKS):
        lag.rest(float(number))
        lag.tick(number + INTERVAL + (2.0 if number % 20 == 7 else 0.01))
    assert lag.recent_max == pytest.approx(2.0)
    assert lag.recent_high == pytest.approx(0.01)


def test_a_loop_that_is_late_each_second_time_runs_late(lag: EventLoopLag) -> None:
    for number in range(WINDOW_TICKS):
        lag.rest(float(number))
        lag.tick(number + INTERVAL + (0.5 if number % 2 else 0.0))
    assert lag.recent_high == pytest.approx(0.5)
