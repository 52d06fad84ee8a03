"""How much mail is usual at this minute of the week: what a surge is measured against.

A week has 168 hours, Monday 0:00 being the first, in the local time of the people who write the
mail. For each hour the messages of the last `WEEKS` times are kept, and their median is usual: one
strange week changes nothing, and a level that is new for good is known after half of them. Until an
hour has been seen `SURE` times by itself, it borrows from the same hour of other days of its kind,
Monday to Friday or the weekend; and until those make `SURE` values too, what is usual is a guess.

Inside an hour, mail does not stand still: between seven and nine in the morning it triples. So the
rate of a minute lies on the line between the middles of two hours. With steps instead of lines, the
end of each such hour looks like a surge.

Pure. Which minute of the week it is comes from whoever knows the time zone, the change of summer
time, and which days count as Sundays. 1,344 numbers of four octets each.
"""

from array import array
from collections.abc import Sequence
from itertools import chain
from math import isfinite
from statistics import median
from typing import TypeGuard

from mailshed.errors import StateError

HOURS = 168
WEEK_MINUTES = 60 * HOURS
WEEKS = 8
"""Values kept of an hour."""
SURE = 3
"""Values that make an hour, or its kind, known."""
COUNT_MAX = 10**9
"""More messages an hour than any service sees; bounds what a file can claim."""
FACTOR_MAX = 2.0
"""Growth is put off until it comes to so much."""
_NONE = -1
_MIDDLE = 30.0
_DAY = 24
_WORKDAYS = 5


class UsualHours:
    """What one kind of mail usually comes to, by hour of the week, in messages."""

    __slots__ = ("_factor", "_known", "_values")

    def __init__(self) -> None:
        # Row by row, the newest first. Whole numbers of messages, each to be taken times the
        # factor, so that growth by a thousandth is not lost in rounding.
        self._values = array("i", [_NONE]) * (HOURS * WEEKS)
        self._factor = 1.0
        self._known: dict[int, tuple[float | None, bool]] = {}
        """What was last found of hours, since it is asked for each minute."""

    def learn(self, hour: int, messages: float) -> None:
        """Note that an ordinary `hour` of the week (0..167) had so many messages."""
        assert 0 <= hour < HOURS
        row = slice(hour * WEEKS, (hour + 1) * WEEKS)
        value = min(COUNT_MAX, round(messages / self._factor))
        self._values[row] = array("i", [value, *self._values[row][:-1]])
        self._known.clear()

    def grow(self, factor: float) -> None:
        """Take all hours as so many times as much from now on."""
        self._factor *= factor
        if self._factor >= FACTOR_MAX:
            # It never falls, so in the end any number of messages would be none beside it.
            self._values = array("i", (self._grown(each) for each in self._values))
            self._factor = 1.0
            self._known.clear()

    def _grown(self, value: int) -> int:
        return value if value == _NONE else min(COUNT_MAX, round(value * self._factor))

    def rate(self, minute: int) -> float | None:
        """Messages a minute that are usual at `minute` of the week; None if nothing is known."""
        hour, inside = divmod(minute % WEEK_MINUTES, 60)
        here, _ = self._look(hour)
        if here is None:
            return None
        distance = inside + 0.5 - _MIDDLE
        beside, _ = self._look((hour + (1 if distance > 0 else -1)) % HOURS)
        if beside is None:
            beside = here
        return self._factor * (here + (beside - here) * abs(distance) / 60) / 60

    def is_sure(self, minute: int) -> bool:
        """Whether enough is known of that hour to call something unusual."""
        return self._look(minute % WEEK_MINUTES // 60)[1]

    def _look(self, hour: int) -> tuple[float | None, bool]:
        """The usual messages of an hour, without the factor, and whether that is sure."""
        if (known := self._known.get(hour)) is None:
            values = self._row(hour)
            if len(values) < SURE:
                values = self._borrowed(hour)
            known = median(values) if values else None, len(values) >= SURE
            self._known[hour] = known
        return known

    def _row(self, hour: int) -> list[int]:
        row = self._values[hour * WEEKS : (hour + 1) * WEEKS].tolist()
        return row[: row.index(_NONE)] if _NONE in row else row

    def _borrowed(self, hour: int) -> list[int]:
        """What is known of the same hour of all days of its kind."""
        return list(chain.from_iterable(map(self._row, _like(hour))))

    # Keeping.

    def document(self) -> dict[str, object]:
        """All values, for JSON: eight an hour, the newest first, -1 for none."""
        return {"factor": self._factor, "hours": self._values.tolist()}

    @classmethod
    def restored(cls, document: object) -> "UsualHours":
        """Make it of a document. Raises StateError if that is not one."""
        made = cls()
        if not isinstance(document, dict):
            raise StateError("usual: expected an object")
        factor, hours = document.get("factor"), document.get("hours")
        if not is_number(factor) or not 0 < factor <= COUNT_MAX:
            raise StateError("factor: expected a number above 0")
        if not isinstance(hours, list) or len(hours) != HOURS * WEEKS:
            raise StateError(f"hours: expected {HOURS * WEEKS} numbers")
        if not all(type(each) is int and _NONE <= each <= COUNT_MAX for each in hours):
            raise StateError(f"hours: expected numbers of messages up to {COUNT_MAX}")
        made._factor, made._values = float(factor), array("i", hours)
        return made


def _like(hour: int) -> Sequence[int]:
    """The same hour of all days of its kind."""
    day, of_day = divmod(hour, _DAY)
    days = range(_WORKDAYS) if day < _WORKDAYS else range(_WORKDAYS, 7)
    return [each * _DAY + of_day for each in days]


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value out of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
