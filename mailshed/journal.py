"""What is written and counted about messages: one method for each thing that can become of one.

The pipeline decides and acts; here each outcome becomes one line in the log and its counts in the
metrics, always both, so that they cannot tell different stories.
"""

from collections import Counter
from collections.abc import Callable

from mailshed.admission.decision import Reject
from mailshed.clock import Clock
from mailshed.mail.address import Mailbox
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    StageTimes,
    TransactionResult,
)
from mailshed.mail.envelope import Client, Envelope
from mailshed.mail.reply import Reply
from mailshed.maillog import Delays, Mail, MailLog
from mailshed.message import Message
from mailshed.metrics.catalog import Disposition, Fate, Outcome, Source
from mailshed.metrics.recorder import Metrics
from mailshed.spool.store import Settlement, SpoolRecipient, SpoolRecord
from mailshed.terms import Ending, Reason, SpoolState, Stage

_NO_TIMES = StageTimes()


class Journal:
    """Log and metrics of one pipeline, which has one backend."""

    def __init__(
        self,
        *,
        maillog: MailLog,
        metrics: Metrics,
        backend: str,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._log = maillog
        self._metrics = metrics
        self._backend = backend
        self._clock = clock
        self._on_failure = on_failure
        self.relayed: Counter[str] = Counter()
        self.spooled_count: Counter[str] = Counter()
        """Messages relayed live, and spooled, since the start, by class."""

    def recipient_refused(self, client: Client, mailbox: Mailbox, refused: Reject) -> None:
        """A forward-path was refused by policy."""
        self._log.rejected(
            client.session_id,
            stage=Stage.RCPT,
            client=client.address_text,
            reason=refused.reason,
            reply=refused.reply.text,
            recipient=mailbox.raw,
        )

    def delivered(self, message: Message, answer: Reply, times: StageTimes, waited: float) -> None:
        """The backend took it while the client waited."""
        self._log.delivered(
            _mail(message),
            backend=self._backend,
            delays=self._delays(message, times, waited),
            reply=answer.text,
        )
        self.relayed[message.traffic_class.name] += 1
        self._count_accepted(message, "relayed")
        self._metrics.decision(message.traffic_class.name, "relay", Reason.ROOM)
        self._end(message, "delivered")

    def spooled(self, message: Message, reason: Reason) -> None:
        """It was committed, and the client gets our 250."""
        waited = self._clock.monotonic() - message.envelope.received_at
        self._log.spooled(
            _mail(message), reason=reason, delays=self._delays(message, _NO_TIMES, waited)
        )
        self.spooled_count[message.traffic_class.name] += 1
        self._count_accepted(message, "spooled")
        self._metrics.decision(message.traffic_class.name, "spool", reason)
        self._end(message, "spooled")

    def deferred(self, message: Message, answer: Reply, reason: Reason) -> None:
        """The client is told 4xx and keeps it."""
        delays = self._delays(message, _NO_TIMES, 0.0)
        self._log.deferred(_mail(message), reason=reason, delays=delays, reply=answer.text)
        self._metrics.decision(message.traffic_class.name, "defer", reason)
        self._end(message, "deferred")

    def refused(self, message: Message, answer: Reply, reason: Reason) -> None:
        """The client is told 5xx."""
        delays = self._delays(message, _NO_TIMES, 0.0)
        self._log.refused(_mail(message), reason=reason, delays=delays, reply=answer.text)
        self._metrics.decision(message.traffic_class.name, "reject", reason)
        self._end(message, "rejected")

    def aborted(self, message: Message) -> None:
        """The client left after its final dot and before anything was promised."""
        self._log.aborted(_mail(message), stage=Stage.DOT)
        self._end(message, "aborted")

    def in_doubt(self, message: Message, detail: str) -> None:
        """Our final dot got no answer."""
        self._log.in_doubt(_mail(message), backend=self._backend, detail=detail)

    # Spooled messages.

    def attempted(
        self,
        record: SpoolRecord,
        result: TransactionResult,
        settlement: Settlement,
        waited: float,
    ) -> None:
        """One delivery attempt from the spool has ended and is marked."""
        mail, times = _spooled_mail(record), result.times
        words = _words(result.recipients[0])
        fates = {_fate(each)[0] for each in result.recipients}
        pause = None
        if settlement.deferred:
            pause = max(0.0, settlement.next_attempt_wall - self._clock.wall())
        self._log.attempted(
            mail,
            backend=self._backend,
            attempt=settlement.attempts,
            outcome=next(iter(fates)) if len(fates) == 1 else "mixed",
            delays=Delays(waiting=waited, connect=times.connect, transmission=times.service),
            reply=words,
            next_attempt_seconds=pause,
        )
        if "delivered" in fates:
            self._metrics.queue_wait(record.traffic_class, waited)
        if "in_doubt" in fates:
            is_held = settlement.state is SpoolState.HOLD
            self._log.in_doubt(mail, backend=self._backend, detail=words, is_held=is_held)
        for recipient, fate in zip(record.recipients, result.recipients, strict=True):
            self._log_ending(mail, recipient, fate, settlement, waited)

    def _log_ending(
        self,
        mail: Mail,
        recipient: SpoolRecipient,
        result: DeliveryResult,
        settlement: Settlement,
        age: float,
    ) -> None:
        """A line for a recipient who will not get the message; it names nobody else."""
        about, reply = mail._replace(recipients=[recipient.address]), _words(result)
        match settlement.endings.get(recipient.index):
            case Ending.BOUNCED:
                self._log.bounced(about, reply=reply, report=_report(settlement))
            case Ending.REFUSED:
                self._log.bounced(about, reply=reply, report=None)
            case Ending.EXPIRED:
                report = _report(settlement)
                self._log.expired(about, age_seconds=age, reply=reply, report=report)
            case _:
                pass  # delivered, or still there

    def expired(self, record: SpoolRecord, settlement: Settlement, age: float) -> None:
        """A spooled message was given up."""
        reply = next((each.last_reply for each in record.recipients if each.last_reply), "")
        self._log.expired(
            _spooled_mail(record), age_seconds=age, reply=reply, report=_report(settlement)
        )

    def spool_corrupt(self, record: SpoolRecord, detail: str) -> None:
        """Stored mail data failed its checksum; the message is kept and not tried."""
        self._log.corrupt(_spooled_mail(record), detail=detail)

    def transaction(self, traffic_class: str, source: Source, result: TransactionResult) -> None:
        """A transaction with the backend has ended, for a live or a spooled message."""
        self._metrics.stage_times(self._backend, result.times)
        for each in result.recipients:
            fate, stage, code = _fate(each)
            self._metrics.deliveries(traffic_class, source, fate, 1)
            self._metrics.backend_reply(self._backend, stage, code)
        if any(isinstance(each, InDoubt) for each in result.recipients):
            self._metrics.in_doubt(traffic_class)

    # Our own faults.

    def failed(self, envelope: Envelope, error: BaseException) -> None:
        """Handling a message failed by our own fault."""
        self._on_failure(f"message {envelope.queue_id}", error)

    def attempt_failed(self, record: SpoolRecord, error: BaseException) -> None:
        """An attempt from the spool failed by our own fault."""
        self._on_failure(f"drain {record.queue_id}", error)

    def drain_failed(self, error: BaseException) -> None:
        """The drain could not look for work, by our own fault."""
        self._on_failure("drain", error)

    def _count_accepted(self, message: Message, disposition: Disposition) -> None:
        self._metrics.accepted(
            message.traffic_class.name,
            disposition,
            size=message.size,
            recipients=len(message.envelope.recipients),
        )

    def _end(self, message: Message, outcome: Outcome) -> None:
        seconds = self._clock.monotonic() - message.envelope.started_at
        self._metrics.transaction(message.traffic_class.name, outcome, seconds)

    def _delays(self, message: Message, times: StageTimes, waited: float) -> Delays:
        envelope = message.envelope
        return Delays(
            reception=envelope.received_at - envelope.started_at,
            waiting=waited,
            connect=times.connect,
            transmission=times.service,
        )


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
    )


def _spooled_mail(record: SpoolRecord) -> Mail:
    return Mail(
        queue_id=record.queue_id,
        traffic_class=record.traffic_class,
        sender=record.reverse_path,
        recipients=[each.address for each in record.recipients],
        size=record.size,
        client=record.client_address,
    )


def _report(settlement: Settlement) -> str | None:
    return settlement.reports[0].record.queue_id if settlement.reports else None


def _words(result: DeliveryResult) -> str:
    match result:
        case Delivered(reply) | Bounced(_, reply):
            return reply.text
        case Deferred(_, reply, detail):
            return reply.text if reply is not None else detail
        case InDoubt(detail):
            return detail


def _fate(result: DeliveryResult) -> tuple[Fate, Stage, int | None]:
    """The label of a result, the stage at which it was decided, and the reply's code."""
    match result:
        case Delivered(reply):
            return "delivered", Stage.DOT, reply.code
        case Bounced(stage, reply):
            return "bounced", stage, reply.code
        case Deferred(stage, reply):
            return "deferred", stage, reply.code if reply is not None else None
        case InDoubt():
            return "in_doubt", Stage.DOT, None
