"""What is written and counted about messages: one method for each thing that can become of one.

The pipeline decides and acts; here each outcome becomes a line in the log and its counts in the
metrics, always both, so that they cannot tell different stories. What ends before there is a whole
message has no class, and decisions are counted by class: it is a line, under the session id, and
its reply is counted by the listener.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from mailshed.admission.decision import Action
from mailshed.admission.quota import Excess
from mailshed.classification.classifier import Classifier, Verdict
from mailshed.classification.decisions import DecisionRing
from mailshed.classification.subject import Subject
from mailshed.clock import Clock
from mailshed.mail import reply
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    NoReply,
    StageTimes,
    TransactionResult,
)
from mailshed.mail.envelope import Client, Envelope
from mailshed.mail.reply import Reply
from mailshed.maillog import Delays, Mail, MailLog
from mailshed.message import Message
from mailshed.metrics.labels import (
    Disposition,
    Downgrade,
    Fate,
    Outcome,
    PostponedLabel,
    Source,
)
from mailshed.metrics.recorder import Metrics
from mailshed.spool.store import Report, Settlement, SpoolRecipient, SpoolRecord
from mailshed.terms import Ending, Reason, ReportKind, SpoolState, Stage

_NO_TIMES = StageTimes()
# What a reply that the listener gives by itself means; the others speak of syntax.
_REASONS = {
    reply.BARE_LINE_ENDING: Reason.CONTENT,
    reply.TOO_LARGE: Reason.TOO_LARGE,
    reply.NO_ROOM_FOR_CONTENT: Reason.NO_MEMORY,
    reply.INTERNAL: Reason.INTERNAL,
}


class Journal:
    """Log and metrics of one pipeline. `backend` is the name of who had or has the message."""

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
        self._log.delivered(
            _mail(message),
            backend=backend,
            delays=_delays(message, times, waited),
            reply=answer.text,
        )
        self.decisions.end(message.envelope.queue_id, "delivered", Reason.ROOM, answer.text)
        self.relayed[message.traffic_class.name] += 1
        self._count_accepted(message, "relayed")
        self._metrics.decision(message.traffic_class.name, "relay", Reason.ROOM)
        delay = self._clock.monotonic() - message.envelope.received_at
        self._metrics.delivered(message.traffic_class.name, delay, message.size)
        self._end(message, "delivered")

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

    # Spooled messages.

    def attempted(
        self,
        record: SpoolRecord,
        backend: str,
        result: TransactionResult,
        settlement: Settlement,
        waited: float,
    ) -> None:
        """One delivery attempt from the spool has ended and is marked.

        A line for each group of recipients who fared alike and heard the same. Those whose time was
        up when the backend could not be reached were not tried: they only expire.
        """
        mail, times = _spooled_mail(record), result.times
        delays = Delays(waiting=waited, connect=times.connect, transmission=times.service)
        is_counted = settlement.attempts > record.attempts
        is_held = settlement.state is SpoolState.HOLD
        fared = list(zip(record.recipients, result.recipients, strict=True))
        for (fate, words), group in _grouped(fared).items():
            about = mail._replace(recipients=[each.address for each in group])
            is_waiting = any(each.index in settlement.deferred for each in group)
            if is_counted or is_waiting:
                pause = max(0.0, settlement.next_attempt_wall - self._clock.wall())
                self._log.attempted(
                    about,
                    backend=backend,
                    attempt=settlement.attempts if is_counted else None,
                    outcome=fate,
                    delays=delays,
                    reply=words,
                    next_attempt_seconds=pause if is_waiting and not is_held else None,
                )
            if fate == "in_doubt":
                self._log.in_doubt(about, backend=backend, detail=words, is_held=is_held)
        if any(isinstance(each, Delivered) for each in result.recipients):
            self._metrics.queue_wait(record.traffic_class, waited)
            delay = self._clock.wall() - record.received_wall
            self._metrics.delivered(record.traffic_class, delay, record.size)
        for recipient, ending in fared:
            self._log_ending(mail, recipient, ending, settlement, waited)
        self._count_reports(record, settlement)

    def _log_ending(
        self,
        mail: Mail,
        recipient: SpoolRecipient,
        result: DeliveryResult,
        settlement: Settlement,
        age: float,
    ) -> None:
        """A line for a recipient who will not get the message; it names nobody else."""
        about, words = mail._replace(recipients=[recipient.address]), _words(result)
        match settlement.endings.get(recipient.index):
            case Ending.BOUNCED:
                self._log.bounced(about, reply=words, report=_report(settlement))
            case Ending.REFUSED:
                self._log.bounced(about, reply=words, report=None)
            case Ending.EXPIRED:
                report = _report(settlement)
                self._log.expired(about, age_seconds=age, reply=words, report=report)
            case _:
                pass  # delivered, or still there

    def expired(self, record: SpoolRecord, settlement: Settlement, age: float) -> None:
        """A spooled message was given up."""
        last = next((each.last_reply for each in record.recipients if each.last_reply), "")
        self._log.expired(
            _spooled_mail(record), age_seconds=age, reply=last, report=_report(settlement)
        )
        self._count_reports(record, settlement)

    def delayed(self, record: SpoolRecord, report: Report | None, age: float) -> None:
        """A spooled message is late; `report` tells its sender, None if he is not told."""
        last = next((each.last_reply for each in record.recipients if each.last_reply), "")
        identity = None if report is None else report.record.queue_id
        self._log.delayed(_spooled_mail(record), age_seconds=age, reply=last, report=identity)
        if report is not None:
            self._metrics.report(record.traffic_class, "delayed")

    def reported(self, record: SpoolRecord, report: Report) -> None:
        """The sender of a message, live or spooled, is told of a success, as it asked."""
        is_final = report.kind is ReportKind.DELIVERED
        self._log.reported(
            record.queue_id,
            kind=report.kind.value,
            addressee=record.reverse_path,
            report=report.record.queue_id,
        )
        self._metrics.report(record.traffic_class, "delivered" if is_final else "relayed")

    def reports_limited(self, recipients: int) -> None:
        """So many recipients are not reported now: their sender has had enough reports."""
        self._metrics.reports_limited(recipients)

    def summarised(self, addressee: bytes, report: Report, recipients: int) -> None:
        """A sender is told in one message of so many recipients."""
        identity = report.record.queue_id
        self._log.reports_summarised(identity, addressee=addressee, recipients=recipients)
        self._metrics.report(report.record.traffic_class, "summary")

    def report_lost(self, addressee: bytes, report: Report, detail: str) -> None:
        """A report that belongs to no spooled message could not be stored."""
        identity = report.record.queue_id
        self._log.report_lost(identity, kind=report.kind.value, addressee=addressee, detail=detail)

    def postponed(self, record: SpoolRecord, cause: PostponedLabel, seconds: float) -> None:
        """A spooled message was due and is not tried; it comes back after so many seconds."""
        self._log.postponed(_spooled_mail(record), cause=cause, next_attempt_seconds=seconds)
        self._metrics.postponed(record.traffic_class, cause)

    def spool_corrupt(self, record: SpoolRecord, detail: str) -> None:
        """Stored mail data failed its checksum; the message is kept and not tried."""
        self._log.corrupt(_spooled_mail(record), detail=detail)

    def transaction(
        self,
        traffic_class: str,
        backend: str,
        source: Source,
        result: TransactionResult,
        parameters: Sequence[bytes] = (),
    ) -> None:
        """A transaction with the backend has ended, for a live or a spooled message.

        `parameters` are those of its MAIL.
        """
        if parameters and (kind := _downgrade(parameters, result)) is not None:
            self._metrics.downgrade(kind)
        self._metrics.stage_times(backend, result.times)
        for each in result.recipients:
            fate, stage, code = _fate(each)
            self._metrics.deliveries(traffic_class, source, fate, 1)
            self._metrics.backend_reply(backend, stage, code)
        if any(isinstance(each, InDoubt) for each in result.recipients):
            self._metrics.in_doubt(traffic_class)

    def rerouted(self, backend: str, messages: int) -> None:
        """Spooled mail of a backend that is not in the configuration goes by its recipients now."""
        self._log.mail_rerouted(backend, messages=messages)

    def clock_stepped(self, seconds: float) -> None:
        """The wall clock has jumped by so many seconds, forwards or back."""
        self._log.clock_stepped(seconds=seconds)

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

    def _count_reports(self, record: SpoolRecord, settlement: Settlement) -> None:
        for report in settlement.reports:
            if report.kind is ReportKind.FAILED:
                self._metrics.report(record.traffic_class, "failed")
            else:
                self.reported(record, report)

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


def _spooled_mail(record: SpoolRecord) -> Mail:
    return Mail(
        queue_id=record.queue_id,
        traffic_class=record.traffic_class,
        sender=record.reverse_path,
        recipients=[each.address for each in record.recipients],
        size=record.size,
        client=record.client_address,
        login=record.login,
    )


def _report(settlement: Settlement) -> str | None:
    """The queue id of the report about those who failed."""
    made = (each for each in settlement.reports if each.kind is ReportKind.FAILED)
    return next((each.record.queue_id for each in made), None)


def _grouped(
    fared: Iterable[tuple[SpoolRecipient, DeliveryResult]],
) -> dict[tuple[Fate, str], list[SpoolRecipient]]:
    """Recipients by how they fared and in which words, in the envelope's order."""
    groups: dict[tuple[Fate, str], list[SpoolRecipient]] = {}
    for recipient, result in fared:
        groups.setdefault((_fate(result)[0], _words(result)), []).append(recipient)
    return groups


