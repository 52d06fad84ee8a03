"""What keeps mail back at one station, apart from slots: one place to ask, and one clock.

- Classes that divert (`control.divert`) have their new mail spooled at once, and so have those that
  an operator holds, or keeps back by a forced level (`control.overrides`, `control.levels`). A
  forced level takes the place of what is derived, exactly: it keeps back the classes that wait at
  it, and diverts no others. A class that is released is kept back by none of these.
- Live mail that waits too long while its class has a standing queue (`admission.codel`) is sent
  away early.
- Spooled mail is let in step by step (`control.ramp`).
- Under pressure (`control.pressure`) quotas bite, and mail servers whose mail can wait get slow
  replies. The shed level that people see follows it.

The station tells of what happens; who decides about a message asks `keeps_back`. Clinical mail,
rank 0, is touched by nothing here. Pure: `now` is monotonic seconds.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from math import exp, inf
from typing import NamedTuple

from mailshed.admission.codel import WaitWatch
from mailshed.control.divert import ClassLoad, Divert, DivertChange, Situation, class_loads
from mailshed.control.levels import derive, reach, waits_at
from mailshed.control.limit import Reading
from mailshed.control.overrides import Overrides
from mailshed.control.pressure import SLOW_MAX, Pressure, slow_reply
from mailshed.control.ramp import Queue, Ramp
from mailshed.terms import Reason, ShedLevel, TrafficClass

USE_SECONDS = 1.0
"""The use of the limit is averaged over about so long."""
TOO_LONG = 2.0
"""A queue inside the backend of so many times its upper target is far too long."""
BLIND_WINDOW_SECONDS = 1.0
"""How often the drain's share moves where the limit has no windows of its own."""


class Standing(NamedTuple):
    """How the station stands at one tick."""

    limit: int
    reserve: int
    in_flight: int
    reading: Reading
    is_away: bool
    is_draining: bool
    """Whether spooled mail of a rank that the ramp counts waits or is in flight."""
    waiting: frozenset[str]
    """Classes that have mail waiting."""
    lanes: frozenset[str]
    """Classes that have spooled mail waiting."""
    live_waits: Callable[[TrafficClass], tuple[int, float]]
    """How many live messages of a class wait, and how long the first of them has."""


class Shedding:
    """What keeps mail back at one station."""

    def __init__(self) -> None:
        self.classes: tuple[TrafficClass, ...] = ()
        """Those of the configuration; without them no class is watched."""
        self.overrides = Overrides()
        self.waits = WaitWatch()
        self.divert = Divert()
        self.ramp = Ramp()
        self.pressure = Pressure()
        self.derived_level = ShedLevel.NORMAL
        self.use = 0.0
        """Share of the limit in use, averaged over a second or so."""
        self._capacity: float | None = None
        self._waiting: frozenset[str] = frozenset()
        self._ticked_at: float | None = None
        self._windows = 0
        self._window_at = 0.0

    # Questions.

    def keeps_back(self, traffic_class: TrafficClass) -> Reason | None:
        """Why new mail of this class is to be spooled at once; None: it may enter."""
        name, level = traffic_class.name, self.overrides.forced_level
        if traffic_class.rank == 0:
            return None
        if self.overrides.is_held(name):
            return Reason.OVERRIDE
        if self.overrides.is_released(name):
            return None
        if level is not None:
            return Reason.OVERRIDE if waits_at(traffic_class, level) else None
        return Reason.DIVERTED if self.divert.is_diverting(traffic_class) else None

    @property
    def level(self) -> ShedLevel:
        """The shed level in force."""
        forced = self.overrides.forced_level
        return self.derived_level if forced is None else ShedLevel(forced)

    @property
    def reply_delay(self) -> float:
        """Seconds by which the reply to MAIL is late for mail servers whose mail can wait."""
        forced = self.overrides.forced_level
        if forced is None:
            return slow_reply(self.pressure.value)
        return SLOW_MAX if forced >= ShedLevel.SLOW_BULK else 0.0

    def can_wait(self, reachable: Iterable[TrafficClass]) -> bool:
        """Whether a message that can turn out to be of these classes gets a slow reply.

        All of them have to be classes whose mail servers may keep what is too much; and if a person
        wanted one of them to pass, none is slowed down.
        """
        return all(
            each.defers_over_quota and each.rank > 0 and not self.overrides.is_released(each.name)
            for each in reachable
        )

    def patience(self, traffic_class: TrafficClass) -> float:
        """After so many seconds live mail of this class should not wait any longer, as it is."""
        forced = self.overrides.forced_level
        if forced is not None or self.overrides.is_released(traffic_class.name):
            return inf
        return self.waits.patience(traffic_class)

    def is_closed(self, traffic_class: TrafficClass, in_flight: int) -> bool:
        """Whether an operator lets no more of this class start, which has so many in flight."""
        most = self.overrides.caps.get(traffic_class.name)
        return most is not None and in_flight >= most and traffic_class.rank > 0

    def full(self, own: Mapping[str, int]) -> Collection[str]:
        """Names of the classes that an operator gives no more slots than they have in `own`."""
        caps = self.overrides.caps
        return [name for name, most in caps.items() if own.get(name, 0) >= most] if caps else ()

    def loads(self, now: float) -> dict[str, ClassLoad]:
        """How each class stands against the capacity, by name."""
        offered = {each.name: self.divert.offered.rate(each.name, now) for each in self.classes}
        return class_loads(self.classes, offered, self._capacity, self._waiting)

    # What happens.

    def note_saturation(self, saturation: float, now: float, *, is_away: bool) -> None:
        """Note how full the service as a whole is; the pressure and the level follow."""
        value = self.pressure.update(saturation, now)
        reached = reach(self.classes, self.divert.diverting, is_away=is_away)
        self.derived_level = derive(value, self.derived_level, reached)

    def tick(self, now: float, standing: Standing) -> list[DivertChange]:
        """Let time pass, four times a second; return which classes begin or cease to divert."""
        self._capacity, self._waiting = standing.reading.capacity, standing.waiting
        self._note_use(now, standing)
        self._turn_ramp(now, standing)
        self.waits.tick(now, self.classes, standing.live_waits)
        self._ticked_at = now
        if standing.is_away:
            self.divert.pause()
            return []
        return self.divert.tick(
            now,
            Situation(
                self.classes,
                standing.reading.capacity,
                self.use,
                standing.waiting,
                standing.lanes,
                self.waits.overloaded,
            ),
        )

    def _note_use(self, now: float, standing: Standing) -> None:
        passed = 0.0 if self._ticked_at is None else max(0.0, now - self._ticked_at)
        kept = exp(-passed / USE_SECONDS)
        self.use = kept * self.use + (1.0 - kept) * min(1.0, standing.in_flight / standing.limit)

    def _turn_ramp(self, now: float, standing: Standing) -> None:
        reading = standing.reading
        if standing.is_away:
            self.ramp.restart()
            return
        if reading.queue is None:
            if now - self._window_at < BLIND_WINDOW_SECONDS:
                return
            self._window_at = now
            queue = Queue.FINE
        elif reading.windows == self._windows:
            return
        else:
            self._windows = reading.windows
            queue = _queue(reading.queue, reading)
        self.ramp.window(
            queue,
            limit=standing.limit,
            reserve=standing.reserve,
            is_draining=standing.is_draining,
        )


def _queue(length: float, reading: Reading) -> Queue:
    if length > TOO_LONG * reading.queue_high:
        return Queue.TOO_LONG
    return Queue.LONG if length > reading.queue_high else Queue.FINE
