"""Which classes do not fit any more: their new mail goes to the spool at once, until they do.

The work that is offered is counted in slot-seconds a second, what an unloaded backend would need
for it. Over the classes in their order it adds up: sigma of a class is the work of its rank and all
better ones, over the capacity. What may be used of that is H, which is 1 less the guarantees of
the worse classes that have mail waiting. Where sigma exceeds H the mail does not fit, however long
it waits, so it need not wait. The classes above that boundary are not touched, however far the
total exceeds the capacity: one number for the pressure would send personal mail to the spool
because of a newsletter. The idea is the cursor of DAGOR (Zhou et al., "Overload Control for Scaling
WeChat Microservices", SoCC 2018), in units of work instead of requests.

A class begins to divert when that has been so for `ENTER_SECONDS` while the limit was in use, and
all worse ones with it: guarantees must not make a worse class pass where a better one does not. It
also begins when it still has a standing queue after `STANDING_SECONDS` (see `admission.codel`),
which is what there is to go by where the capacity is not known; a shorter one may be the doing of
the limit, which probes the backend now and then. Either way its mail joins the tail of its lane in
the spool, so each sender's mail stays in order. Diverting ends when sigma has been below 90 % of H
for `LEAVE_SECONDS`, or the limit has not been in use, and the lane is empty; then one class at a
time is restored, the better ones first. Rank 0 never diverts.

`capacity` is slot-seconds a second, None if not known. Pure: `now` is monotonic seconds.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import exp, inf
from typing import NamedTuple

from mailshed.terms import TrafficClass

MEMORY_SECONDS = 30.0
"""Offered work is averaged over so long, by exponential decay: as old in the mean as a window of a
minute, and without its edge."""
ENTER_SECONDS = 3.0
STANDING_SECONDS = 5.0
"""One more interval of the watch over waits, in which some have been sent away already."""
LEAVE_SECONDS = 30.0
RESTORE_SECONDS = 30.0
"""At least so long between one class that is restored and the next."""
LEAVE_SHARE = 0.9
"""Of H, and of `USE_MIN`: it takes less to be restored, or a class would come and go."""
USE_MIN = 0.9
"""Share of the limit in use below which nothing is too much, whatever the figures say."""


class ClassLoad(NamedTuple):
    """How one class stands against the backend's capacity."""

    offered: float
    """Slot-seconds a second of its own."""
    sigma: float | None
    """Share of the capacity that its rank and all better ones ask for; None if not known."""
    headroom: float
    """H: the share that they may have."""

    @property
    def saturation(self) -> float | None:
        """How near its rank is to not fitting, 0 to 1."""
        if self.sigma is None:
            return None
        return min(1.0, self.sigma / self.headroom) if self.headroom > 0 else 1.0


UNKNOWN_LOAD = ClassLoad(0.0, None, 1.0)


class DivertChange(NamedTuple):
    """A class has begun or ceased to divert."""

    traffic_class: TrafficClass
    is_diverting: bool
    cause: str
    """In one word: `load`, `waits` or `room`."""


class OfferedWork:
    """The work of arrivals, by class: an average in slot-seconds a second that decays."""

    def __init__(self) -> None:
        self._rates: dict[str, tuple[float, float]] = {}

    def note(self, name: str, work: float, now: float) -> None:
        """A message of class `name` has arrived that takes `work` slot-seconds."""
        self._rates[name] = self.rate(name, now) + work / MEMORY_SECONDS, now

    def rate(self, name: str, now: float) -> float:
        """Slot-seconds a second."""
        rate, at = self._rates.get(name, (0.0, now))
        return rate * exp(min(0.0, at - now) / MEMORY_SECONDS)

    def keep(self, names: Collection[str]) -> None:
        """Forget the classes that are not in `names`."""
        for name in self._rates.keys() - names:
            del self._rates[name]


class Situation(NamedTuple):
    """What there is to know at one instant; the collections have names of classes."""

    classes: Iterable[TrafficClass]
    capacity: float | None
    use: float
    """Share of the limit in use, averaged over a second or so."""
    backlogged: Collection[str]
    """Of which mail waits, live or spooled."""
    lanes: Collection[str]
    """Of which spooled mail waits."""
    overloaded: Collection[str]
    """Of which live mail has a standing queue."""


@dataclass(slots=True)
class _Mark:
    """Since when a class has had too much, has had a queue, or has fitted; inf: not now."""

    over_since: float = inf
    queue_since: float = inf
    calm_since: float = inf
    is_diverting: bool = False