def _cause(result: TransactionResult) -> tuple[str | None, str | None]:
    """Why the backend did not take it: its replies, each once, or else what broke."""
    said = [_answer(each) for each in result.recipients]
    replies = dict.fromkeys(each.text for each in said if each is not None)
    return (" / ".join(replies), None) if replies else (None, _words(result.recipients[0]) or None)


def _words(result: DeliveryResult) -> str:
    answer = _answer(result)
    if answer is not None:
        return answer.text
    return result.detail if isinstance(result, Deferred | InDoubt) else ""


def _answer(result: DeliveryResult) -> Reply | None:
    return None if isinstance(result, InDoubt) else result.reply


def _downgrade(parameters: Sequence[bytes], result: TransactionResult) -> Downgrade | None:
    """What the backend does not offer and the message would have needed."""
    first = result.recipients[0]
    if isinstance(first, Deferred) and first.no_reply is NoReply.UNSUPPORTED:
        return "smtputf8"
    is_labelled = result.is_final or b"BODY" in result.passed_on
    if is_labelled or not any(isinstance(each, Delivered) for each in result.recipients):
        return None
    is_eight_bit = any(each.upper() == b"BODY=8BITMIME" for each in parameters)
    return "8bitmime" if is_eight_bit else None


def _fate(result: DeliveryResult) -> tuple[Fate, Stage, int | None]:
    """The label of a result, the stage at which it was decided, and the reply's code."""
    match result:
        case Delivered(answer):
            return "delivered", Stage.DOT, answer.code
        case Bounced(stage, answer):
            return "bounced", stage, answer.code
        case Deferred(stage, answer):
            return "deferred", stage, answer.code if answer is not None else None
        case InDoubt():
            return "in_doubt", Stage.DOT, None
