"""How many reports one address gets: so many in any minute, and the rest in one summary.

A list of dead addresses, a forged sender inside a trusted network or a program gone wild makes
thousands of mails that fail at once, and a report about each would bury a mailbox under mail that
we have made ourselves. So beyond the limit nothing is sent; what was to be told is kept here, a
line each up to `LINES_MAX` and then a number, and goes out as one message (`summary`) as soon as
the minute allows. Until then nothing else is reported to that address, so it is not starved.

The window slides: at most `per_minute` in any 60 s, the summary among them. The table is bounded;
if it is full, whoever has been quiet longest is forgotten, addresses without a summary first. What
is kept lives in memory. A crash loses a summary, never the facts: each message has its ending in
the ledger (`refused` or `expired`) and its line in the log.

Pure. Times are monotonic seconds.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from mailshed.terms import QueueId, ReportKind

WINDOW = 60.0
SENDERS_MAX = 5_000
LINES_MAX = 100
"""Lines of one summary,"""
LINES_TOTAL_MAX = 20_000
"""and of all together; beyond both there is a number."""


@dataclass(frozen=True, slots=True)
class Untold:
    """What one report that was not sent would have said, of one recipient."""

    kind: ReportKind
    queue_id: QueueId
    recipient: bytes
    words: str
    """The backend's, or ours."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What one address was not told; `more` counts what has no line."""

    addressee: bytes
    lines: tuple[Untold, ...]
    more: int
    traffic_class: str
    rank: int
    """The most urgent of what it is about."""

    @property
    def total(self) -> int:
        """Recipients that it speaks of."""
        return len(self.lines) + self.more


@dataclass(slots=True)
class _Sender:
    sent: deque[float] = field(default_factory=deque)
    untold: list[Untold] = field(default_factory=list)
    more: int = 0
    traffic_class: str = ""
    rank: int = 0

    @property
    def is_waiting(self) -> bool:
        """Whether there is something that it was not told."""
        return bool(self.untold or self.more)


class ReportLimit:
    """The reports to all senders."""

    def __init__(self, *, senders_max: int = SENDERS_MAX) -> None:
        self._senders_max = senders_max
        self._senders: OrderedDict[bytes, _Sender] = OrderedDict()
        self._lines = 0
        self.forgotten = 0
        """Recipients that no summary names, for want of room."""

    def __len__(self) -> int:
        return len(self._senders)

    def allows(self, addressee: bytes, per_minute: int, now: float) -> bool:
        """Whether a report may go there now."""
        sender = self._senders.get(addressee)
        return sender is None or (not sender.is_waiting and _has_room(sender, per_minute, now))

    def note_sent(self, addressee: bytes, now: float) -> None:
        """Count a report that goes there now."""
        self._sender(addressee).sent.append(now)

    def note_untold(
        self, addressee: bytes, untold: list[Untold], traffic_class: str, rank: int
    ) -> None:
        """Keep for the summary what a report that may not be sent would have said."""
        sender = self._sender(addressee)
        if not sender.is_waiting or rank < sender.rank:
            sender.traffic_class, sender.rank = traffic_class, rank
        self._keep(sender, untold)

    def take_due(self, per_minute: int, now: float, *, is_last: bool = False) -> list[Summary]:
        """Summaries that may go out now, which count as sent; with `is_last` all of them."""
        due = [
            (addressee, sender)
            for addressee, sender in self._senders.items()
            if sender.is_waiting and (is_last or _has_room(sender, per_minute, now))
        ]
        summaries = [_summary(addressee, sender) for addressee, sender in due]
        for addressee, sender in due:
            self._lines -= len(sender.untold)
            sender.untold, sender.more = [], 0
            self.note_sent(addressee, now)
        return summaries

    def put_back(self, summary: Summary) -> None:
        """Keep what could not be sent after all."""
        sender = self._sender(summary.addressee)
        sender.more += summary.more
        sender.traffic_class, sender.rank = summary.traffic_class, summary.rank
        self._keep(sender, list(summary.lines))

    def forget_quiet(self, now: float) -> None:
        """Let go of senders about whom there is nothing to remember."""
        for addressee, sender in list(self._senders.items()):
            if not sender.is_waiting and (not sender.sent or sender.sent[-1] <= now - WINDOW):
                del self._senders[addressee]

    def _keep(self, sender: _Sender, untold: list[Untold]) -> None:
        room = min(LINES_MAX - len(sender.untold), LINES_TOTAL_MAX - self._lines)
        kept = untold[: max(0, room)]
        sender.untold += kept
        sender.more += len(untold) - len(kept)
        self._lines += len(kept)

    def _sender(self, addressee: bytes) -> _Sender:
        sender = self._senders.get(addressee)
        if sender is not None:
            self._senders.move_to_end(addressee)
            return sender
        if len(self._senders) >= self._senders_max:
            self._make_room()
        sender = self._senders[addressee] = _Sender()
        return sender

    def _make_room(self) -> None:
        quiet = next((a for a, each in self._senders.items() if not each.is_waiting), None)
        if quiet is not None:
            del self._senders[quiet]
            return
        _, forgotten = self._senders.popitem(last=False)
        self._lines -= len(forgotten.untold)
        self.forgotten += len(forgotten.untold) + forgotten.more


def _has_room(sender: _Sender, per_minute: int, now: float) -> bool:
    while sender.sent and sender.sent[0] <= now - WINDOW:
        sender.sent.popleft()
    return len(sender.sent) < per_minute


def _summary(addressee: bytes, sender: _Sender) -> Summary:
    return Summary(addressee, tuple(sender.untold), sender.more, sender.traffic_class, sender.rank)
