"""The two times of a process, real and turned by hand."""

import time

import pytest

from mailshed.clock import Clock, SystemClock
from tests.support.clock import ManualClock


def test_the_system_clock_is_the_operating_systems() -> None:
    clock: Clock = SystemClock()
    before = time.monotonic(), time.time()
    shown = clock.monotonic(), clock.wall()
    after = time.monotonic(), time.time()
    assert before[0] <= shown[0] <= after[0]
    assert before[1] <= shown[1] <= after[1]


def test_the_manual_clock_moves_only_by_hand() -> None:
    clock = ManualClock(monotonic=5.0, wall=100.0)
    held: Clock = clock
    clock.advance(2.5)
    assert (held.monotonic(), held.wall()) == (7.5, 102.5)


def test_the_wall_may_jump_and_monotonic_time_does_not() -> None:
    clock = ManualClock(monotonic=5.0, wall=100.0)
    clock.set_wall(50.0)
    assert (clock.monotonic(), clock.wall()) == (5.0, 50.0)
    with pytest.raises(AssertionError):
        clock.advance(-1.0)
