"""When there is stress, and what it leaves of the limits."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.admission.stress import STRESS_OFF, STRESS_ON, Stress, hurried
from tests.support.builders import session_limits


def test_stress_begins_at_four_fifths_and_ends_below_three() -> None:
    stress = Stress()
    changes = [(count, stress.is_on) for count in [*range(101), *range(100, -1, -1)]
               if stress.note(count, 100)]  # fmt: skip
    assert changes == [(80, True), (59, False)]


def test_between_the_two_it_stays_what_it_was() -> None:
    stress = Stress()
    assert not stress.note(70, 100)
    assert stress.note(80, 100)
    assert not stress.note(70, 100)
    assert stress.is_on


def test_a_reload_that_lowers_the_limit_can_begin_it() -> None:
    stress = Stress()
    stress.note(50, 100)
    assert stress.note(51, 60)
    assert stress.is_on


@pytest.mark.parametrize("sessions_max", [1, 2, 3, 5])
def test_few_sessions_are_enough_for_a_small_limit_but_none_is_never(sessions_max: int) -> None:
    stress = Stress()
    assert stress.note(sessions_max, sessions_max)
    assert stress.is_on
    assert stress.note(0, sessions_max)
    assert not stress.is_on


@given(counts=st.lists(st.integers(0, 200), max_size=50), sessions_max=st.integers(1, 200))
def test_it_follows_the_last_crossing(counts: list[int], sessions_max: int) -> None:
    stress, expected = Stress(), False
    for count in counts:
        stress.note(count, sessions_max)
        if count >= max(1, STRESS_ON * sessions_max):
            expected = True
        elif count < max(1, STRESS_OFF * sessions_max):
            expected = False
        assert stress.is_on is expected


def test_every_deadline_is_short_under_stress_and_every_size_is_what_it_was() -> None:
    normal = session_limits(stress_timeout=10.0, stress_errors_max=3)
    short = hurried(normal)
    changed = {
        each.name for each in fields(normal)
        if getattr(normal, each.name) != getattr(short, each.name)
    }  # fmt: skip
    assert changed == {
        *("command_timeout", "line_timeout", "reply_timeout", "data_timeout", "data_rate_grace"),
        *("session_idle_max", "errors_max"),
    }
    assert {getattr(short, name) for name in changed} == {10.0, 60.0, 3}


def test_no_limit_is_more_generous_under_stress() -> None:
    strict = session_limits(
        command_timeout=1.0,
        line_timeout=2.0,
        reply_timeout=3.0,
        data_timeout=4.0,
        data_rate_grace=5.0,
        session_idle_max=6.0,
        errors_max=1,
        stress_errors_max=3,
    )
    assert hurried(strict) == strict


def test_equal_limits_give_the_same_object() -> None:
    assert hurried(session_limits(errors_max=7)) is hurried(session_limits(errors_max=7))
