"""What the known controllers have in common: they watch one number a message, and have bounds.

Each of them was made for requests, one like the other, so what it is told of a message is the time
from MAIL to the reply to the final dot, the slots in use when it started, and whether it was
dropped. Of a mail server's answers, "no room", "not now" and no answer at all are drops; what is
the message's or the mailbox's own trouble is not shown to them. They know neither sizes nor
classes: who may start, and who is next, is decided around them as it is around ours.

As shipped, some of them start at 20 and never go below. A mail server may have less than that, so
here all start at `START` and may fall to `FLOOR`, as ours may; what else they have for constants is
theirs. They differ from ours by what they make of what they see.

Seconds; `now` is monotonic.
"""

from mailshed.control.limit import Flight, LimitChange, SlotEnding
from mailshed.mail.delivery import StageTimes

START = 4
FLOOR = 2
CEILING = 200
"""The bound of Netflix's limits, as shipped; ours has the same."""

_DROPS = frozenset(
    {SlotEnding.BUSY, SlotEnding.REFUSED, SlotEnding.STALLED, SlotEnding.IN_DOUBT},
)


class KnownLimit:
    """A limit that follows samples; a subclass says how in `_sample`."""

    def __init__(self, *, start: float = START, floor: int = FLOOR, ceiling: int = CEILING) -> None:
        self._estimate = float(start)
        self._floor = floor
        self._ceiling = ceiling
        self._told = int(self._estimate)

    @property
    def ceiling(self) -> int:
        """Slots that are never exceeded."""
        return self._ceiling

    def limit(self, now: float) -> int:  # noqa: ARG002 - it changes with samples only
        """Slots that may be in use."""
        return max(1, int(self._estimate))

    def expected(self, size: int, recipients: int) -> float | None:  # noqa: ARG002
        """None of them knows what a message needs."""
        return None

    def on_start(self, now: float, flight: Flight) -> None:
        """Note that a message has taken a slot."""

    def on_end(self, now: float, flight: Flight, ending: SlotEnding, times: StageTimes) -> None:
        """Learn from a slot that came back."""
        if ending is SlotEnding.COMPLETED:
            self._sample(now, times.service, flight.in_flight, is_drop=False)
        elif ending in _DROPS:
            self._sample(now, now - flight.started_at, flight.in_flight, is_drop=True)

    def tick(self, now: float, *, is_backlogged: bool) -> LimitChange | None:  # noqa: ARG002
        """Report a change; none of them does anything by the clock alone."""
        before, self._told = self._told, self.limit(now)
        if self._told == before:
            return None
        return LimitChange(before=before, after=self._told, cause=type(self).__name__)

    def _sample(self, now: float, rtt: float, in_flight: int, *, is_drop: bool) -> None:
        raise NotImplementedError

    def _set(self, estimate: float) -> None:
        self._estimate = max(self._floor, min(self._ceiling, estimate))
