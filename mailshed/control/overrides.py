"""What operators have decided against the rules, for a time: the overrides in force.

There are four kinds. `LEVEL` forces the shed level: while it lasts it replaces the derived one, as
exactly that level, and 0 sheds nothing on purpose. The others are about one class: `HOLD` sends its
new mail to the spool and lets nothing of it out, `LIMIT` gives its mail, live and spooled together,
so many slots of the backend at most, and `RELEASE` exempts it from whatever keeps mail back:
divert, quotas and a forced level.

A class of rank 0 is never held, limited or in need of a release. A new override of the same kind
and class replaces the old one, as when more time is wanted; what contradicts one, a release of a
class that is held, is refused until that is cancelled, since it was somebody's decision. A limit
and a hold of one class can be in force together.

Every override ends by itself. Its end is an instant of the wall clock, since it has to outlive the
process; and, as that clock may be set back, it never lasts longer in one process than it was to
last in all (`ends_at`, monotonic). `expire` also writes a clock that was set back into the end, so
that a restart does not prolong it.

`Overrides` is a value: it is never changed but replaced, so every thread may read it. What it holds
is in force: the keeper calls `expire` every second. Pure: `now` is monotonic seconds, `wall` Unix
time.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from mailshed.errors import RequestError
from mailshed.terms import TrafficClass

SECONDS_DEFAULT = 2 * 3600.0
SECONDS_MAX = 7 * 86400.0
"""Whatever is to last longer belongs in the configuration."""
LEVEL_MAX = 4
SLOTS_MAX = 10_000
OVERRIDES_MAX = 100
REASON_MAX = 500
"""Characters."""
CLOCK_SLACK = 5.0
"""Seconds by which the clocks may differ before the wall clock counts as set back."""


class OverrideKind(Enum):
    """What an override does. Field of logs, label of metrics."""

    LEVEL = "level"  # forces the shed level
    HOLD = "hold"  # keeps a class in the spool
    LIMIT = "limit"  # gives a class so many slots at most
    RELEASE = "release"  # exempts a class from what keeps mail back


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One override in force."""

    number: int
    """What it is known by; never used again, also after a restart."""
    kind: OverrideKind
    traffic_class: str = ""
    """Empty for a level."""
    value: int = 0
    """The level, or the slots."""
    user: str
    """Who wanted it."""
    reason: str
    since_wall: float
    seconds: float
    """How long it was to last."""
    request: str = ""
    """What joins the lines of the audit log about it."""
    ends_at: float = math.inf
    """Monotonic time of its end in this process, if the wall clock does not end it before."""

    def __str__(self) -> str:
        match self.kind:
            case OverrideKind.LEVEL:
                return f"level {self.value}"
            case OverrideKind.LIMIT:
                return f"limit {self.traffic_class} {self.value}"
            case _:
                return f"{self.kind.value} {self.traffic_class}"

    @property
    def until_wall(self) -> float:
        """When it ends by itself (Unix time)."""
        return self.since_wall + self.seconds

    def left(self, now: float, wall: float) -> float:
        """Seconds until then, by whichever clock comes first; not negative."""
        return max(0.0, min(self.until_wall - wall, self.ends_at - now))

    def moved(self, now: float, wall: float) -> "Override":
        """As it is, or with its start moved if the wall clock was set back since."""
        surplus = self.until_wall - wall - (self.ends_at - now)
        return (
            self if surplus <= CLOCK_SLACK else replace(self, since_wall=self.since_wall - surplus)
        )

    @property
    def about(self) -> tuple[OverrideKind, str]:
        """What there is one override of at a time."""
        return self.kind, self.traffic_class


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an operator asks for."""

    kind: OverrideKind
    traffic_class: str = ""
    value: int = 0
    seconds: float = SECONDS_DEFAULT
    reason: str = ""


class Added(NamedTuple):
    """What became of a wish."""

    overrides: "Overrides"
    override: Override
    replaced: Override | None


class Change(NamedTuple):
    """The overrides that stay, and those that do not."""

    overrides: "Overrides"
    ended: tuple[Override, ...]


class Overrides:
    """The overrides in force."""

    __slots__ = ("_held", "_level", "_released", "_slots", "caps", "in_force", "last_number")

    def __init__(self, in_force: Iterable[Override] = (), last_number: int = 0) -> None:
        self.in_force = tuple(in_force)
        """In the order in which they were asked for."""
        self.last_number = last_number
        self._level: int | None = None
        self._slots: dict[str, int] = {}
        held, released = set[str](), set[str]()
        for each in self.in_force:
            match each.kind:
                case OverrideKind.LEVEL:
                    self._level = each.value
                case OverrideKind.HOLD:
                    held.add(each.traffic_class)
                case OverrideKind.LIMIT:
                    self._slots[each.traffic_class] = each.value
                case OverrideKind.RELEASE:
                    released.add(each.traffic_class)
        self._held, self._released = frozenset(held), frozenset(released)
        self.caps: Mapping[str, int] = {**self._slots, **dict.fromkeys(held, 0)}
        """Slots that classes may have at most, by name; 0 for one that is held."""

    def __len__(self) -> int:
        return len(self.in_force)

    # What is in force.

    @property
    def forced_level(self) -> int | None:
        """The shed level, 0 to 4, that replaces the derived one; None: none does."""
        return self._level

    @property
    def held(self) -> frozenset[str]:
        """Names of the classes that are held."""
        return self._held

    def is_held(self, traffic_class: str) -> bool:
        """Whether mail of this class stays in the spool."""
        return traffic_class in self._held

    def slots(self, traffic_class: str) -> int | None:
        """Slots that this class may have at most; None: as many as the rules give."""
        return self._slots.get(traffic_class)

    def is_released(self, traffic_class: str) -> bool:
        """Whether divert, quotas and a forced level do not count for this class."""
        return traffic_class in self._released

    def get(self, number: int) -> Override | None:
        """The override of this number, if it is in force."""
        return next((each for each in self.in_force if each.number == number), None)

    # How it changes.

    def add(
        self,
        wish: Wish,
        classes: Collection[TrafficClass],
        *,
        user: str,
        request: str,
        now: float,
        wall: float,
    ) -> Added:
        """Add what an operator asks for; `classes` are the configured ones.

        Raises RequestError if it makes no sense, or contradicts one that is in force.
        """
        check(wish)
        if wish.kind is not OverrideKind.LEVEL:
            _check_class(wish, classes)
        for each in self.in_force:
            if _contradicts(wish, each):
                raise RequestError(
                    f"class: {wish.traffic_class} is {_PARTICIPLES[each.kind]} by override"
                    f" {each.number} ({each.user}: {each.reason}); if that is to end, say `mailshed"
                    f" override cancel {each.number}`"
                )
        number = self.last_number + 1
        override = Override(
            number=number,
            kind=wish.kind,
            traffic_class=wish.traffic_class,
            value=wish.value,
            user=user,
            reason=wish.reason,
            since_wall=wall,
            seconds=wish.seconds,
            request=request,
            ends_at=now + wish.seconds,
        )
        replaced = next((each for each in self.in_force if each.about == override.about), None)
        kept = [each for each in self.in_force if each is not replaced]
        if len(kept) >= OVERRIDES_MAX:
            raise RequestError(
                f"{OVERRIDES_MAX} overrides are in force, and there may be no more: cancel some,"
                " or change the configuration"
            )
        return Added(Overrides((*kept, override), number), override, replaced)

    def without(self, ended: Collection[Override]) -> "Overrides":
        """The others; those that a clock that was set back has moved meanwhile are the same."""
        numbers = {each.number for each in ended}
        kept = (each for each in self.in_force if each.number not in numbers)
        return Overrides(kept, self.last_number)

    def expire(self, now: float, wall: float) -> Change:
        """End those whose time is over, and move the others along with a clock that was set back.

        The value is the same object if nothing has changed.
        """
        ended = tuple(each for each in self.in_force if not each.left(now, wall))
        kept = tuple(each.moved(now, wall) for each in self.in_force if each not in ended)
        if kept == self.in_force:
            return Change(self, ())
        return Change(Overrides(kept, self.last_number), ended)

    def fit(self, classes: Collection[TrafficClass]) -> Change:
        """End those that the configuration no longer allows: their class is gone, or has rank 0."""
        ranks = {each.name: each.rank for each in classes}
        ended = tuple(
            each
            for each in self.in_force
            if each.kind is not OverrideKind.LEVEL and ranks.get(each.traffic_class, 0) == 0
        )
        return Change(self.without(ended), ended) if ended else Change(self, ())


def check(wish: Wish) -> None:
    """Raise RequestError unless the wish makes sense, whatever the classes are."""
    match wish.kind:
        case OverrideKind.LEVEL if not 0 <= wish.value <= LEVEL_MAX:
            raise RequestError(f"level: expected 0 (sheds nothing) to {LEVEL_MAX}")
        case OverrideKind.LIMIT if not 1 <= wish.value <= SLOTS_MAX:
            raise RequestError(f"slots: expected 1 to {SLOTS_MAX}; for none, hold the class")
        case _:
            pass
    if not 1 <= wish.seconds <= SECONDS_MAX:
        raise RequestError(
            f"for: expected 1s to {SECONDS_MAX / 86400:.0f}d; what is to last longer belongs in the"
            " configuration"
        )
    check_reason(wish.reason)


def check_reason(reason: str) -> None:
    """Raise RequestError unless it is one."""
    if not reason:
        raise RequestError("reason: say why, for the audit log and for whoever comes after you")
    if len(reason) > REASON_MAX or not reason.isprintable():
        raise RequestError(f"reason: expected at most {REASON_MAX} printable characters")


def _check_class(wish: Wish, classes: Collection[TrafficClass]) -> None:
    """Raise RequestError unless there is such a class and this may be done to it."""
    ranks = {each.name: each.rank for each in classes}
    rank = ranks.get(wish.traffic_class)
    if rank is None:
        names = ", ".join(each.name for each in sorted(classes, key=lambda each: each.rank))
        raise RequestError(f"class: there is no {wish.traffic_class!r}, only {names}")
    if rank > 0:
        return
    if wish.kind is OverrideKind.RELEASE:
        raise RequestError(
            f"class: {wish.traffic_class} has rank 0, so nothing ever keeps it back: there is"
            " nothing to release it from"
        )
    raise RequestError(
        f"class: {wish.traffic_class} has rank 0, and such mail is never kept back by an override;"
        " for single messages there is `mailshed queue hold`"
    )


_CONTRARY = {
    OverrideKind.HOLD: (OverrideKind.RELEASE,),
    OverrideKind.LIMIT: (OverrideKind.RELEASE,),
    OverrideKind.RELEASE: (OverrideKind.HOLD, OverrideKind.LIMIT),
}
_PARTICIPLES = {
    OverrideKind.HOLD: "held",
    OverrideKind.LIMIT: "limited",
    OverrideKind.RELEASE: "released",
}


def _contradicts(wish: Wish, other: Override) -> bool:
    return other.traffic_class == wish.traffic_class and other.kind in _CONTRARY.get(wish.kind, ())
