"""The harness's own book of what was promised and what arrived; it never asks mailshed.

One entry a message, named by its recipient's local part. The checker is Jepsen's total-queue in the
words of mail:

- *lost*: acknowledged with 250, and not delivered;
- *duplicated*: handed to Postfix more than once, with the number of extra copies (two files with
  one queue id are Postfix's own doing, which happens when it is killed while it delivers);
- *phantom*: delivered, although it was never sent or the client was told that it was refused;
- *altered*: delivered with other bytes than were sent, trace lines on top apart.

Failure reports are judged as well. A message to a mailbox that does not exist, once acknowledged,
must be reported, exactly once and to its sender, so it is *lost* as long as nothing says that it
failed. A *false report* is one about any other message, or one too many, or one that goes to
somebody else or does not come from the null reverse-path. Further copies of one report are
duplicates as those of any message. What was sent from the null reverse-path ends in silence.

A message whose client never got an answer to its final dot is in doubt for the client as well: it
may have arrived or not, and either is correct (RFC 1047).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from tests.support.failure_reports import FailureReport, read_report
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
    false_reports: tuple[str, ...] = ()

    @property
    def duplicates(self) -> int:
        """Extra copies over all messages."""
        return sum(self.duplicated.values())

    def assert_nothing_lost_or_made_up(self) -> None:
        """Fail if anything is lost, phantom or altered; duplicates are judged by the caller."""
        assert not self.lost, f"lost {len(self.lost)}: {self.lost[:10]}"
        assert not self.phantom, f"phantom {len(self.phantom)}: {self.phantom[:10]}"
        assert not self.altered, f"altered {len(self.altered)}: {self.altered[:10]}"
        assert not self.false_reports, f"false reports: {self.false_reports[:10]}"


@dataclass
class _Arrivals:
    """What was delivered, sorted. Copies are Postfix's queue ids, one for each time it was told."""

    copies: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Of messages, by identity."""
    reports: dict[str, dict[str, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    """Of reports, by the identity that they are about and their Message-ID."""
    altered: list[str] = field(default_factory=list)
    false_reports: list[str] = field(default_factory=list)

    def duplicated(self) -> dict[str, int]:
        """Extra copies, by identity."""
        extra = {name: len(queue_ids) - 1 for name, queue_ids in self.copies.items()}
        for name, reports in self.reports.items():
            extra[f"report about {name}"] = sum(len(ids) - 1 for ids in reports.values())
        return {name: count for name, count in extra.items() if count}


@dataclass
class Ledger:
    """Entries of all messages of a test."""

    _stored: dict[str, bytes] = field(default_factory=dict)
    _fates: dict[str, Fate] = field(default_factory=dict)
    _reported_to: dict[str, str] = field(default_factory=dict)
    """Of messages that cannot be delivered: who is told, "" if nobody may be."""

    def enter(
        self, identity: str, stored: bytes, fate: Fate, *, reported_to: str | None = None
    ) -> None:
        """Book a message with the bytes that a Maildir must have of it (LF line endings).

        `reported_to` says that its mailbox does not exist, and who is to be told: an address, or ""
        for the null reverse-path.
        """
        assert identity not in self._fates, f"{identity} was sent twice"
        self._stored[identity] = stored
        self._fates[identity] = fate
        if reported_to is not None:
            self._reported_to[identity] = reported_to

    def count(self, fate: Fate) -> int:
        """How many messages have this fate."""
        return sum(1 for other in self._fates.values() if other is fate)

    def judge(self, delivered: Iterable[Delivered]) -> Verdict:
        """Compare with everything that was delivered."""
        found = _Arrivals()
        for item in delivered:
            identity = item.recipient.partition("@")[0]
            report = None if identity in self._stored else read_report(item)
            if report is None:
                self._sort_message(found, identity, item)
            else:
                self._sort_report(found, report, item.queue_id)
        for identity, reports in found.reports.items():
            if len(reports) > 1:
                found.false_reports.append(f"{identity}: {len(reports)} reports")
        return Verdict(
            lost=tuple(self._lost(found)),
            duplicated=found.duplicated(),
            phantom=tuple(identity for identity in found.copies if not self._was_sent(identity)),
            altered=tuple(found.altered),
            false_reports=tuple(found.false_reports),
        )

    def _was_sent(self, identity: str) -> bool:
        """Whether its client may believe that somebody else has it now."""
        return self._fates.get(identity) in {Fate.ACKNOWLEDGED, Fate.IN_DOUBT}

    def _sort_message(self, found: _Arrivals, identity: str, item: Delivered) -> None:
        found.copies[identity].add(item.queue_id)
        if identity in self._stored and item.original != self._stored[identity]:
            found.altered.append(identity)

    def _sort_report(self, found: _Arrivals, report: FailureReport, queue_id: str) -> None:
        for address in report.about:
            identity = address.partition("@")[0]
            found.reports[identity][report.message_id].add(queue_id)
            expected = self._reported_to.get(identity, "")
            if not self._was_sent(identity):
                found.false_reports.append(f"{identity}: nobody was told 250")
            if report.addressee != expected:
                found.false_reports.append(
                    f"{identity}: reported to {report.addressee}, not {expected or 'nobody'}"
                )
            if not report.has_null_reverse_path:
                found.false_reports.append(f"{identity}: its report has a reverse-path")

    def _lost(self, found: _Arrivals) -> Iterator[str]:
        for identity, fate in self._fates.items():
            is_settled = identity in found.copies or identity in found.reports
            is_silent = self._reported_to.get(identity) == ""
            if fate is Fate.ACKNOWLEDGED and not is_settled and not is_silent:
                yield identity
