"""The detector of one kind of mail: its rules, then its figures.

The figures are those of simulated traffic (`tests.support.surge_traffic`), seeded, so that each run
is the same. Bounds leave a third to chance.
"""

import json
from copy import deepcopy
from itertools import count
from random import Random
from typing import Any

import pytest

from mailshed.control import surge as module
from mailshed.control.surge import (
    ADOPT_MAX,
    CALM_MINUTES,
    CRISIS_MINUTES,
    PHI_FIRST,
    RATE_MIN,
    WINDOW,
    Surge,
)
from mailshed.control.usual import HOURS, WEEK_MINUTES, WEEKS
from mailshed.errors import StateError
from tests.support.surge_traffic import (
    DAY,
    MONDAY_TEN,
    experienced,
    flat,
    messages,
    minutes_to_alarm,
    week,
)

MEAN = 20


def knowing(mean: float = MEAN) -> Surge:
    """A detector to which `mean` a minute is usual, all week, without any spread."""
    made = Surge()
    for _ in range(WEEKS):
        for hour in range(HOURS):
            made.usual.learn(hour, mean * 60)
    return made


def feed(surge: Surge, per_minute: int, minutes: int, start: int = MONDAY_TEN) -> int:
    """Note so much in each of some minutes; return where in the week that ends."""
    for minute in range(start, start + minutes):
        surge.note(per_minute, minute % WEEK_MINUTES)
    return (start + minutes) % WEEK_MINUTES


# When there is an alarm.


def test_the_usual_is_no_surge() -> None:
    surge = knowing()

    feed(surge, MEAN, DAY)

    assert not surge.is_alarm
    assert surge.ratio == pytest.approx(1.0)
    assert surge.expected == pytest.approx(MEAN)


def test_twice_the_usual_is_one() -> None:
    surge = knowing()
    here = feed(surge, MEAN, 60)

    feed(surge, 2 * MEAN, 15, here)

    assert surge.is_alarm
    assert surge.score == 0.0, "it has said what it had to say"


def test_the_ratio_is_of_the_last_half_hour_with_one_more_on_both_sides() -> None:
    surge = knowing()
    here = feed(surge, 7 * MEAN, 60)
    feed(surge, 3 * MEAN, WINDOW, here)

    assert surge.messages == WINDOW * 3 * MEAN
    assert surge.ratio == pytest.approx((WINDOW * 3 * MEAN + 1) / (WINDOW * MEAN + 1))


def test_the_sum_is_the_likelihood_ratio_of_the_negative_binomial() -> None:
    from math import lgamma, log  # noqa: PLC0415 - only here

    surge = knowing()
    phi = surge.phi

    def likelihood(n: int, mean: float) -> float:
        size, share = 1 / phi, phi * mean / (1 + phi * mean)
        return (
            lgamma(n + size)
            - lgamma(size)
            - lgamma(n + 1)
            + n * log(share)
            - size * log(1 + phi * mean)
        )

    surge.note(35, MONDAY_TEN)

    assert phi == PHI_FIRST
    assert surge.score == pytest.approx(likelihood(35, 2 * MEAN) - likelihood(35, MEAN))


def test_without_spread_it_is_that_of_poisson() -> None:
    from math import log  # noqa: PLC0415 - only here

    surge = knowing()
    feed(surge, MEAN, 4 * WEEK_MINUTES, 0)
    assert surge.phi == 0.0

    surge.note(35, 0)

    assert surge.score == pytest.approx(35 * log(2) - MEAN, rel=1e-3)


def test_before_three_days_there_is_a_ratio_and_no_alarm() -> None:
    surge = Surge()
    feed(surge, MEAN, 2 * DAY, 0)

    feed(surge, 10 * MEAN, 120, 2 * DAY + 600)

    assert not surge.is_alarm
    assert surge.ratio is not None
    assert surge.ratio > 9


def test_the_first_day_has_no_ratio() -> None:
    surge = Surge()

    feed(surge, MEAN, 600, 0)

    assert surge.ratio is None


