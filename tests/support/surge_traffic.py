"""Mail by the minute for tests of the surge watch: a hospital's week, with chance in it.

Counts are negative-binomial, a Poisson number whose rate is gamma-distributed: with a variance of
``mu + phi mu^2``, as is assumed, and as real mail roughly has, since one event makes several
messages. Everything comes from the `random.Random` that is passed in.
"""

from math import exp
from random import Random

from mailshed.control.surge import Surge
from mailshed.control.usual import HOURS, WEEK_MINUTES

# Of a working day, by hour, in parts of its mean.
_PROFILE = (
    *(0.15, 0.1, 0.1, 0.1, 0.12, 0.2, 0.4, 1.0, 2.0, 2.4, 2.3, 2.0),
    *(1.4, 1.8, 2.2, 2.1, 1.9, 1.5, 1.0, 0.7, 0.5, 0.4, 0.3, 0.2),
)
_WEEKEND = 0.3
MONDAY_TEN = 10 * 60
DAY = 1440


def poisson(rng: Random, mean: float) -> int:
    """A Poisson number; the normal approximation where nobody can tell."""
    if mean > 40:
        return max(0, round(rng.gauss(mean, mean**0.5)))
    floor, product, number = exp(-mean), rng.random(), 0
    while product > floor:
        product *= rng.random()
        number += 1
    return number


def messages(rng: Random, mean: float, phi: float) -> int:
    """The messages of one minute."""
    return poisson(rng, mean * rng.gammavariate(1 / phi, phi) if phi else mean)


def flat(_: int) -> float:
    """A week without days and nights."""
    return 1.0


def week(minute: int) -> float:
    """A hospital's week: how busy that minute is, in parts of the mean of a working day."""
    hour, inside = divmod(minute % WEEK_MINUTES, 60)
    distance = inside + 0.5 - 30
    here, beside = _hour(hour), _hour(hour + (1 if distance > 0 else -1))
    return here + (beside - here) * abs(distance) / 60


def _hour(hour: int) -> float:
    day, of_day = divmod(hour % HOURS, 24)
    return _PROFILE[of_day] * (1.0 if day < 5 else _WEEKEND)


def experienced(rng: Random, mean: float, phi: float, days: int = 2) -> Surge:
    """A detector that has seen three flat weeks, and `days` of them minute by minute.

    It ends at midnight between Sunday and Monday.
    """
    surge = Surge()
    for _ in range(3):
        for hour in range(HOURS):
            surge.usual.learn(hour, sum(messages(rng, mean, phi) for _ in range(60)))
    for minute in range(WEEK_MINUTES - days * DAY, WEEK_MINUTES):
        surge.note(messages(rng, mean, phi), minute)
    return surge


def minutes_to_alarm(
    surge: Surge, rng: Random, mean: float, phi: float, *, start: int = MONDAY_TEN
) -> int:
    """After how many minutes of this `mean` a detector has an alarm; 300 if it has none."""
    for passed in range(300):
        surge.note(messages(rng, mean, phi), start + passed)
        if surge.is_alarm:
            return passed + 1
    return 300
