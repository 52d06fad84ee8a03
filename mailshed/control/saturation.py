"""How full each bounded resource is: used over limit, as one number that monitoring can compare.

0 is idle, 1 is at the limit; a backend that is away counts as full, since nothing more goes in.

Free disk is the one that runs the other way: what is used is the reserve, as a share of what is
free, so that the ratio rises to 1 as free space falls to the reserve.

Some resources are there to be used up: slots, the places to wait for one, the memory before the
disk. Being full says nothing about them; what it leads to does, and that is measured apart:

- `backend` is the backend as its clients meet it. With q the messages of ours that queue inside it,
  B the most of them that the limit puts up with, rho the work that is offered over its capacity
  and u the share of the limit in use, it is min(1, max(rho, q / B)) * sqrt(u): 0 when idle, about
  0.7 where the limit wants to be, 1 when more comes than goes through. Where none of that is
  measured, it is u * sqrt(u).
- `waits` is how long even the luckiest of a class have to wait, against twice their target.
- `spool_age` is the age of the oldest spooled message that has not been tried, against four times
  its class's objective. Mail that was tried and deferred waits for something else.

The fullest of the other resources and these is the saturation of the service, and it is the binding
one: it decides what happens next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

# A loop that runs this late (seconds) is as good as full: timers slip and clients notice.
LOOP_LAG_FULL = 0.25


USED_UP = frozenset({"backend_slots", "live_waiting", "content_memory"})
"""Resources that are full in good use."""
WAIT_TARGETS_FULL = 2.0
AGE_OBJECTIVES_FULL = 4.0


@dataclass(frozen=True, slots=True)
class Level:
    """A bounded resource: how much is used, of how much."""

    used: float
    limit: float

    @property
    def ratio(self) -> float:
        """Used over limit; a resource without room at all counts as full once it is asked for."""
        if self.limit > 0:
            return self.used / self.limit
        return 1.0 if self.used > 0 else 0.0


def disk_level(*, free: float, reserve: float) -> Level:
    """How near free space is to the reserve; never above 1, and 0 where nothing is reserved."""
    return Level(reserve, max(free, reserve))


def saturation(levels: Mapping[str, Level], *, is_backend_away: bool) -> dict[str, float]:
    """The ratio of each resource in `levels`, in their order; see the module."""
    ratios = {name: level.ratio for name, level in levels.items()}
    if is_backend_away and "backend_slots" in ratios:
        ratios["backend_slots"] = max(1.0, ratios["backend_slots"])
    return ratios


def backend_saturation(
    *, use: float, offered: float | None, queue: float | None, queue_high: float
) -> float:
    """How hard pressed a backend is that answers, 0 to 1; `offered` or `queue` None: not known."""
    share = min(1.0, max(0.0, use))
    terms = []
    if offered is not None:
        terms.append(offered)
    if queue is not None and queue_high > 0:
        terms.append(queue / queue_high)
    return min(1.0, max(terms, default=share)) * sqrt(share)


def wait_ratio(least_wait: float, target: float | None) -> float:
    """How near a class's least wait is to the patience of CoDel; 0 without a target."""
    return Level(least_wait, WAIT_TARGETS_FULL * target).ratio if target else 0.0


def age_ratio(age: float, objective: float) -> float:
    """How much later than promised the oldest spooled message of a class is."""
    return Level(age, AGE_OBJECTIVES_FULL * objective).ratio


def binding(ratios: Mapping[str, float]) -> str | None:
    """The fullest resource of those that are not there to be used up, the first of equals."""
    pressing = {name: ratio for name, ratio in ratios.items() if name not in USED_UP}
    return max(pressing, key=pressing.__getitem__, default=None)
