"""The last decisions, kept so that somebody can ask why: what `mailshed explain ID` reads.

Nothing is explained while mail passes. For each message the ring keeps what there was to decide
from (envelope, the header fields that rules ask for, counts), the rules of that moment, and what
the client was told in the end; the explanation is worked out from that when somebody asks, perhaps
in another thread: an entry is added, then completed once, and reading it sees one or the other.

The ring is bounded by entries and, since one message may have a thousand recipients, by recipients.
"""

from dataclasses import dataclass

from mailshed.classification.classifier import Classifier, Verdict
from mailshed.classification.senders import Sent
from mailshed.classification.subject import Subject, subject_of
from mailshed.mail.envelope import Envelope
from mailshed.mail.header import HeaderView
from mailshed.terms import Reason

DECISIONS_MAX = 10_000
RECIPIENTS_MAX = 50_000
"""Recipients of all kept messages: some 15 MB."""


@dataclass(slots=True, kw_only=True)
class Decision:
    """One message: why it is of its class, and what became of it."""

    classifier: Classifier
    envelope: Envelope
    header: HeaderView
    """The fields that rules ask for, cut to a bounded size."""
    size: int
    sent: Sent
    verdict: Verdict
    """What was decided; the rules say the same of `subject`, unless it had to be cut to be kept."""
    action: str = ""
    """What was done, in a word of the log (`delivered`, `spooled`); empty while it is open."""
    reason: Reason | None = None
    reply: str = ""
    """The reply that the client got, one printable line."""

    @property
    def subject(self) -> Subject:
        """The message as the rules see it."""
        return subject_of(self.envelope, self.header, size=self.size, sent=self.sent)


class DecisionRing:
    """The last messages by queue id, the oldest of them forgotten first."""

    def __init__(
        self, decisions_max: int = DECISIONS_MAX, recipients_max: int = RECIPIENTS_MAX
    ) -> None:
        self._decisions_max = decisions_max
        self._recipients_max = recipients_max
        self._decisions: dict[str, Decision] = {}
        self._recipients = 0

    def __len__(self) -> int:
        return len(self._decisions)

    def add(
        self, classifier: Classifier, subject: Subject, envelope: Envelope, verdict: Verdict
    ) -> None:
        """Keep what the class of a message was decided from."""
        queue_id = envelope.queue_id
        if queue_id in self._decisions:
            self._forget(queue_id)
        self._decisions[queue_id] = Decision(
            classifier=classifier,
            envelope=envelope,
            header=classifier.excerpt(subject.header),
            size=subject.size,
            sent=subject.sent,
            verdict=verdict,
        )
        self._recipients += len(envelope.recipients)
        while len(self._decisions) > self._decisions_max or (
            self._recipients > self._recipients_max and len(self._decisions) > 1
        ):
            self._forget(next(iter(self._decisions)))

    def end(self, queue_id: str, action: str, reason: Reason | None, reply: str) -> None:
        """Note what became of a message and what the client was told; the first word counts."""
        decision = self._decisions.get(queue_id)
        if decision is not None and not decision.action:
            decision.reason, decision.reply = reason, reply
            decision.action = action

    def get(self, queue_id: str) -> Decision | None:
        """What is known of a message, or None if it is not kept any more."""
        return self._decisions.get(queue_id)

    def _forget(self, queue_id: str) -> None:
        decision = self._decisions.pop(queue_id, None)
        if decision is not None:
            self._recipients -= len(decision.envelope.recipients)
