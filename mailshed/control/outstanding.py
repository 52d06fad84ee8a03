"""The messages that are with a backend, and what they tell by not coming back.

A message without an answer for a minute is stuck; one in doubt is remembered for a minute, since it
holds no slot any more and says the same. Both are counted by senders: a hundred copies of one
message that the backend chokes on are one piece of evidence.

When the backend is known to be away, or to be back, an epoch ends: what is out then is told apart
from what starts afterwards (stragglers). It has had its say, and neither its hanging nor its
failing is news.

Pure: `now` is monotonic seconds. Bounded by the slots there are, and by how many messages can come
to be in doubt within a minute.
"""

from typing import NamedTuple

from mailshed.control.limit import Flight

STUCK_SECONDS = 60.0
"""A message without an answer for so long is stuck, and one in doubt is remembered for so long."""


class _Out(NamedTuple):
    sender: bytes
    epoch: int


class Outstanding:
    """What is with one backend, in the order of the starts."""

    def __init__(self) -> None:
        self._out: dict[Flight, _Out] = {}
        self.epoch = 0
        """How many have ended."""
        self._doubts: dict[bytes, float] = {}
        """When a message of this sender last was in doubt."""
        self.stragglers = 0
        """Of those that are out, those from an earlier epoch."""

    def __len__(self) -> int:
        return len(self._out)

    def start(self, flight: Flight, sender: bytes) -> None:
        """A message of `sender` is with the backend now."""
        self._out[flight] = _Out(sender, self.epoch)

    def end(self, flight: Flight) -> tuple[bytes, bool]:
        """It is not any more; return its sender, and whether it was a straggler."""
        out = self._out.pop(flight)
        is_straggler = out.epoch < self.epoch
        self.stragglers -= is_straggler
        return out.sender, is_straggler

    def doubt(self, sender: bytes, now: float) -> None:
        """A message of `sender` ended in doubt."""
        self._doubts[sender] = now
        recent = now - STUCK_SECONDS
        self._doubts = {who: at for who, at in self._doubts.items() if at >= recent}

    def end_epoch(self) -> None:
        """Whatever is out or in doubt has had its say."""
        self.epoch += 1
        self.stragglers = len(self._out)
        self._doubts.clear()

    def stuck(self, now: float) -> int:
        """Senders with messages of this epoch that are stuck, or in doubt since a minute ago."""
        senders: set[bytes] = set()
        for flight, out in self._out.items():
            if now - flight.started_at <= STUCK_SECONDS:
                break  # the rest began later
            if out.epoch == self.epoch:
                senders.add(out.sender)
        senders.update(who for who, at in self._doubts.items() if now - at <= STUCK_SECONDS)
        return len(senders)
