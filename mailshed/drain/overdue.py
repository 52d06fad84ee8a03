"""What becomes of mail by its age alone: its sender is told that it waits, at last it is given up.

A message that waits longer than its class says (`report_after`) is reported once to a trusted
sender, whether the backend is away or only slow; nothing else changes for it. The reports of one
look are bounded in all, and those to one sender in a minute (`report_limit`): they are mail for the
same backend, and a sender who has just been told ten times knows. Whoever is left out then is not
told later.

A message whose time is up has a last attempt, and that decides. Only while the backend is away it
is given up without one: its sender is told in time, not when the backend is back. Mail that is in
hand is left alone.

Neither happens in the first minute: what is found too old at the start, after a night in which the
host was down, is tried first.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from mailshed.clock import Clock
from mailshed.drain.ages import AgeClock
from mailshed.drain.desk import ReportDesk
from mailshed.drain.hand import Hand
from mailshed.drain.journal import DrainJournal
from mailshed.drain.notify import delay_report, may_report
from mailshed.drain.policy import DrainPolicy
from mailshed.drain.retry import expire
from mailshed.errors import SpoolError, SpoolFull
from mailshed.spool.store import Report, SpoolRecord, SpoolStore

# Seconds between two looks, and before the first.
INTERVAL = 60.0
LAST_CHANCE = 60.0
# Messages that are given up in one turn.
EXPIRY_BATCH = 100
# Messages whose delay is looked at in one turn.
DELAY_BATCH = 100
# Messages of a batch at a time: they share commits, and each has a piece of content in memory.
WIDTH = 16


class Overdue:
    """The age of the mail in one spool. `on_report` is told of each report that was stored.

    `host_of` says the host name of a backend.
    """

    def __init__(
        self,
        *,
        spool: SpoolStore,
        hand: Hand,
        journal: DrainJournal,
        clock: Clock,
        ages: AgeClock,
        policy: Callable[[], DrainPolicy],
        desk: ReportDesk,
        on_report: Callable[[Report], None],
        host_of: Callable[[str], str],
    ) -> None:
        self._spool = spool
        self._hand = hand
        self._journal = journal
        self._clock = clock
        self._ages = ages
        self._policy = policy
        self._desk = desk
        self._on_report = on_report
        self._host_of = host_of
        self._next_expiry = self._next_report = 0.0

    @property
    def next_look(self) -> float:
        """When `look` has something to do, in monotonic seconds."""
        return min(self._next_expiry, self._next_report)

    def give_time(self) -> None:
        """Let everything that seems too old have its last chance first."""
        self._next_expiry = self._next_report = self._clock.monotonic() + LAST_CHANCE

    def look_for_expired(self) -> None:
        """Something in hand has just become too old."""
        self._next_expiry = self._clock.monotonic()

    async def look(self, away: Sequence[str] | None) -> None:
        """Do what is to be done by now. Raises SpoolSick.

        `away` are the backends whose mail nobody takes now; None: all of them.
        """
        now = self._clock.monotonic()
        if now >= self._next_report:
            self._next_report = now + INTERVAL
            await self._desk.send_summaries()
            await self._report_delays(away)
        if now >= self._next_expiry:
            self._next_expiry = now + INTERVAL
            is_any_away = away is None or bool(away)
            if is_any_away and not await self._expire(away):
                self.look_for_expired()  # the rest, after a turn of others

    async def _report_delays(self, away: Sequence[str] | None) -> None:
        """Tell senders of messages that wait for too long."""
        wall = self._clock.wall()
        classes = self._policy().classification.classes
        longest = max((each.report_after or 0.0 for each in classes), default=0.0)
        late_wall = self._ages.wall(longest + INTERVAL)
        works = []
        # What is with the backend may be delivered in a moment; it is looked at the next time.
        for record in await self._spool.delayed(late_wall, DELAY_BATCH + len(self._hand)):
            grip = self._hand.grip(record.queue_id)
            if grip is not None and grip.is_firm:
                continue
            is_away = away is None or record.backend in away
            works.append(partial(self._note_delay, record, wall, is_away))
        await _in_parallel(works)

    async def _note_delay(self, record: SpoolRecord, wall: float, is_backend_away: bool) -> bool:
        report = None
        if may_report(record):
            context = await self._desk.context(record, self._host_of(record.backend))
            report = delay_report(record, context, wall, is_backend_away=is_backend_away)
        if report is not None:
            self._desk.count(record, report)
        if not await self._is_written(self._spool.note_delay(record.queue_id, report)):
            return False
        self._journal.delayed(record, report, wall - record.received_wall)
        if report is not None:
            self._on_report(report)
        return True

    async def _expire(self, away: Sequence[str] | None) -> bool:
        """Give up messages for those who are away whose time is up and that nobody is working on.

        False if there may be more that can be given up now.
        """
        wall = self._clock.wall()
        age_wall = self._ages.wall(self._policy().reports.lifetime)
        with self._hand.query():
            expired = await self._spool.expired(
                age_wall, EXPIRY_BATCH, self._hand.ids, backends=away
            )
            done = await _in_parallel([partial(self._give_up, each, wall) for each in expired])
        return len(expired) < EXPIRY_BATCH or not any(done)

    async def _give_up(self, record: SpoolRecord, wall: float) -> bool:
        grip = self._hand.take(record.queue_id, record.traffic_class)
        if grip is None:
            return False
        grip.is_firm = True
        try:
            context = await self._desk.context(record, self._host_of(record.backend))
            settlement = expire(record, wall=wall, report=context)
            self._desk.count(record, *settlement.reports)
            if not await self._is_written(self._spool.settle(settlement)):
                return False
            self._desk.note_untold(record, settlement.endings, None, context)
        finally:
            self._hand.let_go(grip)
        self._journal.expired(record, settlement, wall - record.received_wall)
        for report in settlement.reports:
            self._on_report(report)
        return True

    async def _is_written(self, writing: Awaitable[None]) -> bool:
        """Wait for `writing`; if it fails though the spool is well, the others go on."""
        try:
            await writing
        except SpoolFull:
            return False  # of which more than enough is said elsewhere; there is time
        except SpoolError as error:
            if self._spool.unhealthy_reason() is not None:
                raise
            self._journal.drain_failed(error)
            return False
        return True


async def _in_parallel(works: Sequence[Callable[[], Awaitable[bool]]]) -> list[bool]:
    """Do all of it, some at a time, up to the first error."""
    done: list[bool] = []
    for start in range(0, len(works), WIDTH):
        running = (work() for work in works[start : start + WIDTH])
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            done.append(outcome)
    return done
