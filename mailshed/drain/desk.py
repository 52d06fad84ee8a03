"""Where reports are written: what one needs is gathered, and how many there are is counted.

The drain asks for a `ReportContext` before it settles what became of a message, and says afterwards
which reports came of that. Between the two nothing waits, so the limit of reports to one address
(`report_limit`) holds however many messages are settled at once.

Live mail has a report only of success, if its sender wants one and the backend will not send it.
The client has its 250 by then, so the report is stored after it and may be lost: with a spool that
is full or sick, or with a crash in that moment. The log says so; the message itself is safe.

Summaries of what was over the limit go out once a minute, and all of them when the service stops.
"""

import random
from collections.abc import AsyncIterator, Callable, Mapping

from mailshed.clock import Clock
from mailshed.drain import reading
from mailshed.drain.dsn import wants_success
from mailshed.drain.journal import DrainJournal
from mailshed.drain.notify import ReportContext, generated, success_report, untold
from mailshed.drain.policy import DrainPolicy
from mailshed.drain.report_limit import ReportLimit, Summary
from mailshed.drain.summary import write_summary
from mailshed.errors import SpoolError
from mailshed.mail.delivery import Delivered, TransactionResult
from mailshed.mail.envelope import RANDOM_BITS, make_queue_id
from mailshed.message import Message
from mailshed.spool.store import Report, SpoolRecord, SpoolStore
from mailshed.terms import Ending, QueueId, Reason, ReportKind


class ReportDesk:
    """The reports about the mail of one spool. `on_report` is told of each that was stored.

    `route_of` says which backend serves an address.
    """

    def __init__(
        self,
        *,
        policy: Callable[[], DrainPolicy],
        spool: SpoolStore,
        journal: DrainJournal,
        clock: Clock,
        rng: random.Random,
        on_report: Callable[[Report], None],
        route_of: Callable[[bytes], str],
    ) -> None:
        self._policy = policy
        self._spool = spool
        self._journal = journal
        self._clock = clock
        self._rng = rng
        self._on_report = on_report
        self._route_of = route_of
        self.limit = ReportLimit()

    async def context(
        self, record: SpoolRecord, remote_mta: str, *, with_content: bool = True
    ) -> ReportContext:
        """What a report about this spooled message would need, should one be due.

        `remote_mta` is the host name of who had it, or was to have it; empty if that has none.
        """
        content = await reading.beginning(self._spool, record.queue_id) if with_content else b""
        return self._context(record, content, remote_mta)

    def count(self, record: SpoolRecord, *reports: Report) -> None:
        """Note that these are about to be stored; right after they were written."""
        for _ in reports:
            self.limit.note_sent(record.reverse_path, self._clock.monotonic())

    def note_untold(
        self,
        record: SpoolRecord,
        endings: Mapping[int, Ending],
        result: TransactionResult | None,
        context: ReportContext,
    ) -> None:
        """Keep for a summary what these endings would have been reported as."""
        lines = untold(record, endings, result, context)
        if lines:
            self.limit.note_untold(record.reverse_path, lines, record.traffic_class, record.rank)
            self._journal.reports_limited(len(lines))

    async def tell_of_success(
        self, message: Message, result: TransactionResult, remote_mta: str
    ) -> None:
        """Report a live message that was handed over, if its sender is to hear of it from us."""
        record = message.record(reason=Reason.ROOM, in_doubt=0, lifetime=0.0)
        content = message.prefix + await message.content.read_head()
        context = self._context(record, content, remote_mta)
        wall = self._clock.wall()
        report = success_report(record, result, context, wall)
        if report is None:
            endings = {
                recipient.index: Ending.DELIVERED
                for recipient, fared in zip(record.recipients, result.recipients, strict=True)
                if isinstance(fared, Delivered) and wants_success(recipient.parameters)
            }
            self.note_untold(record, endings, result, context)
            return
        self.count(record, report)
        if await self._store(report, record.reverse_path):
            self._journal.reported(record, report)

    async def send_summaries(self, *, is_last: bool = False) -> None:
        """Tell senders what the limit has kept from them; with `is_last` now or never."""
        now = self._clock.monotonic()
        reports = self._policy().reports
        for summary in self.limit.take_due(reports.per_minute, now, is_last=is_last):
            report = self._summary(summary)
            if await self._store(report, summary.addressee):
                self._journal.summarised(summary.addressee, report, summary.total)
            else:
                self.limit.put_back(summary)
        self.limit.forget_quiet(now)

    def _context(self, record: SpoolRecord, content: bytes, remote_mta: str) -> ReportContext:
        policy = self._policy()
        is_allowed = self.limit.allows(
            record.reverse_path, policy.reports.per_minute, self._clock.monotonic()
        )
        return ReportContext(
            policy=policy.reports,
            report_id=self._new_id(),
            success_id=self._new_id(),
            content=content,
            remote_mta=remote_mta,
            is_limited=not is_allowed,
            backend=self._route_of(record.reverse_path),
        )

    def _new_id(self) -> QueueId:
        return make_queue_id(self._clock.wall(), self._rng.getrandbits(RANDOM_BITS))

    def _summary(self, summary: Summary) -> Report:
        policy, wall, report_id = self._policy().reports, self._clock.wall(), self._new_id()
        return generated(
            summary.addressee,
            report_id,
            write_summary(summary, policy, report_id, wall),
            kind=ReportKind.FAILED,
            traffic_class=summary.traffic_class,
            rank=summary.rank,
            policy=policy,
            wall=wall,
            reason=Reason.BACKEND_REFUSED,
            backend=self._route_of(summary.addressee),
        )

    async def _store(self, report: Report, addressee: bytes) -> bool:
        """Put a report into the spool that belongs to no mark; False if that cannot be done."""

        async def content() -> AsyncIterator[bytes]:
            yield report.content

        try:
            await self._spool.add(report.record, content())
        except SpoolError as error:
            self._journal.report_lost(addressee, report, str(error))
            return False
        self._on_report(report)
        return True
