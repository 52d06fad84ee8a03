"""The shed level: how bad it is, as a number from 0 to 4 that people can say on the phone.

The level is made for people. It follows the pressure (see `pressure`), rising at the marks of
`MARKS` and falling `GAP` below them, so that it does not flicker. Nothing is decided by it: which
mail waits is decided class by class, by what fits (see `divert`). So the pressure alone could say
more than is true: under a flood of bulk mail it is 1, while personal mail passes. From
`BULK_WAITS` on the level therefore says no more than what is: that the classes which wait at it
have begun to.

An operator may force a level, and then it does decide: classes whose `waits_at_level` it reaches
are spooled at once. A class without `waits_at_level` never is, and rank 0 in no case.

Pure.
"""

from collections.abc import Collection, Iterable

from mailshed.terms import ShedLevel, TrafficClass

MARKS = {
    ShedLevel.SLOW_BULK: 0.5,
    ShedLevel.BULK_WAITS: 0.7,
    ShedLevel.WORK_WAITS: 0.85,
    ShedLevel.MOST_WAITS: 0.95,
}
"""The pressure at which each level begins."""
GAP = 0.2
"""So far below its mark the pressure has to fall for a level to end."""
_MARGIN = 1e-9


def level_of(pressure: float, before: ShedLevel) -> ShedLevel:
    """The level that follows `before` at this pressure, by the marks alone."""
    reached = ShedLevel.NORMAL
    for level, mark in MARKS.items():
        held = GAP if level <= before else 0.0
        if pressure >= mark - held - _MARGIN:
            reached = level
    return reached


def reach(
    classes: Iterable[TrafficClass], diverting: Collection[str], *, is_away: bool
) -> ShedLevel:
    """The highest level that is true of the classes: one that waits at it diverts.

    All are true of a backend that is away. The first ones, up to `BULK_WAITS`, always are: they ask
    nothing of a class that may wait.
    """
    if is_away:
        return ShedLevel.MOST_WAITS
    levels = [
        ShedLevel(each.waits_at_level)
        for each in classes
        if each.waits_at_level is not None and each.name in diverting
    ]
    return max(levels, default=ShedLevel.BULK_WAITS)


def derive(pressure: float, before: ShedLevel, reached: ShedLevel) -> ShedLevel:
    """The level to show: what the pressure says, as far as it is true."""
    return min(level_of(pressure, before), max(reached, ShedLevel.BULK_WAITS))


def waits_at(traffic_class: TrafficClass, level: int | None) -> bool:
    """Whether a forced `level` keeps new mail of this class back; None: none is forced."""
    at = traffic_class.waits_at_level
    return level is not None and at is not None and traffic_class.rank > 0 and level >= at