def test_an_alarm_ends_where_nothing_is_known() -> None:
    """The first Friday's goes on into a Saturday of which nobody knows what is usual."""
    surge = Surge()
    here = feed(surge, MEAN, 5 * DAY - 120, 0)
    here = feed(surge, 3 * MEAN, 120, here)
    assert surge.alarm_minutes > 0

    feed(surge, 3 * MEAN, WINDOW, here)

    assert not surge.is_alarm
    assert surge.messages == WINDOW * 3 * MEAN
    assert surge.ratio is None


def test_after_three_days_there_is_an_alarm() -> None:
    surge = Surge()
    feed(surge, MEAN, 3 * DAY, 0)

    feed(surge, 3 * MEAN, 30, 3 * DAY + 600)

    assert surge.is_alarm


def test_a_handful_at_night_is_no_surge() -> None:
    surge = knowing(0.05)

    feed(surge, 1, 6 * 60)

    assert surge.expected == RATE_MIN
    assert not surge.is_alarm


def test_a_day_that_is_a_third_busier_is_no_surge_and_is_expected_to_go_on() -> None:
    surge = knowing()

    here = feed(surge, MEAN * 4 // 3, 12 * 60)

    assert not surge.is_alarm
    assert surge.expected == pytest.approx(MEAN * 1.3, rel=0.1)
    assert surge.ratio == pytest.approx(1.3, rel=0.05), "against what is usual, not the day"
    feed(surge, MEAN * 3, 30, here)
    assert surge.is_alarm


def test_after_a_quiet_morning_the_usual_is_no_surge() -> None:
    surge = knowing()
    here = feed(surge, 0, 5 * 60)

    feed(surge, MEAN, 60, here)

    assert surge.day == 1.0
    assert not surge.is_alarm


def test_a_long_tick_counts_as_its_minutes() -> None:
    surge = knowing()

    for minute in range(MONDAY_TEN, MONDAY_TEN + 90, 3):
        surge.note(3 * MEAN, minute, 3.0)

    assert not surge.is_alarm
    assert surge.ratio == pytest.approx(1.0)


def test_while_the_clock_is_doubted_no_alarm_begins() -> None:
    surge = knowing()

    for minute in range(30):
        surge.note(5 * MEAN, MONDAY_TEN + minute, is_doubtful=True)

    assert not surge.is_alarm


def test_what_was_not_expected_is_returned() -> None:
    surge = knowing()

    assert surge.note(3 * MEAN, MONDAY_TEN) == pytest.approx(2 * MEAN)
    assert surge.note(MEAN // 2, MONDAY_TEN + 1) == 0.0


# When it ends.


def surging(minutes: int = 60) -> tuple[Surge, int]:
    surge = knowing()
    return surge, feed(surge, 2 * MEAN, minutes)


def test_an_alarm_ends_when_half_an_hour_was_nearly_as_usual() -> None:
    surge, here = surging()

    feed(surge, MEAN, 20, here)
    assert surge.alarm_minutes > 0
    feed(surge, MEAN, 10, here + 20)
    assert surge.alarm_minutes == 0
    assert surge.is_crisis


def test_an_alarm_does_not_end_between_the_two_marks() -> None:
    surge, here = surging()

    feed(surge, round(1.3 * MEAN), 10 * 60, here)

    assert surge.is_alarm


def test_an_alarm_counts_its_minutes() -> None:
    surge = knowing()
    for passed in count(1):
        surge.note(2 * MEAN, MONDAY_TEN + passed)
        if surge.is_alarm:
            break

    feed(surge, 2 * MEAN, 44, MONDAY_TEN + passed + 1)

    assert surge.alarm_minutes == 45


# What is learned.


def test_nothing_is_learned_from_an_alarm() -> None:
    surge = knowing()
    before, phi = surge.usual.document(), surge.phi

    here = feed(surge, 3 * MEAN, 20)
    day = surge.day
    feed(surge, 3 * MEAN, 3 * DAY, here)

    assert surge.is_alarm
    assert surge.usual.document() == before
    assert surge.day == day
    assert surge.phi == phi


def test_nor_from_the_minutes_before_it() -> None:
    surge = knowing()
    here = feed(surge, MEAN * 8 // 5, 30)
    assert surge.alarm_minutes > 0

    feed(surge, MEAN, 200, here)

    assert not surge.is_alarm
    assert surge.phi < PHI_FIRST / 4, "each minute since had less spread than that"


def test_a_surge_stays_unusual_for_days() -> None:
    surge = knowing()

    feed(surge, 2 * MEAN, 10 * DAY)

    assert surge.is_alarm
    assert surge.ratio == pytest.approx(2.0, rel=0.02)


def test_an_hour_is_learned_from_half_of_its_minutes() -> None:
    surge = Surge()
    feed(surge, 10, 30, 30)
    feed(surge, 20, 29, 60)
    surge.close_hour()

    assert surge.usual.rate(30) == 10.0, "the second one had too few"
    assert surge.usual.document()["hours"].count(-1) == HOURS * WEEKS - 1  # type: ignore[attr-defined]


def test_over_dispersion_is_found_out() -> None:
    for phi in (0.0, 0.05, 0.3):
        surge = experienced(Random(3), 20, phi, days=5)
        assert surge.phi == pytest.approx(phi, abs=0.02 + phi / 10)


def test_one_wild_minute_does_not_make_mail_wild() -> None:
    surge = knowing()
    feed(surge, MEAN, 2 * DAY)
    phi = surge.phi

    surge.note(100 * MEAN, MONDAY_TEN, is_doubtful=True)

    assert surge.phi < phi + 0.02


# A new level.


def test_after_two_weeks_a_crisis_becomes_usual_by_a_tenth_a_week() -> None:
    surge = knowing()
    here = feed(surge, 3 * MEAN, int(CRISIS_MINUTES) + 30)
    feed(surge, 3 * MEAN, WEEK_MINUTES, here)

    assert surge.is_alarm
    assert surge.usual.rate(MONDAY_TEN) == pytest.approx(1.1 * MEAN, rel=0.01)
    assert surge.expected == pytest.approx(1.1 * MEAN, rel=0.03)


def test_nights_without_an_alarm_do_not_end_a_crisis() -> None:
    surge = knowing()
    here = 0
    for _ in range(25):
        here = feed(surge, 3 * MEAN, 10 * 60, here)
        here = feed(surge, MEAN, 14 * 60, here)

    rate = surge.usual.rate(MONDAY_TEN)
    assert rate is not None
    assert 1.1 * MEAN < rate < 1.2 * MEAN


def test_three_calm_days_end_a_crisis() -> None:
    surge, here = surging()
    here = feed(surge, MEAN, int(CALM_MINUTES) - 30, here)
    assert "crisis" in surge.document()

    feed(surge, MEAN, 90, here)

    assert not surge.is_crisis
    assert surge.adopt() == 1.0


def test_a_person_can_say_at_once_that_it_is_usual() -> None:
    surge, here = surging(300)

    factor = surge.adopt()

    assert factor == pytest.approx(2.0, rel=0.02)
    assert not surge.is_alarm
    feed(surge, 2 * MEAN, 120, here)
    assert not surge.is_alarm
    assert surge.ratio == pytest.approx(1.0, rel=0.02)


def test_a_person_can_say_so_at_night_too() -> None:
    surge, here = surging(300)
    feed(surge, MEAN, 120, here)
    assert not surge.is_alarm

    assert surge.adopt() == pytest.approx(2.0, rel=0.1), "of the hours with an alarm"


def test_what_is_adopted_has_a_bound() -> None:
    surge = knowing()
    feed(surge, 1000 * MEAN, 60)

    assert surge.adopt() == ADOPT_MAX


# Keeping.


def test_survives_as_json() -> None:
    surge = knowing()
    here = feed(surge, MEAN, 60)
    here = feed(surge, 2 * MEAN, 60, here)

    again = Surge.restored(json.loads(json.dumps(surge.document())))

    assert again.is_alarm
    assert (again.alarm_minutes, again.phi) == (surge.alarm_minutes, surge.phi)
    feed(again, 2 * MEAN, 60, here)
    assert again.is_alarm
    assert again.adopt() == pytest.approx(2.0, rel=0.05)


def test_an_alarm_that_survived_a_restart_ends() -> None:
    surge, here = surging()
    again = Surge.restored(json.loads(json.dumps(surge.document())))

    feed(again, MEAN, WINDOW, here)

    assert not again.is_alarm


def good(**changes: Any) -> dict[str, Any]:
    return surging()[0].document() | changes


@pytest.mark.parametrize(
    "document",
    [
        None,
        7,
        {},
        good(usual=None),
        good(phi=[1.0]),
        good(phi=[1.0, 0.0]),
        good(phi=[1.0, "2"]),
        good(phi=[float("inf"), 1.0]),
        good(crisis=[1.0, 2.0]),
        good(crisis=None),
        good(crisis=[1.0, 2.0, 3.0, -1.0]),
        good(alarm_minutes=None),
    ],
)
def test_what_is_not_ours_is_refused(document: object) -> None:
    with pytest.raises(StateError):
        Surge.restored(document)


# Figures.

DELAYS = [
    # messages a minute, phi, minutes until the alarm at twice as many
    (50, 0.0, 1.1),
    (50, 0.05, 3.1),
    (50, 0.2, 10.0),
    (10, 0.0, 3.8),
    (10, 0.05, 5.8),
    (10, 0.2, 12.5),
    (2, 0.0, 18.0),
    (2, 0.05, 21.0),
]


@pytest.mark.parametrize(("mean", "phi", "expected"), DELAYS)
def test_twice_the_mail_is_found_as_soon_as_theory_says(
    mean: float, phi: float, expected: float
) -> None:
    rng = Random(1)
    surge = experienced(rng, mean, phi)
    delays = [minutes_to_alarm(deepcopy(surge), rng, 2 * mean, phi) for _ in range(60)]

    assert 0.75 * expected < sum(delays) / len(delays) < 1.33 * expected + 0.5


@pytest.mark.parametrize(("mean", "phi"), [(50, 0.0), (50, 0.2), (10, 0.05), (2, 0.05)])
def test_chance_is_rarely_taken_for_a_surge(mean: float, phi: float) -> None:
    """Twenty days in each of four settings: once in all of them would be right."""
    rng = Random(int(mean * 100 + phi * 10))
    surge = experienced(rng, mean, phi)

    assert _alarms(surge, rng, mean, phi, flat, days=20) == 0


def test_the_morning_is_not_a_surge() -> None:
    """From seven to nine mail triples, day after day; what is usual was learned from it."""
    rng = Random(11)
    surge = Surge()
    for _ in range(3):
        for hour in range(HOURS):
            of_hour = [week(hour * 60 + inside) for inside in range(60)]
            surge.usual.learn(hour, sum(messages(rng, 30 * each, 0.05) for each in of_hour))

    assert _alarms(surge, rng, 30, 0.05, week, days=14) == 0


def _alarms(surge: Surge, rng: Random, mean: float, phi: float, shape: Any, *, days: int) -> int:
    begun = 0
    for minute in range(days * DAY):
        was_alarm = surge.is_alarm
        surge.note(messages(rng, mean * shape(minute), phi), minute % WEEK_MINUTES)
        begun += surge.is_alarm and not was_alarm
    return begun


def test_the_marks_leave_a_gap() -> None:
    """At the rate where the sum stands still an alarm may not end, or it would come and go."""
    from math import log  # noqa: PLC0415 - only here

    assert (module.RHO - 1) / log(module.RHO) > module.CLEAR
