"""The limit as a number: how it grows, falls, and comes back."""

import pytest

from mailshed.control.allowance import GOOD_FADE_SECONDS, RECOVERY_SHARE, Allowance


def allowance(start: int = 20) -> Allowance:
    """Between 2 and 100, settled at `start`."""
    made = Allowance(lowest=2, highest=100, start=start)
    made.is_slow_start = False
    made.note_good(1.0)
    return made


@pytest.mark.parametrize(("start", "value"), [(1, 2.0), (4, 4.0), (1000, 100.0)])
def test_it_begins_within_its_bounds_with_a_slow_start(start: int, value: float) -> None:
    made = Allowance(lowest=2, highest=100, start=start)
    assert (made.value, made.is_slow_start) == (value, True)


def test_it_grows_no_further_than_is_allowed() -> None:
    made = allowance()
    made.grow(30.0, 25)
    assert made.value == 25.0
    made.grow(300.0, 200)
    assert made.value == 100.0


def test_it_falls_to_a_part_of_what_was_in_use() -> None:
    made = allowance(60)
    made.cut(0.5, 20.0)
    assert made.value == 10.0
    made.cut(0.5, 100.0)
    assert made.value == 5.0
    made.cut(0.1, 5.0)
    assert made.value == 2.0


def test_a_floor_holds_but_does_not_raise() -> None:
    made = allowance(20)
    made.cut(0.5, 20.0, floor=15.0)
    assert made.value == 15.0
    made.cut(0.5, 15.0, floor=18.0)
    assert made.value == 15.0


def test_a_bound_is_taken_at_once() -> None:
    made = allowance(20)
    made.bound(7)
    assert made.value == 7.0
    made.bound(50)
    assert made.value == 7.0
    made.bound(1)
    assert made.value == 2.0


def test_after_a_fall_the_slow_start_ends_at_half_of_what_was_good() -> None:
    made = allowance(40)
    made.start_again(2.0)
    assert (made.value, made.is_slow_start, made.is_lost) == (2.0, True, True)
    made.grow(19.0, 100)
    assert made.is_slow_start
    made.grow(40 * RECOVERY_SHARE, 100)
    assert not made.is_slow_start


def test_after_a_mistake_it_ends_at_what_was_good() -> None:
    made = allowance(40)
    made.cut(0.25, 40.0)
    made.return_to_good()
    made.grow(30.0, 100)
    assert made.is_slow_start
    made.grow(40.0, 100)
    assert not made.is_slow_start


def test_what_was_good_fades_in_half_an_hour() -> None:
    made = allowance(40)
    made.cut(0.25, 40.0)
    assert made.good == 40.0
    made.note_good(GOOD_FADE_SECONDS)
    assert made.good == pytest.approx(10.0 + 30.0 * 0.368, rel=0.01)
    made.note_good(100 * GOOD_FADE_SECONDS)
    assert not made.is_lost


def test_the_last_step_of_a_slow_start_is_not_good_yet() -> None:
    made = Allowance(lowest=2, highest=100, start=4)
    for _ in range(5):
        made.grow(made.value * 1.5, 100)
        made.note_good(1.0)
    assert made.good == pytest.approx(made.value / 1.5)
