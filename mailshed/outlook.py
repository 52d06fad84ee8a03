"""How it goes on: what the spool's figures and the station's say together, for the picture.

`load_ratios` has the resources of the saturation that are no plain used-over-limit; `drain` says
when each class's backlog will be gone. Pure: values in, values out.
"""

from collections.abc import Callable, Collection
from math import inf

from mailshed.control.forecast import drain_seconds
from mailshed.control.limit import Reading
from mailshed.control.saturation import age_ratio, backend_saturation, wait_ratio
from mailshed.shedding import Shedding
from mailshed.spool.store import ClassTotals, SpoolTotals
from mailshed.terms import SpoolState, TrafficClass

# Mail that is to be delivered; the rest waits for a person.
DUE = (SpoolState.QUEUED, SpoolState.DEFERRED)

Expected = Callable[[int, int], float | None]
"""Seconds that the unloaded backend needs for a message of a size and a number of recipients."""


def load_ratios(
    shedding: Shedding,
    reading: Reading,
    totals: SpoolTotals,
    classes: Collection[TrafficClass],
    *,
    is_away: bool,
    now: float,
    wall: float,
) -> dict[str, float]:
    """The resources `backend`, `waits` and `spool_age`; see `control.saturation`."""
    return {
        "backend": 1.0
        if is_away
        else backend_saturation(
            use=shedding.use,
            offered=offered_ratio(shedding, reading, now),
            queue=reading.queue,
            queue_high=reading.queue_high,
        ),
        "waits": max(
            (
                min(1.0, wait_ratio(shedding.waits.least_wait(each), each.wait_target))
                for each in classes
            ),
            default=0.0,
        ),
        "spool_age": max(
            (
                min(1.0, age_ratio(_untried_age(totals.by_class, each.name, wall), each.objective))
                for each in classes
                if not shedding.overrides.is_held(each.name)
            ),
            default=0.0,
        ),
    }


def offered_ratio(shedding: Shedding, reading: Reading, now: float) -> float | None:
    """Work that is offered, of all classes, over the capacity; not clipped, None if not known."""
    if not reading.capacity:
        return None
    offered = shedding.divert.offered
    return sum(offered.rate(each.name, now) for each in shedding.classes) / reading.capacity


def drain(
    shedding: Shedding,
    reading: Reading,
    totals: SpoolTotals,
    expected: Expected,
    *,
    is_away: bool,
    now: float,
) -> dict[str, float | None]:
    """Seconds until the spool has no more due mail of each class; None: not known, or never.

    Nothing drains while the backend is away. A class that an operator has limited drains with its
    slots at best; one that is held does not, and takes nothing from the others meanwhile.
    """
    caps = shedding.overrides.caps
    work = backlog(totals.by_class, expected)
    live = {
        each.name: min(shedding.divert.offered.rate(each.name, now), caps.get(each.name, inf))
        for each in shedding.classes
    }
    free = {name: seconds for name, seconds in work.items() if caps.get(name) != 0}
    found = drain_seconds(shedding.classes, free, live, None if is_away else reading.capacity)
    for name in caps.keys() & work.keys() & found.keys():
        room, seconds = caps[name] - live[name], found[name]
        found[name] = max(seconds, work[name] / room) if seconds is not None and room > 0 else None
    return found


def backlog(parts: Collection[ClassTotals], expected: Expected) -> dict[str, float]:
    """Slot-seconds of due mail by class, as if all messages of a class were of its mean size."""
    work: dict[str, float] = {}
    for part in parts:
        if part.state not in DUE or not part.messages:
            continue
        size, recipients = part.octets // part.messages, part.recipients // part.messages
        each = expected(size, max(1, recipients))
        # Of a backend that nothing is known of, any work will do to tell some from none.
        seconds = 1.0 if each is None else each
        name = part.traffic_class
        work[name] = work.get(name, 0.0) + part.messages * seconds
    return work


def _untried_age(parts: Collection[ClassTotals], name: str, wall: float) -> float:
    """Age of the oldest message that waits for a slot and for nothing else; 0 without one."""
    oldest = min(
        (
            part.oldest_wall
            for part in parts
            if part.traffic_class == name and part.state is SpoolState.QUEUED and part.messages
        ),
        default=wall,
    )
    return max(0.0, wall - oldest)
