"""The best work rate seen lately."""

import pytest

from mailshed.control.capacity import FADE_PER_MINUTE, Capacity


def work(
    capacity: Capacity, rate: float, seconds: int, start: int = 0, *, is_backlogged: bool = False
) -> int:
    """Do `rate` slot-seconds a second for a while, in messages of 0.1; return when that ended."""
    for second in range(start, start + seconds):
        for _ in range(round(rate / 0.1)):
            capacity.note(0.1)
        capacity.tick(float(second + 1), is_backlogged=is_backlogged)
    return start + seconds


def test_nothing_is_known_at_first() -> None:
    capacity = Capacity()
    capacity.tick(0.0, is_backlogged=False)
    assert capacity.estimate == 0.0


def test_it_is_the_work_done_in_a_second() -> None:
    capacity = Capacity()
    capacity.tick(0.0, is_backlogged=False)
    work(capacity, 8.0, 60)
    assert capacity.estimate == pytest.approx(8.0, rel=0.01)


def test_a_lull_does_not_lower_it_but_for_the_fading() -> None:
    capacity = Capacity()
    capacity.tick(0.0, is_backlogged=False)
    now = work(capacity, 8.0, 60)
    work(capacity, 1.0, 600, now)
    assert capacity.estimate == pytest.approx(8.0 * (1 - FADE_PER_MINUTE) ** 10, rel=0.01)


def test_a_silence_fades_it_too() -> None:
    capacity = Capacity()
    capacity.tick(0.0, is_backlogged=False)
    now = work(capacity, 8.0, 60)
    capacity.tick(now + 6000.0, is_backlogged=False)
    assert capacity.estimate == pytest.approx(8.0 * (1 - FADE_PER_MINUTE) ** 100, rel=0.02)


def test_one_lucky_window_is_not_believed() -> None:
    capacity = Capacity()
    capacity.tick(0.0, is_backlogged=False)
    now = work(capacity, 8.0, 60)
    now = work(capacity, 16.0, 10, now)
    work(capacity, 8.0, 10, now)
    assert capacity.estimate == pytest.approx(8.0, rel=0.01)


def test_more_is_seen_within_half_a_minute() -> None:
    capacity = Capacity()
    capacity.tick(0.0, is_backlogged=False)
    now = work(capacity, 8.0, 60)
    work(capacity, 12.0, 20, now)
    assert capacity.estimate == pytest.approx(12.0, rel=0.01)


def test_few_messages_need_a_longer_window() -> None:
    capacity = Capacity()
    capacity.tick(0.0, is_backlogged=False)
    capacity.note(5.0)
    capacity.tick(10.0, is_backlogged=False)
    assert capacity.estimate == 0.0
    capacity.tick(60.0, is_backlogged=False)
    assert capacity.estimate == pytest.approx(5.0 / 60)


def test_new_expected_times_are_another_unit() -> None:
    capacity = Capacity()
    capacity.tick(0.0, is_backlogged=False)
    work(capacity, 8.0, 60)
    capacity.rescale(2.0)
    assert capacity.estimate == pytest.approx(16.0, rel=0.01)


def test_a_calm_day_proves_nothing() -> None:
    capacity = Capacity()
    capacity.tick(0.0, is_backlogged=False)
    now = work(capacity, 2.0, 600)
    seen = [capacity.is_proven]
    work(capacity, 8.0, 10, now, is_backlogged=True)
    seen.append(capacity.is_proven)
    assert seen == [False, True]
    assert capacity.estimate == pytest.approx(8.0, rel=0.01), "at once"


def test_what_was_seen_of_it_is_the_least_that_is_proven() -> None:
    capacity = Capacity()
    capacity.tick(0.0, is_backlogged=False)
    now = work(capacity, 8.0, 60)
    work(capacity, 4.0, 10, now, is_backlogged=True)
    assert capacity.estimate == pytest.approx(8.0, rel=0.01)
