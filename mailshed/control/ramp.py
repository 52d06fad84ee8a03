"""How many slots spooled mail may have at a time: it is let in step by step, not all at once.

After an outage the spool holds hours of mail, all of it due. The limit keeps that from overrunning
the backend, and the scheduler shares the slots among classes; this keeps the drain from taking all
of them at the moment when least is known about the backend. Its share begins with one slot. It
grows by half, one slot at least, in each window of the limit in which the backend's queue is within
bounds, and halves when the queue is far too long, up to all slots but the reserve and one for live
mail. So the backend's own state paces the drain, and no timer does.

The limit itself wavers about its targets, and the share must not waver with it: halved whenever the
queue is a little long, it takes the drain a fifth longer than need be to empty the spool. So only
twice the target counts as too long. And spooled mail is held back no further than live mail needs.
Beyond its share it comes after all live mail that may start; then it may have what is left (`cap`)
when the most that live mail has had at one time lately is set aside, and one more for the next.
Without any live mail that is all of the slots, so no slot is idle for nobody.

Spooled mail of ranks 0 and 1 is not counted here: it is to be delivered within minutes, and the
share that the scheduler gives it is small beside what it has waited for.

Pure: `now` is monotonic seconds.
"""

from enum import Enum
from math import inf

FREE_RANKS = 2
"""Ranks below this one are not held back."""
LIVE_WINDOW_SECONDS = 5.0
"""Live mail of the last one or two of these counts as what live mail needs."""


class Queue(Enum):
    """How long our own queue inside the backend is, against what the limit aims at."""

    FINE = "fine"
    LONG = "long"
    TOO_LONG = "too_long"


class Ramp:
    """The share of spooled mail in the slots of one backend."""

    def __init__(self) -> None:
        self.slots = 1
        """What spooled mail may have beside live mail that waits."""
        self._live_peak = 0
        self._live_peak_before = 0
        self._peak_until = -inf

    def note_live(self, in_flight: int, now: float) -> None:
        """So many slots are in use by live mail, one of them since now."""
        self._roll(now)
        self._live_peak = max(self._live_peak, in_flight)

    def window(self, queue: Queue, *, limit: int, reserve: int, is_draining: bool) -> None:
        """Learn from one window of the limit; `is_draining`: spooled mail waits or is in flight.

        Without spooled mail nothing is learned, and the share shrinks as it does for a long queue:
        what could be done an hour ago says little.
        """
        most = max(1, limit - reserve - 1)
        if queue is Queue.TOO_LONG or not is_draining:
            self.slots = max(1, min(self.slots, most) // 2)
        elif queue is Queue.FINE:
            self.slots = min(self.slots + max(1, self.slots // 2), most)
        else:
            self.slots = min(self.slots, most)

    def restart(self) -> None:
        """The backend was away, and nobody knows yet how it is."""
        self.slots = 1

    def cap(self, now: float, *, limit: int, reserve: int, live_in_flight: int) -> int:
        """Slots that spooled mail may have now, if no live mail may start."""
        most = max(1, limit - reserve)
        self._roll(now)
        live = max(self._live_peak, self._live_peak_before, live_in_flight)
        left = most - live - 1 if live else most
        return max(1, min(most, max(self.slots, left)))

    def _roll(self, now: float) -> None:
        """Begin a new window of live mail, if this one is over."""
        if now < self._peak_until:
            return
        is_recent = now - self._peak_until < LIVE_WINDOW_SECONDS
        self._live_peak_before = self._live_peak if is_recent else 0
        self._live_peak = 0
        self._peak_until = now + LIVE_WINDOW_SECONDS
