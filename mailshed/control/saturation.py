"""How full each bounded resource is: used over limit, as one number that monitoring can compare.

0 is idle, 1 is at the limit; a backend that is away counts as full, since nothing more goes in.
The resource with the largest number is the binding one: it decides what happens next.

Free disk is the one that runs the other way: what is used is the reserve, as a share of what is
free, so that the ratio rises to 1 as free space falls to the reserve.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# A loop that runs this late (seconds) is as good as full: timers slip and clients notice.
LOOP_LAG_FULL = 0.25


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
