"""The pressure follows the saturation slowly, and what it turns on does not flicker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.control.pressure import SLOW_MAX, SOFT_OFF, SOFT_ON, Pressure, Switch, slow_reply


def after(*saturations: float, step: float = 1.0) -> Pressure:
    pressure = Pressure()
    for number, saturation in enumerate((0.0, *saturations)):
        pressure.update(saturation, 100.0 + number * step)
    return pressure


def test_a_second_at_full_saturation_is_three_tenths_of_the_way() -> None:
    assert after(1.0).value == pytest.approx(0.3)
    assert after(1.0, 1.0).value == pytest.approx(0.51)


def test_it_depends_on_the_time_and_not_on_how_often_it_is_updated() -> None:
    often = after(*[1.0] * 8, step=0.25)
    assert often.value == pytest.approx(after(1.0, 1.0).value)


def test_what_is_more_than_full_counts_as_full() -> None:
    assert after(7.0).value == after(1.0).value
    assert after(-3.0).value == 0.0


def test_it_is_not_on_before_anything_is_known() -> None:
    pressure = Pressure()
    assert pressure.is_on is None
    pressure.update(1.0, 5.0)
    assert pressure.is_on is False


def test_a_value_of_long_ago_is_forgotten_and_a_clock_that_goes_back_does_no_harm() -> None:
    pressure = after(*[1.0] * 20)
    pressure.update(0.0, 10_000.0)
    assert pressure.value < 0.01
    pressure = after(1.0)
    before = pressure.value
    assert pressure.update(0.0, 0.0) == before


def test_quotas_bite_from_the_upper_mark_down_to_the_lower_one() -> None:
    pressure = Pressure()
    seen = []
    for number, saturation in enumerate([0.6] * 60 + [0.8] * 20 + [0.6] * 60 + [0.4] * 20):
        pressure.update(saturation, float(number))
        seen.append(pressure.is_on)
    assert not any(seen[:60])
    assert seen[79]
    assert all(seen[80:140])
    assert not seen[-1]


@given(st.lists(st.floats(0, 1), max_size=30))
def test_a_switch_is_on_above_and_off_below_its_marks(values: list[float]) -> None:
    switch = Switch(SOFT_ON, SOFT_OFF)
    before = False
    for value in values:
        is_on = switch.update(value)
        if value >= SOFT_ON:
            assert is_on
        elif value < SOFT_OFF:
            assert not is_on
        else:
            assert is_on is before
        before = is_on


@given(st.floats(0, 1), st.floats(0, 1))
def test_replies_are_slower_under_more_pressure_and_never_slower_than_the_most(
    one: float, other: float
) -> None:
    less, more = sorted((one, other))
    assert 0.0 <= slow_reply(less) <= slow_reply(more) <= SLOW_MAX


def test_replies_are_slow_from_half_pressure_on() -> None:
    assert slow_reply(0.5) == 0.0
    assert slow_reply(0.6) == pytest.approx(1.0)
    assert slow_reply(1.0) == SLOW_MAX
