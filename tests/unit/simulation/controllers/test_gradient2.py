"""Gradient2: one window, and how the long average follows."""

import pytest

from mailshed.control.limit import SlotEnding
from mailshed.simulation.controllers.gradient2 import Gradient2Limit, LongAverage
from tests.unit.simulation.controllers.samples import feed


def _windows(limit: Gradient2Limit, services: list[float], in_flight: int = 999) -> None:
    """One window of ten equal samples for each of `services`; the tenth closes it."""
    for service in services:
        end = limit._window_end
        for index in range(9):
            feed(limit, service, now=end - 0.9 + index * 0.1, in_flight=in_flight)
        feed(limit, service, now=end + 1.0, in_flight=in_flight)


def _open(start: float) -> Gradient2Limit:
    """A limit that is in its first window, which is over at 1.0."""
    limit = Gradient2Limit(start=start)
    limit._window_end = 1.0
    return limit


def test_a_steady_time_adds_a_fifth_of_the_queue() -> None:
    limit = _open(20)
    _windows(limit, [0.1])
    assert limit._estimate == pytest.approx(20.8)  # 0.8 * 20 + 0.2 * (20 + 4)


def test_a_window_has_ten_samples_however_long_that_takes() -> None:
    limit = _open(20)
    for index in range(9):
        feed(limit, now=2.0 + 5.0 * index)
    assert limit._estimate == 20.0
    feed(limit, now=60.0)
    assert limit._estimate == pytest.approx(20.8)


def test_the_average_of_ten_windows_is_plain_and_then_moves_by_two_of_601() -> None:
    average = LongAverage()
    assert [average.add(value) for value in (1.0, 2.0, 3.0)] == [1.0, 1.5, 2.0]
    for _ in range(7):
        average.add(2.0)
    assert average.value == 2.0
    assert average.add(605.0 / 2) == pytest.approx(2.0 + 300.5 * 2 / 601)  # 3


def test_a_time_above_one_and_a_half_averages_lowers_the_limit() -> None:
    limit = _open(20)
    _windows(limit, [0.1] * 9)
    before = limit._estimate
    _windows(limit, [0.5])
    # The tenth still enters the plain mean: 1.4 / 10 = 0.14; gradient 1.5 * 0.14 / 0.5 = 0.42 -> .5
    assert limit._long.value == pytest.approx(0.14)
    assert limit._estimate == pytest.approx(0.8 * before + 0.2 * (0.5 * before + 4))


def test_an_average_over_twice_the_time_of_now_is_lowered() -> None:
    limit = _open(20)
    _windows(limit, [1.0] * 10)
    _windows(limit, [0.1])
    assert limit._long.value == pytest.approx((1.0 - 0.9 * 2 / 601) * 0.95)


def test_who_uses_less_than_half_stays() -> None:
    limit = _open(20)
    _windows(limit, [0.1], in_flight=9)
    assert limit._estimate == 20.0
    _windows(limit, [0.1], in_flight=10)
    assert limit._estimate > 20.0


def test_drops_are_no_times() -> None:
    limit = _open(20)
    for index in range(30):
        feed(limit, 5.0, now=2.0 + index, ending=SlotEnding.STALLED)
    assert limit._long.value == 0.0


def test_under_an_overload_that_lasts_it_learns_the_overload() -> None:
    """The reason why it will not do here: N in flight take N / 8 of the time, and it climbs."""
    limit = _open(4)
    for _ in range(3000):
        slots = limit.limit(0.0)
        _windows(limit, [0.1 * max(1.0, slots / 8)])
    assert limit.limit(0.0) == limit.ceiling