class Divert:
    """The classes of one backend that divert."""

    def __init__(self) -> None:
        self.offered = OfferedWork()
        self._marks: dict[str, _Mark] = {}
        self._restored_at = -inf

    @property
    def diverting(self) -> frozenset[str]:
        """Names of the classes that divert."""
        return frozenset(name for name, mark in self._marks.items() if mark.is_diverting)

    def is_diverting(self, traffic_class: TrafficClass) -> bool:
        """Whether new mail of this class is to go to the spool at once."""
        mark = self._marks.get(traffic_class.name)
        return mark is not None and mark.is_diverting and traffic_class.rank > 0

    def tick(self, now: float, situation: Situation) -> list[DivertChange]:
        """Let time pass, a few times a second; return what has changed."""
        classes = sorted(situation.classes, key=lambda each: each.rank)
        self._keep({each.name for each in classes})
        loads = class_loads(
            classes,
            {each.name: self.offered.rate(each.name, now) for each in classes},
            situation.capacity,
            situation.backlogged,
        )
        changes = []
        is_over = False
        for traffic_class in classes:
            if traffic_class.rank == 0:
                continue
            load = loads[traffic_class.name]
            is_full = situation.use > USE_MIN
            is_over = is_over or (is_full and load.sigma is not None and load.sigma > load.headroom)
            if cause := self._enters(traffic_class, situation, now, is_over=is_over):
                changes.append(DivertChange(traffic_class, is_diverting=True, cause=cause))
            self._note_calm(traffic_class, load, situation, now)
        if restored := self._restore(classes, situation, now):
            changes.append(DivertChange(restored, is_diverting=False, cause="room"))
        return changes

    def pause(self) -> None:
        """The backend is away: what was seen before it does not go on after it."""
        for mark in self._marks.values():
            mark.over_since = mark.queue_since = mark.calm_since = inf

    def _enters(
        self, traffic_class: TrafficClass, situation: Situation, now: float, *, is_over: bool
    ) -> str:
        """Why the class begins to divert, or nothing if it does not."""
        mark = self._marks.setdefault(traffic_class.name, _Mark())
        mark.over_since = min(mark.over_since, now) if is_over else inf
        is_slow = traffic_class.name in situation.overloaded
        mark.queue_since = min(mark.queue_since, now) if is_slow else inf
        if mark.is_diverting:
            return ""
        has_queue = now - mark.queue_since >= STANDING_SECONDS
        if not has_queue and now - mark.over_since < ENTER_SECONDS:
            return ""
        mark.is_diverting = True
        return "waits" if has_queue else "load"

    def _note_calm(
        self, traffic_class: TrafficClass, load: ClassLoad, situation: Situation, now: float
    ) -> None:
        mark = self._marks[traffic_class.name]
        # On a steady day the load is the most that was seen of the backend, and looks like all of
        # it. That the limit is not in use refutes that, as it does on the way in.
        is_unused = situation.use < LEAVE_SHARE * USE_MIN
        fits = load.sigma is None or is_unused or load.sigma < LEAVE_SHARE * load.headroom
        is_calm = fits and traffic_class.name not in situation.overloaded
        mark.calm_since = min(mark.calm_since, now) if is_calm else inf

    def _restore(
        self, classes: list[TrafficClass], situation: Situation, now: float
    ) -> TrafficClass | None:
        """Let one of the best classes that divert pass again, if one may."""
        diverting = [each for each in classes if self.is_diverting(each)]
        if not diverting or now - self._restored_at < RESTORE_SECONDS:
            return None
        for each in diverting:
            mark = self._marks[each.name]
            if (
                each.rank == diverting[0].rank
                and now - mark.calm_since >= LEAVE_SECONDS
                and each.name not in situation.lanes
            ):
                mark.is_diverting = False
                self._restored_at = now
                return each
        return None

    def _keep(self, names: Collection[str]) -> None:
        """Forget the classes that a reload has taken away."""
        self.offered.keep(names)
        for name in self._marks.keys() - names:
            del self._marks[name]


def class_loads(
    classes: Iterable[TrafficClass],
    offered: Mapping[str, float],
    capacity: float | None,
    backlogged: Collection[str],
) -> dict[str, ClassLoad]:
    """How each class stands; `offered` has slot-seconds a second by name."""
    asked: dict[int, float] = {}
    promised: dict[int, float] = {}
    known = list(classes)
    for each in known:
        asked[each.rank] = asked.get(each.rank, 0.0) + offered.get(each.name, 0.0)
        due = each.guarantee if each.name in backlogged else 0.0
        promised[each.rank] = promised.get(each.rank, 0.0) + due
    sigma: dict[int, float] = {}
    headroom: dict[int, float] = {}
    so_far, worse = 0.0, sum(promised.values())
    for rank in sorted(asked):
        so_far += asked[rank]
        worse -= promised[rank]
        sigma[rank], headroom[rank] = so_far, max(0.0, min(1.0, 1.0 - worse))
    return {
        each.name: ClassLoad(
            offered.get(each.name, 0.0),
            sigma[each.rank] / capacity if capacity else None,
            headroom[each.rank],
        )
        for each in known
    }
