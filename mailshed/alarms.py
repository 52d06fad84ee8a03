"""Many instants at which something may have to be done, and one timer of the event loop for all.

Each message in flight has an instant at which its client has to be answered, and nearly none gets
there. A timer of its own, armed and cancelled twice, costs a message four microseconds; here it is
put into a set and taken out of it. The timer is armed for the earliest instant that it knew when it
was armed. When it rings it looks at all that are pending then, and is armed for the earliest of
those: with messages that take milliseconds, once in the patience of a client. That costs as much
as there are messages in flight, of which the limits allow some hundreds.

Instants are the event loop's time. An alarm rings once, not before its instant, and not at all if
it was cleared before.
"""

import asyncio
from math import inf
from typing import Protocol

# The timers of uvloop are of whole milliseconds, and may ring by half of one too soon.
_RESOLUTION = 0.001


class Alarm(Protocol):
    """Something that is to be done at an instant."""

    @property
    def rings_at(self) -> float:
        """When; it does not change while the alarm is set."""
        ...

    def ring(self) -> None:
        """Do it; never raises."""
        ...


class Alarms:
    """The alarms of one event loop."""

    def __init__(self) -> None:
        self._pending: set[Alarm] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = inf

    def __len__(self) -> int:
        return len(self._pending)

    def set(self, alarm: Alarm) -> None:
        """Let it ring, unless it is cleared before."""
        self._pending.add(alarm)
        if alarm.rings_at < self._armed_for:
            self._arm(alarm.rings_at)

    def clear(self, alarm: Alarm) -> None:
        """It is not to ring any more; one that has rung, or was never set, is ignored."""
        self._pending.discard(alarm)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._armed_for, self._timer = when, loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._armed_for, self._timer = inf, None
        now = asyncio.get_running_loop().time() + _RESOLUTION
        for alarm in [each for each in self._pending if each.rings_at <= now]:
            self._pending.discard(alarm)
            alarm.ring()
        if self._pending:
            self._arm(min(each.rings_at for each in self._pending))
