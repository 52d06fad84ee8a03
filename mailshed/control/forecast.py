"""When the spool will be empty, class by class, if mail goes on coming as it does now.

A backlog is work: slot-seconds that the unloaded backend would need for it. Of the capacity, live
mail of the same and better ranks takes its part first, and worse classes with mail waiting have
their guarantees; the rest works the backlog off. So the time is

    T(k) = backlog of rank k and better / (capacity * H(k) - live work of rank k and better)

with H as in `divert`. That is a fluid bound: rounding, retries of deferred mail and a limit that is
still growing come on top, some percent of it. Where live mail alone is as much as there is room
for, the backlog stays or grows, and there is no such time.

Pure.
"""

from collections.abc import Collection, Mapping
from math import inf

from mailshed.control.divert import class_loads
from mailshed.terms import TrafficClass


def drain_seconds(
    classes: Collection[TrafficClass],
    backlog: Mapping[str, float],
    live: Mapping[str, float],
    capacity: float | None,
) -> dict[str, float | None]:
    """Seconds until the backlog of each class is gone; 0 without one, None if it will not be.

    `backlog` has slot-seconds and `live` slot-seconds a second, by the name of the class. All are
    None (but those without a backlog) while the capacity is not known.
    """
    loads = class_loads(
        classes, live, capacity, {name for name, work in backlog.items() if work > 0}
    )
    found: dict[str, float | None] = {}
    for one in classes:
        work = sum(backlog.get(each.name, 0.0) for each in classes if each.rank <= one.rank)
        load = loads[one.name]
        if backlog.get(one.name, 0.0) <= 0:
            found[one.name] = 0.0
        elif capacity is None or load.sigma is None or load.headroom <= load.sigma:
            found[one.name] = None
        else:
            seconds = work / (capacity * (load.headroom - load.sigma))
            found[one.name] = seconds if seconds < inf else None
    return found
