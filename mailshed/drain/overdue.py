"""What becomes of mail by its age alone, while the backend is away.

A message whose time is up has a last attempt, and that decides. Only while the backend is away it
is given up without one: its sender is told in time, not when the backend is back. Mail that is in
hand is left alone.
"""

from collections.abc import Awaitable, Callable

from mailshed.clock import Clock
from mailshed.drain.hand import Hand
from mailshed.drain.retry import ReportContext, expire
from mailshed.errors import SpoolError
from mailshed.journal import Journal
from mailshed.spool.store import Settlement, SpoolRecord, SpoolStore

# Messages that are given up in one turn.
EXPIRY_BATCH = 100


class Overdue:
    """The age of the mail in one spool. `on_report` is told of each settlement with a report."""

    def __init__(
        self,
        *,
        spool: SpoolStore,
        hand: Hand,
        journal: Journal,
        clock: Clock,
        report_context: Callable[[SpoolRecord], Awaitable[ReportContext]],
        on_report: Callable[[Settlement], None],
    ) -> None:
        self._spool = spool
        self._hand = hand
        self._journal = journal
        self._clock = clock
        self._report_context = report_context
        self._on_report = on_report

    async def expire(self) -> bool:
        """Give up messages whose time is up and that nobody is working on; True if all of them."""
        wall = self._clock.wall()
        with self._hand.query():
            expired = await self._spool.expired(wall, EXPIRY_BATCH, self._hand.ids)
            for record in expired:
                await self._give_up(record, wall)
        return len(expired) < EXPIRY_BATCH

    async def _give_up(self, record: SpoolRecord, wall: float) -> None:
        grip = self._hand.take(record.queue_id, record.traffic_class)
        if grip is None:
            return
        grip.is_firm = True
        try:
            settlement = expire(record, wall=wall, report=await self._report_context(record))
            await self._spool.settle(settlement)
        except SpoolError as error:
            if self._spool.unhealthy_reason() is not None:
                raise
            self._journal.drain_failed(error)  # this one; the others go on
            return
        finally:
            self._hand.let_go(grip)
        self._journal.expired(record, settlement, wall - record.received_wall)
        self._on_report(settlement)
