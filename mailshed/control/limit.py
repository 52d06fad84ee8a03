"""How many messages one backend may have in flight at a time.

This is the seam of the control system: the gate asks `limit(now)` before it hands out a slot and
tells `on_end(now, sample)` when a slot comes back. `FixedLimit` answers with the configured number
and learns nothing; an adaptive limit answers from the samples. A limit has no clock and does no
I/O, so a simulation can run the very object that the service runs.
"""

from dataclasses import dataclass
from enum import Enum


class SlotEnding(Enum):
    """How the holder of a slot fared, as far as the limit is concerned."""

    COMPLETED = "completed"  # the backend gave a final answer, 2xx or 5xx
    BUSY = "busy"  # the backend said 4xx: it, or this mailbox, has no room
    REFUSED = "refused"  # no connection, or 421
    STALLED = "stalled"  # no answer in time
    UNUSED = "unused"  # given back before anything was asked of the backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one use of a slot teaches: seconds of service, octets and recipients it was for."""

    ending: SlotEnding
    service: float
    size: int
    recipients: int
    in_flight: int
    """Slots in use when this one started, itself included."""


class FixedLimit:
    """A limit that an operator set; the backend's capacity is taken as known."""

    def __init__(self, slots: int) -> None:
        assert slots >= 1
        self._slots = slots

    @property
    def ceiling(self) -> int:
        """Slots that are never exceeded, not even for rank 0: here the limit itself."""
        return self._slots

    def limit(self, now: float) -> int:  # noqa: ARG002 - an adaptive limit depends on the time
        """Slots that may be in use at `now`."""
        return self._slots

    def on_end(self, now: float, sample: Sample) -> None:
        """Learn from a slot that came back: nothing, the number is fixed."""
