"""Which clients that look like mail servers do not try again after a 4xx.

Some devices and applications connect where mail servers do, take a 4xx for an answer and forget
the message. So it is remembered to whom we said 4xx. Whoever comes again with the same sender and
recipient within `RETRY_SECONDS` has tried again. Whoever had `DEFERRALS_MIN` such answers, each
older than `PATIENCE_SECONDS`, and never came again, does not, and gets no more of them: its mail is
spooled, as that of a mail program is.

To judge a real mail server so costs a place in the spool and nothing else, therefore the patience
is shorter than the time within which a return counts. A return at any time clears the client. A
verdict is forgotten after `VERDICT_SECONDS`, and with the process.

What this cannot see: a device that sends the same sender and recipient all the time seems to try
again with every new message. Give devices a listener of their own.

Trusted clients are known by their address; strangers by their network, as large senders retry from
another address of it. A client's deferrals are hashes, at most `DEFERRALS_MAX` of them, and at most
`CLIENTS_MAX` clients are remembered, the latest ones. Pure: `now` is monotonic seconds.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

RETRY_SECONDS = 4 * 3600.0
PATIENCE_SECONDS = 3600.0
"""RFC 5321, 4.5.4.1 asks for retries within half an hour or so; most servers come sooner."""
DEFERRALS_MIN = 3
DEFERRALS_MAX = 32
VERDICT_SECONDS = 7 * 86400.0
CLIENTS_MAX = 10_000


@dataclass(slots=True)
class _Record:
    """What is known of one client."""

    deferrals: dict[int, float] = field(default_factory=dict)
    """When we said 4xx, by the hash of sender and recipient; the oldest first."""
    judged_at: float | None = None
    """When it was found that it does not try again."""


class RetryMemory:
    """What is known of all clients."""

    def __init__(self) -> None:
        self._records: OrderedDict[Hashable, _Record] = OrderedDict()

    def __len__(self) -> int:
        """How many clients are remembered."""
        return len(self._records)

    def note_deferral(self, client: Hashable, sender: bytes, recipient: bytes, now: float) -> None:
        """We said 4xx to this client about a message from `sender` to `recipient`."""
        record = self._records.get(client)
        if record is None:
            record = self._records[client] = _Record()
            if len(self._records) > CLIENTS_MAX:
                self._records.popitem(last=False)
        self._records.move_to_end(client)
        deferrals = record.deferrals
        deferrals.setdefault(hash((sender, recipient)), now)
        if len(deferrals) > DEFERRALS_MAX:
            del deferrals[next(iter(deferrals))]

    def note_attempt(self, client: Hashable, sender: bytes, recipient: bytes, now: float) -> None:
        """The client names `recipient` for a message from `sender`, perhaps once more."""
        record = self._records.get(client)
        if record is None:
            return
        deferred_at = record.deferrals.get(hash((sender, recipient)))
        if deferred_at is not None and now - deferred_at <= RETRY_SECONDS:
            del self._records[client]  # it does try again, and that is all there is to know

    def does_retry(self, client: Hashable, now: float) -> bool:
        """Whether a 4xx is safe with this client, as far as is known."""
        record = self._records.get(client)
        if record is None:
            return True
        if record.judged_at is not None:
            if now - record.judged_at <= VERDICT_SECONDS:
                return False
            del self._records[client]
            return True
        unanswered = sum(now - at >= PATIENCE_SECONDS for at in record.deferrals.values())
        if unanswered < DEFERRALS_MIN:
            return True
        record.judged_at = now
        return False
