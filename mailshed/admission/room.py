"""Whether one more message of a class may start now: thresholds, guarantees, the clinical reserve.

A *threshold* keeps a class out of the last slots (trunk reservation against lower classes): room
for bulk ends first. Where slots come back fast anyway it is not in force, since it would idle them
for nobody. A *guarantee* lets a class in up to its share whatever the others hold, so that
thresholds starve nobody; what a class does not use of it is lent without asking and comes back with
the next completion. The *reserve* is kept free of all but rank 0. And since a limit is an estimate
and a ceiling is a fact, rank 0 may overdraw the limit, by a quarter or two slots, up to the
ceiling.

Elephants, messages of more than `ELEPHANT_OCTETS`, hold at most a quarter of the slots, so that
what clinical mail may have to wait for is the rest of an ordinary message. Clinical ones are
exempt.

Pure arithmetic on counts.
"""

from typing import NamedTuple

from mailshed.terms import TrafficClass

ELEPHANT_OCTETS = 4 * 1024**2
ELEPHANT_PARTS = 4
"""One of so many parts of the limit is open to elephants; one slot at least."""
OVERDRAFT_PARTS = 4
OVERDRAFT_MIN = 2
"""Rank 0 may use one of so many parts of the limit more than there are, so many slots at least."""
LAST_RESORT_LIMIT = 8
"""From so many slots on each class has one, whatever its guarantee."""
PRESSED_SHARE = 0.7
"""Of the limit: above it the backend is under pressure, and quotas bite."""
WAITING_PARTS = 2
WAITING_MIN = 4
"""As many live messages may wait as a half of the limit, but so many at least."""
# For products that should be whole: 0.55 * 20 is a little more than 11.
_MARGIN = 1e-9


class Occupancy(NamedTuple):
    """The slots of one backend at one instant."""

    in_flight: int
    elephants: int
    """Of those in flight, the large ones below rank 0."""
    limit: int
    ceiling: int
    """Never more than so many, at least `limit`: what the backend or the operator allows."""
    reserve: int = 0
    """Slots that are kept for rank 0."""
    is_brisk: bool = False
    """Slots come back so fast that better classes gain nothing if some are kept free."""


def is_pressed(in_flight: int, limit: int, waiting: int) -> bool:
    """Whether the backend is under pressure: most slots are in use, or somebody waits for one."""
    return waiting > 0 or in_flight > PRESSED_SHARE * limit


def places_to_wait(limit: int) -> int:
    """How many live messages of a rank and better ones may wait; more of it is spooled at once."""
    return max(WAITING_MIN, limit // WAITING_PARTS)


def is_elephant(size: int) -> bool:
    """Whether a message of `size` octets is one that others have to be protected from."""
    return size > ELEPHANT_OCTETS


def may_start(
    traffic_class: TrafficClass,
    own: int,
    occupancy: Occupancy,
    *,
    is_large: bool = False,
    is_starving: bool = False,
) -> bool:
    """Whether a message of this class, which has `own` slots, may take one more.

    A class `is_starving` if it has waited for long without being served: then it may have one slot
    even if the limit is too small to give one to each class all the time.
    """
    in_flight, elephants, limit, ceiling, reserve, is_brisk = occupancy
    if traffic_class.rank == 0:
        return in_flight < min(ceiling, limit + max(OVERDRAFT_MIN, limit // OVERDRAFT_PARTS))
    if in_flight == 0:
        return True  # an idle backend takes anything, whatever shares make of a small limit
    if is_large and elephants >= max(1, limit // ELEPHANT_PARTS):
        return False
    slots = threshold_slots(traffic_class, limit, reserve, is_brisk=is_brisk)
    if in_flight < slots - _MARGIN:
        return True
    share = max(guaranteed_slots(traffic_class, limit), 1 if is_starving else 0)
    return own < share and in_flight < limit - reserve


def threshold_slots(
    traffic_class: TrafficClass, limit: int, reserve: int, *, is_brisk: bool = False
) -> float:
    """While fewer slots than this are in use, the class may start; not always a whole number."""
    if traffic_class.rank == 0:
        return float(limit)
    return (1.0 if is_brisk else traffic_class.threshold) * limit - reserve


def guaranteed_slots(traffic_class: TrafficClass, limit: int) -> int:
    """Slots that the class may have whatever the others hold."""
    share = int(traffic_class.guarantee * limit + _MARGIN)
    return max(share, 1 if limit >= LAST_RESORT_LIMIT else 0)
