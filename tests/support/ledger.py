"""The harness's own book of what was promised and what arrived; it never asks mailshed.

One entry a message, named by its recipient's local part. The checker is Jepsen's total-queue in the
words of mail:

- *lost*: acknowledged with 250, and not delivered;
- *duplicated*: handed to Postfix more than once, with the number of extra copies (two files with
  one queue id are Postfix's own doing, which happens when it is killed while it delivers);
- *phantom*: delivered, although it was never sent or the client was told that it was refused;
- *altered*: delivered with other bytes than were sent, trace lines on top apart.

A message whose client never got an answer to its final dot is in doubt for the client as well: it
may have arrived or not, and either is correct (RFC 1047).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from tests.support.postfix import Delivered


class Fate(Enum):
    """What a client knows about its message."""

    ACKNOWLEDGED = "acknowledged"  # 250 to the final dot
    REFUSED = "refused"  # a 4xx or 5xx at any stage
    NOT_SENT = "not_sent"  # the connection was refused or lost before the final dot
    IN_DOUBT = "in_doubt"  # the connection was lost after the final dot


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the book says at the end."""

    lost: tuple[str, ...]
    duplicated: Mapping[str, int]
    phantom: tuple[str, ...]
    altered: tuple[str, ...]

    @property
    def duplicates(self) -> int:
        """Extra copies over all messages."""
        return sum(self.duplicated.values())

    def assert_nothing_lost_or_made_up(self) -> None:
        """Fail if anything is lost, phantom or altered; duplicates are judged by the caller."""
        assert not self.lost, f"lost {len(self.lost)}: {self.lost[:10]}"
        assert not self.phantom, f"phantom {len(self.phantom)}: {self.phantom[:10]}"
        assert not self.altered, f"altered {len(self.altered)}: {self.altered[:10]}"


@dataclass
class Ledger:
    """Entries of all messages of a test."""

    _stored: dict[str, bytes] = field(default_factory=dict)
    _fates: dict[str, Fate] = field(default_factory=dict)

    def enter(self, identity: str, stored: bytes, fate: Fate) -> None:
        """Book a message with the bytes that a Maildir must have of it (LF line endings)."""
        assert identity not in self._fates, f"{identity} was sent twice"
        self._stored[identity] = stored
        self._fates[identity] = fate

    def count(self, fate: Fate) -> int:
        """How many messages have this fate."""
        return sum(1 for other in self._fates.values() if other is fate)

    def judge(self, delivered: Iterable[Delivered]) -> Verdict:
        """Compare with everything that was delivered."""
        copies: dict[str, set[str]] = defaultdict(set)
        altered = []
        for item in delivered:
            identity = item.recipient.partition("@")[0]
            copies[identity].add(item.queue_id)
            if identity in self._stored and item.original != self._stored[identity]:
                altered.append(identity)
        arrived = Counter({name: len(queue_ids) for name, queue_ids in copies.items()})
        undeliverable = {Fate.REFUSED, Fate.NOT_SENT}
        return Verdict(
            lost=tuple(
                identity
                for identity, fate in self._fates.items()
                if fate is Fate.ACKNOWLEDGED and not arrived[identity]
            ),
            duplicated={name: count - 1 for name, count in arrived.items() if count > 1},
            phantom=tuple(
                identity
                for identity in arrived
                if identity not in self._fates or self._fates[identity] in undeliverable
            ),
            altered=tuple(altered),
        )
