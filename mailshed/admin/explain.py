"""`mailshed explain ID`: why a message that passed here is of its class, and what became of it.

The last messages are in memory (`classification.decisions`), with the rules as they were. What is
older and still waits is in the spool: its class and the reason why it waits are stored with it, and
the trace is worked out again from its envelope and its header with the rules of today, which is
said. What is in neither is gone, and only the log knows.

Called in the operations thread, or by the command line when no service runs; may block on the disk.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from mailshed.classification.classifier import Classifier
from mailshed.classification.decisions import Decision, DecisionRing
from mailshed.classification.explanation import SCHEMA, Document, explain
from mailshed.classification.subject import Subject
from mailshed.mail.address import mailbox_of
from mailshed.mail.envelope import Client, Recipient
from mailshed.mail.header import HeaderView
from mailshed.mail.parameters import parse_mail_parameters
from mailshed.mail.privacy import mask_text
from mailshed.mail.reply import Reply
from mailshed.spool.glance import Glance, glance
from mailshed.spool.store import SpoolRecord

NOT_STORED = (
    "rules of today; the listener, the user, the rate of the sender and recipients that have ended"
    " are not stored with spooled mail"
)


class Explainer:
    """Answers for one running service."""

    def __init__(
        self, decisions: DecisionRing, classifier: Callable[[], Classifier], spool: Path
    ) -> None:
        self._decisions = decisions
        self._classifier = classifier
        self._spool = spool

    def explain(self, queue_id: str) -> Document:
        """The document about one message; raises SpoolError if the spool cannot be read."""
        decision = self._decisions.get(queue_id)
        if decision is not None:
            return _of_decision(decision)
        return explain_spooled(self._spool, queue_id, self._classifier())


def explain_spooled(spool: Path, queue_id: str, classifier: Classifier) -> Document:
    """The document about a message that waits in `spool`, with `known` false if it does not."""
    found = glance(spool, queue_id)
    if found is None:
        return {"schema": SCHEMA, "queue_id": queue_id, "known": False}
    record = found.record
    return {
        **explain(classifier, _spooled_subject(found)),
        "queue_id": queue_id,
        "known": True,
        "basis": "spool",
        "note": NOT_STORED,
        "received": _rfc3339(record.received_wall),
        "decided": {"class": record.traffic_class, "rule": None},
        "decision": {"action": "spooled", "reason": record.reason.value, "reply": None},
    }


def _of_decision(decision: Decision) -> Document:
    envelope = decision.envelope
    addresses = [str(each.mailbox) for each in envelope.recipients]
    return {
        **explain(decision.classifier, decision.subject),
        "queue_id": envelope.queue_id,
        "known": True,
        "basis": "memory",
        "note": "",
        "received": _rfc3339(envelope.received_wall),
        "decided": {
            "class": decision.verdict.traffic_class.name,
            "rule": decision.verdict.rule,
        },
        "decision": {
            "action": decision.action or "open",
            "reason": decision.reason.value if decision.reason is not None else None,
            "reply": mask_text(decision.reply, *addresses),
        },
    }


def _spooled_subject(found: Glance) -> Subject:
    record = found.record
    client = Client(
        session_id="",
        listener="",
        address=ip_address(record.client_address or "0.0.0.0"),  # noqa: S104 - no address at all
        port=0,
        is_trusted=record.is_trusted,
    )
    return Subject(
        client=client,
        reverse_path=mailbox_of(record.reverse_path) if record.reverse_path else None,
        recipients=_recipients(record),
        priority=_priority(record),
        header=HeaderView(found.head),
        size=record.size,
    )


def _recipients(record: SpoolRecord) -> tuple[Recipient, ...]:
    return tuple(
        Recipient(mailbox=mailbox_of(each.address), parameters=each.parameters)
        for each in record.recipients
    )


def _priority(record: SpoolRecord) -> int | None:
    """The listener keeps the parameter only of a peer whose word counts."""
    meaning = parse_mail_parameters(record.parameters)
    return None if isinstance(meaning, Reply) else meaning.priority


def _rfc3339(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
