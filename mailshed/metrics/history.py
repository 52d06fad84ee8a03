"""What happened lately: rates of the last minute and counts of the last hour, from running totals.

A person at a terminal has no Prometheus at hand, and totals since the start say little about now.
So the painter of the snapshot notes the totals of each class here, at most every `STEP_SECONDS`,
and asks what has changed since the note of a minute and of an hour ago. A service younger than that
is measured since its first note.

The ring holds `NOTES_MAX` notes of a few numbers for each class: some hundred KiB. Pure: `now` is
monotonic and passed in. A total that went down (there is none) would give a negative rate, not an
error.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

STEP_SECONDS = 10.0
"""How far notes are apart; a minute is measured to this accuracy."""
MINUTE = 60.0
HOUR = 3600.0
NOTES_MAX = int(HOUR / STEP_SECONDS) + 2
"""One more at each end, so that the oldest is never younger than an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What has become of the messages of one class since the process started."""

    relayed: int = 0
    spooled: int = 0
    """For whatever reason, and acknowledged."""
    shed: int = 0
    """Of those spooled, the ones for which no slot came free: load, and nothing else."""
    deferred: int = 0
    """Left with their clients by a 4xx."""
    drained: int = 0
    """Delivered from the spool."""
    late: int = 0
    """Delivered, live or from the spool, after the time that is promised for the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What became of one class lately.

    Rates are messages a second over the last minute, `hour_*` counts of the last hour; both since
    the start if that is less.
    """

    accepted_rate: float = 0.0
    """Messages that got our 250."""
    delivered_rate: float = 0.0
    """Messages that the backend took, live or from the spool."""
    shed_rate: float = 0.0
    queue_rate: float = 0.0
    """By how many messages a second the queue grows, or shrinks if negative: all that enters
    against all that leaves, in whatever way."""
    hour_delivered: int = 0
    hour_spooled: int = 0
    hour_deferred: int = 0
    hour_late: int = 0


@dataclass(frozen=True, slots=True)
class _Note:
    at: float
    totals: Mapping[str, Totals]
    queued: Mapping[str, int]


_NOTHING = Totals()


class History:
    """The notes of one service."""

    def __init__(self) -> None:
        self._notes: deque[_Note] = deque(maxlen=NOTES_MAX)

    def note(
        self, now: float, totals: Mapping[str, Totals], queued: Mapping[str, int]
    ) -> dict[str, Recent]:
        """Say what each class did lately, and keep its totals for later.

        `totals` and `queued` (messages in the spool) are of this instant, by class. A class that an
        old note does not have had nothing then.
        """
        this = _Note(now, totals, queued)
        if not self._notes or now - self._notes[-1].at >= STEP_SECONDS:
            self._notes.append(this)
        minute, hour = self._since(now - MINUTE), self._since(now - HOUR)
        return {name: _compare(name, this, minute, hour) for name in totals}

    def _since(self, at: float) -> _Note:
        """The youngest note that is at least as old as `at`; the oldest if none is."""
        for note in reversed(self._notes):
            if note.at <= at:
                return note
        return self._notes[0]


def _compare(name: str, this: _Note, minute: _Note, hour: _Note) -> Recent:
    seconds = this.at - minute.at
    now, then = this.totals[name], minute.totals.get(name, _NOTHING)
    long_ago = hour.totals.get(name, _NOTHING)
    queue_change = this.queued.get(name, 0) - minute.queued.get(name, 0)

    def rate(change: int) -> float:
        return change / seconds if seconds > 0 else 0.0

    return Recent(
        accepted_rate=rate(now.relayed + now.spooled - then.relayed - then.spooled),
        delivered_rate=rate(now.relayed + now.drained - then.relayed - then.drained),
        shed_rate=rate(now.shed - then.shed),
        queue_rate=rate(queue_change),
        hour_delivered=now.relayed + now.drained - long_ago.relayed - long_ago.drained,
        hour_spooled=now.spooled - long_ago.spooled,
        hour_deferred=now.deferred - long_ago.deferred,
        hour_late=now.late - long_ago.late,
    )
