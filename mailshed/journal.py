"""What is written and counted about live messages: a method for each thing that can become of one.

The pipeline decides and acts; here each outcome becomes a line in the log and its counts in the
metrics, always both, so that they cannot tell different stories. What ends before there is a whole
message has no class, and decisions are counted by class: it is a line, under the session id, and
its reply is counted by the listener. From the spool on, `drain.journal` goes on.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from mailshed.admission.decision import Action
from mailshed.admission.quota import Excess
from mailshed.classification.classifier import Classifier, Verdict
from mailshed.classification.decisions import DecisionRing
from mailshed.classification.subject import Subject
from mailshed.clock import Clock
from mailshed.mail import reply
from mailshed.mail.delivery import (
    StageTimes,
    TransactionResult,
)
from mailshed.mail.envelope import Client, Envelope
from mailshed.mail.reply import Reply
from mailshed.maillog import Delays, Mail, MailLog
from mailshed.message import Message
from mailshed.metrics.labels import (
    Disposition,
    Outcome,
)
from mailshed.metrics.recorder import Metrics
from mailshed.results import answer_of, count_transaction, words_of
from mailshed.spool.store import SpoolRecord
from mailshed.terms import Reason, Stage

_NO_TIMES = StageTimes()
# What a reply that the listener gives by itself means; the others speak of syntax.
_REASONS = {
    reply.BARE_LINE_ENDING: Reason.CONTENT,
    reply.TOO_LARGE: Reason.TOO_LARGE,
    reply.NO_ROOM_FOR_CONTENT: Reason.NO_MEMORY,
    reply.INTERNAL: Reason.INTERNAL,
}


class Journal:
    """Log and metrics of live mail. `backend` is the name of who had or has the message."""

    def __init__(
        self,
        *,
        maillog: MailLog,
        metrics: Metrics,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._log = maillog
        self._metrics = metrics
        self._clock = clock
        self._on_failure = on_failure
        self.relayed: Counter[str] = Counter()
        self.spooled_count: Counter[str] = Counter()
        """Messages relayed live, and spooled, since the start, by class."""
        self.decisions = DecisionRing()
        """What `mailshed explain` reads."""

    def classified(
        self, classifier: Classifier, subject: Subject, envelope: Envelope, verdict: Verdict
    ) -> None:
        """A complete message has its class; no line of its own, since each ending says it."""
        self.decisions.add(classifier, subject, envelope, verdict)

    def rejected(
        self,
        client: Client,
        stage: Stage,
        answer: Reply,
        *,
        sender: bytes,
        recipient: bytes | None = None,
        reason: Reason | None = None,
    ) -> None:
        """MAIL or RCPT was refused; addresses are as the client wrote them, valid or not."""
        self._log.rejected(
            client.session_id,
            stage=stage,
            listener=client.listener,
            client=client.address_text,
            reason=reason or _REASONS.get(answer),
            reply=answer.text,
            sender=sender,
            recipient=recipient,
        )

    def discarded(self, envelope: Envelope, size: int, answer: Reply | None) -> None:
        """No message came of the mail data, of which `size` octets arrived.

        `answer` refused it, or told the client that it was too slow; None if the client just left.
        """
        mail = _unclassified_mail(envelope, size)
        delays = Delays(reception=envelope.received_at - envelope.started_at)
        if answer is None:
            self._log.aborted(mail, stage=Stage.DATA)
        elif answer not in _REASONS:
            self._log.aborted(mail, stage=Stage.DATA, reply=answer.text)
        else:
            self._log_refusal(mail, answer, _REASONS[answer], delays)

    def waited(self, message: Message) -> None:
        """It has its slot now, or will not get one: its time at the gate is over."""
        seconds = self._clock.monotonic() - message.envelope.received_at
        self._metrics.slot_wait(message.traffic_class.name, seconds)

    def delivered(
        self, message: Message, backend: str, answer: Reply, times: StageTimes, waited: float
    ) -> None:
        """The backend took it while the client waited."""
        said, envelope, name = answer.text, message.envelope, message.traffic_class.name
        delays = _delays(message, times, waited)
        self._log.delivered(_mail(message), backend=backend, delays=delays, reply=said)
        self.decisions.end(envelope.queue_id, "delivered", Reason.ROOM, said)
        self.relayed[name] += 1
        now = self._clock.monotonic()
        self._metrics.relayed(
            name,
            size=message.size,
            recipients=len(envelope.recipients),
            delay=now - envelope.received_at,
            seconds=now - envelope.started_at,
        )

    def spooled(
        self, message: Message, reason: Reason, result: TransactionResult | None = None
    ) -> None:
        """It was committed, and the client gets our 250; `result` if the backend was tried."""
        said, detail = (None, None) if result is None else _cause(result)
        delays = self._delays_so_far(message, result)
        self._log.spooled(_mail(message), reason=reason, delays=delays, reply=said, detail=detail)
        self._note_spooled(message, reason)

    def _note_spooled(self, message: Message, reason: Reason) -> None:
        queue_id = message.envelope.queue_id
        self.decisions.end(queue_id, "spooled", reason, reply.queued(queue_id).text)
        self.spooled_count[message.traffic_class.name] += 1
        self._count_accepted(message, "spooled")
        self._metrics.decision(message.traffic_class.name, "spool", reason)
        self._end(message, "spooled")

    def split(self, message: Message, copies: Sequence[SpoolRecord], reason: Reason) -> None:
        """It was committed as several copies, for different backends; its client gets one 250."""
        delays = self._delays_so_far(message, None)
        queue_id = message.envelope.queue_id
        for each in copies:
            of = None if each.queue_id == queue_id else queue_id
            mail = _mail(message)._replace(
                queue_id=each.queue_id, recipients=[one.address for one in each.recipients]
            )
            self._log.spooled(mail, reason=reason, delays=delays, backend=each.backend, copy_of=of)
        self._note_spooled(message, reason)

    def turned_away(
        self,
        message: Message,
        answer: Reply,
        reason: Reason,
        result: TransactionResult | None = None,
    ) -> None:
        """The client is told 4xx and keeps it, or 5xx; `result` if the backend was tried."""
        delays = self._delays_so_far(message, result)
        self._log_refusal(_mail(message), answer, reason, delays)
        action = "refused" if answer.is_permanent else "deferred"
        self.decisions.end(message.envelope.queue_id, action, reason, answer.text)
        name = message.traffic_class.name
        self._metrics.decision(name, "reject" if answer.is_permanent else "defer", reason)
        self._end(message, "rejected" if answer.is_permanent else "deferred")

    def aborted(self, message: Message) -> None:
        """The client left after its final dot and before anything was promised."""
        self._log.aborted(_mail(message), stage=Stage.DOT)
        self.decisions.end(message.envelope.queue_id, "aborted", None, "")
        self._end(message, "aborted")

    def in_doubt(self, message: Message, backend: str, detail: str) -> None:
        """Our final dot got no answer."""
        self._log.in_doubt(_mail(message), backend=backend, detail=detail)

    # On the way in: counted only, since each ends as one of the above.

    def over_quota(self, traffic_class: str, excess: Excess) -> None:
        """A message exceeds a quota, whether or not that is of consequence now."""
        self._metrics.over_quota(traffic_class, excess.layer.value, excess.level.value)

    def would(self, traffic_class: str, action: Action, reason: Reason) -> None:
        """While observing: what would have been done with a message."""
        self._metrics.would(traffic_class, action, reason)

    def transaction(self, message: Message, backend: str, result: TransactionResult) -> None:
        """A transaction with the backend has ended."""
        count_transaction(
            self._metrics,
            message.traffic_class.name,
            backend,
            result,
            source="live",
            parameters=message.envelope.parameters,
        )

    # Our own faults.

    def failed(self, envelope: Envelope, error: BaseException) -> None:
        """Handling a message failed by our own fault."""
        self._on_failure(f"message {envelope.queue_id}", error)

    def _count_accepted(self, message: Message, disposition: Disposition) -> None:
        self._metrics.accepted(
            message.traffic_class.name,
            disposition,
            size=message.size,
            recipients=len(message.envelope.recipients),
        )

    def _log_refusal(self, mail: Mail, answer: Reply, reason: Reason, delays: Delays) -> None:
        write = self._log.refused if answer.is_permanent else self._log.deferred
        write(mail, reason=reason, delays=delays, reply=answer.text)

    def _end(self, message: Message, outcome: Outcome) -> None:
        seconds = self._clock.monotonic() - message.envelope.started_at
        self._metrics.transaction(message.traffic_class.name, outcome, seconds)

    def _delays_so_far(self, message: Message, result: TransactionResult | None) -> Delays:
        """All the time since the final dot that was not spent with the backend was waiting."""
        times = _NO_TIMES if result is None else result.times
        passed = self._clock.monotonic() - message.envelope.received_at
        return _delays(message, times, max(0.0, passed - times.connect - times.service))


def _delays(message: Message, times: StageTimes, waited: float) -> Delays:
    envelope = message.envelope
    reception = envelope.received_at - envelope.started_at
    return Delays(reception, waited, times.connect, times.service)


def _mail(message: Message) -> Mail:
    envelope = message.envelope
    return Mail(
        queue_id=envelope.queue_id,
        traffic_class=message.traffic_class.name,
        sender=message.reverse_path,
        recipients=[each.mailbox.raw for each in envelope.recipients],
        size=message.size,
        client=envelope.client.address_text,
        rule=message.verdict.rule,
        login=envelope.client.user,
    )


def _unclassified_mail(envelope: Envelope, size: int) -> Mail:
    path = envelope.reverse_path
    return Mail(
        queue_id=envelope.queue_id,
        traffic_class=None,
        sender=path.raw if path is not None else b"",
        recipients=[each.mailbox.raw for each in envelope.recipients],
        size=size,
        client=envelope.client.address_text,
        login=envelope.client.user,
    )


def _cause(result: TransactionResult) -> tuple[str | None, str | None]:
    """Why the backend did not take it: its replies, each once, or else what broke."""
    said = [answer_of(each) for each in result.recipients]
    replies = dict.fromkeys(each.text for each in said if each is not None)
    return (
        (" / ".join(replies), None) if replies else (None, words_of(result.recipients[0]) or None)
    )
