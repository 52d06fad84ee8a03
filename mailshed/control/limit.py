"""How many messages one backend may have in flight at a time: what every such limit has to offer.

This is the seam of the control system. Whoever hands out slots asks `limit(now)`, tells of each
message that starts and ends, and calls `tick` about four times a second, also when nothing ends.
`FixedLimit` answers with the configured number and learns nothing; an adaptive limit answers from
what it was told. A limit has no clock and does no I/O, so a simulation can run the very object that
the service runs.

Times are seconds, `now` is monotonic.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

from mailshed.mail.delivery import StageTimes


class SlotEnding(Enum):
    """How the holder of a slot fared, as far as the limit is concerned."""

    COMPLETED = "completed"  # a final answer to the mail data, 2xx or 5xx
    REJECTED = "rejected"  # 5xx before the mail data: the backend is well, and has done less
    BUSY = "busy"  # the backend as a whole has no room: 451 4.3.x, 452 4.3.1
    RECIPIENT = "recipient"  # this mailbox is busy or full: 4.2.x
    POLICY = "policy"  # greylisting, too many recipients: 4.7.x, 4.5.3
    REFUSED = "refused"  # no connection, or 421
    STALLED = "stalled"  # no answer in time, before our final dot
    IN_DOUBT = "in_doubt"  # no answer to our final dot
    UNUSED = "unused"  # given back before anything was asked of the backend


@dataclass(eq=False, slots=True)
class Flight:
    """One message that has a slot, from `on_start` to `on_end`."""

    size: int
    """Octets in wire form."""
    recipients: int
    is_first: bool
    """Whether it is of rank 0."""
    started_at: float
    in_flight: int
    """Slots in use when this one was taken, itself included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChange:
    """The limit has been changed, and why, in one word for logs and metrics."""

    before: int
    after: int
    cause: str


class Limit(Protocol):
    """The limit of one backend."""

    @property
    def ceiling(self) -> int:
        """Slots that are never exceeded, not even for rank 0."""
        ...

    def limit(self, now: float) -> int:
        """Slots that may be in use at `now`, at least 1."""
        ...

    def expected(self, size: int, recipients: int) -> float | None:
        """Seconds that the unloaded backend needs for such a message; None if not known yet."""
        ...

    def on_start(self, now: float, flight: Flight) -> None:
        """Note that a message has taken a slot."""
        ...

    def on_end(self, now: float, flight: Flight, ending: SlotEnding, times: StageTimes) -> None:
        """Learn from a slot that came back."""
        ...

    def tick(self, now: float, *, is_backlogged: bool) -> LimitChange | None:
        """Let time pass; `is_backlogged`: somebody waits for a slot, or there is spooled mail."""
        ...


class Reading(NamedTuple):
    """What a limit has found out about its backend, for those who decide beside it."""

    capacity: float | None = None
    """Slot-seconds of work (of what `expected` says) that the backend does a second at its best."""
    queue: float | None = None
    """Messages of ours that queue inside the backend, by the last window of the limit."""
    queue_low: float = 0.0
    """With fewer of them there is room for more."""
    queue_high: float = 0.0
    """With more of them the limit falls."""
    windows: int = 0
    """How many windows there have been: another number, and there is a new `queue`."""


@runtime_checkable
class Measuring(Protocol):
    """A limit that learns about its backend has this besides."""

    def reading(self, now: float) -> Reading:
        """What is known at `now`."""
        ...

    def on_crowded(self, now: float, connections: int) -> None:
        """Note that the backend greets no more than so many connections at a time."""
        ...


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

    def expected(self, size: int, recipients: int) -> float | None:  # noqa: ARG002
        """Nothing is measured here."""
        return None

    def on_start(self, now: float, flight: Flight) -> None:
        """Note that a message has taken a slot: nothing follows from it."""

    def on_end(self, now: float, flight: Flight, ending: SlotEnding, times: StageTimes) -> None:
        """Learn from a slot that came back: nothing, the number is fixed."""

    def tick(self, now: float, *, is_backlogged: bool) -> LimitChange | None:  # noqa: ARG002
        """Let time pass: the number stays."""
        return None
