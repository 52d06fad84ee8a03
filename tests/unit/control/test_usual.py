import json
from itertools import pairwise
from typing import Any

import pytest

from mailshed.control.usual import COUNT_MAX, HOURS, SURE, WEEK_MINUTES, WEEKS, UsualHours
from mailshed.errors import StateError

TUESDAY_TEN = 34  # of the 168
MIDDLE = TUESDAY_TEN * 60 + 30


def flat(per_hour: float, times: int = SURE) -> UsualHours:
    made = UsualHours()
    for _ in range(times):
        for hour in range(HOURS):
            made.learn(hour, per_hour)
    return made


def test_nothing_is_usual_at_first() -> None:
    usual = UsualHours()

    assert usual.rate(MIDDLE) is None
    assert not usual.is_sure(MIDDLE)


def test_the_median_of_the_last_eight_times_is_usual() -> None:
    usual = UsualHours()
    for messages in (9000, 600, 610, 590, 620, 580, 600, 5000, 600):
        usual.learn(TUESDAY_TEN, messages)

    assert usual.rate(MIDDLE) == pytest.approx(600 / 60, rel=0.01)


def test_one_strange_week_changes_nothing_and_five_new_ones_do() -> None:
    usual = flat(600, WEEKS)

    usual.learn(TUESDAY_TEN, 6000)
    assert usual.rate(MIDDLE) == pytest.approx(10, rel=0.01)

    for _ in range(4):
        usual.learn(TUESDAY_TEN, 1200)
    assert usual.rate(MIDDLE) == pytest.approx(20, rel=0.01)


def test_an_hour_is_borrowed_from_other_workdays_until_it_was_seen_three_times() -> None:
    usual = UsualHours()
    monday, wednesday = 10, 58
    usual.learn(monday, 540)

    assert usual.rate(MIDDLE) == pytest.approx(9)
    assert not usual.is_sure(MIDDLE), "one day is a guess"

    usual.learn(TUESDAY_TEN, 600)
    usual.learn(wednesday, 660)
    assert usual.is_sure(MIDDLE)
    assert usual.rate(MIDDLE) == pytest.approx(10)

    for _ in range(2):
        usual.learn(TUESDAY_TEN, 1200)
    assert usual.rate(MIDDLE) == pytest.approx(20, rel=0.02), "three times by itself"


def test_the_weekend_borrows_nothing_from_the_week() -> None:
    usual = UsualHours()
    saturday_ten = (5 * 24 + 10) * 60
    for day in range(5):
        usual.learn(day * 24 + 10, 600)

    assert usual.rate(saturday_ten) is None
    usual.learn(6 * 24 + 10, 60)
    assert usual.rate(saturday_ten) == pytest.approx(1.0)


def test_inside_an_hour_the_rate_runs_from_middle_to_middle() -> None:
    usual = UsualHours()
    for _ in range(SURE):
        usual.learn(7, 600)
        usual.learn(8, 1800)
        usual.learn(9, 1800)

    rates = [usual.rate(minute) or 0.0 for minute in range(7 * 60 + 30, 8 * 60 + 30)]

    assert rates[0] == pytest.approx(10, rel=0.02)
    assert rates[-1] == pytest.approx(30, rel=0.02)
    assert all(0 < second - first < 0.4 for first, second in pairwise(rates))


def test_beside_an_hour_that_nobody_knows_the_rate_stands_still() -> None:
    usual = UsualHours()
    usual.learn(TUESDAY_TEN, 600)

    assert {usual.rate(TUESDAY_TEN * 60 + inside) for inside in range(60)} == {10.0}


def test_the_week_is_a_circle() -> None:
    usual = flat(60)
    for _ in range(WEEKS):
        usual.learn(HOURS - 1, 180)

    assert usual.rate(0) == pytest.approx(2.0, rel=0.02), "Monday 0:00 is between the two"
    assert usual.rate(WEEK_MINUTES + 30) == usual.rate(30)


def test_growth_by_a_thousandth_is_not_lost_in_rounding() -> None:
    usual = flat(60)

    for _ in range(1000):
        usual.grow(1.001)

    assert usual.rate(MIDDLE) == pytest.approx(1.001**1000, rel=0.01)


def test_what_is_learned_after_growth_counts_as_it_is() -> None:
    usual = flat(600, WEEKS)
    usual.grow(2.0)

    for _ in range(WEEKS):
        usual.learn(TUESDAY_TEN, 900)

    assert usual.rate(MIDDLE) == pytest.approx(15, rel=0.01)


def test_survives_as_json() -> None:
    usual = flat(600)
    usual.learn(TUESDAY_TEN, 1800)
    usual.grow(1.5)

    again = UsualHours.restored(json.loads(json.dumps(usual.document())))

    assert [again.rate(minute) for minute in range(WEEK_MINUTES)] == [
        usual.rate(minute) for minute in range(WEEK_MINUTES)
    ]
    assert again.document() == usual.document()


def good() -> dict[str, Any]:
    return flat(600).document()


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        good() | {"factor": 0},
        good() | {"factor": float("nan")},
        good() | {"factor": "1"},
        good() | {"factor": True},
        good() | {"hours": [1] * 7},
        good() | {"hours": [0.5] * HOURS * WEEKS},
        good() | {"hours": [True] * HOURS * WEEKS},
        good() | {"hours": [-2] * HOURS * WEEKS},
        good() | {"hours": [COUNT_MAX + 1] * HOURS * WEEKS},
        good() | {"hours": ["1"] * HOURS * WEEKS},
    ],
)
def test_what_is_not_ours_is_refused(document: object) -> None:
    with pytest.raises(StateError):
        UsualHours.restored(document)


def test_growth_that_was_for_a_time_leaves_no_trace() -> None:
    """Crises come and go for years, and what is usual between them is as precise as ever."""
    usual = UsualHours()
    for _ in range(5):
        for _ in range(WEEKS):
            usual.learn(10, 7)
        usual.grow(20.0)
    for _ in range(WEEKS):
        usual.learn(10, 7)
    assert usual.rate(10 * 60 + 30) == pytest.approx(7 / 60, rel=0.1)
    assert UsualHours.restored(usual.document()).rate(10 * 60 + 30) == usual.rate(10 * 60 + 30)


def test_growth_has_an_end() -> None:
    usual = UsualHours()
    usual.learn(10, COUNT_MAX)
    usual.grow(20.0)
    usual.grow(20.0)
    assert usual.rate(10 * 60 + 30) == pytest.approx(COUNT_MAX / 60)
    UsualHours.restored(usual.document())
