"""What is written and counted about spooled messages: a method for each thing that becomes of one.

As in `mailshed.journal` for live ones, each event is a line in the log and its counts in the
metrics, always both. An attempt has a line for each group of recipients who fared alike, and each
ending one that names nobody but whom it is about.
"""

from collections.abc import Callable, Iterable

from mailshed.clock import Clock
from mailshed.mail.delivery import (
    Delivered,
    DeliveryResult,
    TransactionResult,
)
from mailshed.maillog import Delays, Mail, MailLog
from mailshed.metrics.labels import Fate, PostponedLabel
from mailshed.metrics.recorder import Metrics
from mailshed.results import count_transaction, fate_of, words_of
from mailshed.spool.store import Report, Settlement, SpoolRecipient, SpoolRecord
from mailshed.terms import Ending, ReportKind, SpoolState


class DrainJournal:
    """Log and metrics of the drain. `backend` is the name of who had or has the message."""

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
        about, words = mail._replace(recipients=[recipient.address]), words_of(result)
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

    def transaction(self, record: SpoolRecord, backend: str, result: TransactionResult) -> None:
        """A transaction with the backend has ended."""
        count_transaction(
            self._metrics,
            record.traffic_class,
            backend,
            result,
            source="spool",
            parameters=record.parameters,
        )

    def rerouted(self, backend: str, messages: int) -> None:
        """Spooled mail of a backend that is not in the configuration goes by its recipients now."""
        self._log.mail_rerouted(backend, messages=messages)

    def clock_stepped(self, seconds: float) -> None:
        """The wall clock has jumped by so many seconds, forwards or back."""
        self._log.clock_stepped(seconds=seconds)

    # Our own faults.

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
        groups.setdefault((fate_of(result)[0], words_of(result)), []).append(recipient)
    return groups
