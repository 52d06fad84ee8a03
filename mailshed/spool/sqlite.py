"""The spool of one instance in one SQLite file: `SpoolStore` for the event loop.

Its parts are modules of their own: mail on its way in (`intake`), the thread that writes (`writer`,
fed with `jobs` and `marks`), the threads that read (`lookup`, `contents`), and the sums that limits
and metrics need (`accounts`). This one joins them: it takes requests on the event loop, and
resolves the futures of a whole group in one callback once the writer says that the group is on
disk. Nothing here touches the disk on the loop but a statvfs(2), four times a second.

A store that has failed is sick: every operation raises SpoolSick at once, until `recover` has
reopened and verified it. Commits that fail make it so, and damage that a query meets. A read that
fails otherwise (no memory, no descriptors, a bad moment of the disk) is a plain SpoolError: it says
nothing about commits, nor about the mail. Only content that is wrong or missing is SpoolCorrupt,
which concerns one message.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from mailshed.clock import Clock
from mailshed.errors import SpoolCorrupt, SpoolError, SpoolFull, SpoolSick
from mailshed.spool import lookup
from mailshed.spool.accounts import Accounts, DiskGauge, free_space
from mailshed.spool.contents import Contents
from mailshed.spool.database import Database
from mailshed.spool.intake import take_in
from mailshed.spool.jobs import ForgetArrival, Job
from mailshed.spool.lock import SpoolLock, prepare_folder
from mailshed.spool.lookup import Lookup
from mailshed.spool.marks import (
    MARK_PRIORITY,
    Amend,
    Assign,
    NoteDelay,
    Quarantine,
    Realign,
    Settle,
)
from mailshed.spool.recovery import Opened
from mailshed.spool.rows import is_damage
from mailshed.spool.schema import DATABASE
from mailshed.spool.store import (
    BackendTotals,
    ClassTotals,
    Report,
    Settlement,
    SpoolRecord,
    SpoolTotals,
)
from mailshed.spool.writer import CHECKPOINT_OCTETS, Outcome, Writer
from mailshed.terms import QueueAction, QueueId

T = TypeVar("T")

# A command line that reads a spool without a daemon holds the lock for some milliseconds.
LOCK_PATIENCE_SECONDS = 1.0
# How often a query is repeated because all it found were odd messages, which were put aside.
REALIGN_ROUNDS_MAX = 100
# How many of a group hear of its commit in one turn of the loop. Each goes on with its session,
# some 0.2 ms; those of the largest group (`backlog.JOBS_MAX`) at once would keep all others for
# 50 ms.
ANSWERS_PER_TURN = 32


class SqliteSpool:
    """A SpoolStore in the folder `path`, which is created if need be.

    `octets_max` and `messages_max` bound what is held; below `disk_reserve` octets of free disk no
    mail is taken, so that there is room for marks. All methods belong to one event loop.
    `on_sync` hears the seconds of each COMMIT, in the writer's thread.
    """

    def __init__(
        self,
        path: Path,
        *,
        octets_max: int,
        messages_max: int,
        disk_reserve: int,
        clock: Clock,
        allow_network_filesystem: bool = False,
        measure_disk: Callable[[Path], int] = free_space,
        connection_factory: type[sqlite3.Connection] = sqlite3.Connection,
        on_sync: Callable[[float], None] | None = None,
    ) -> None:
        self._path = path
        self._database = path / DATABASE
        self._allow_network_filesystem = allow_network_filesystem
        self._connection_factory = connection_factory
        self._clock = clock
        self._on_sync = on_sync
        self._accounts = Accounts(
            octets_max=octets_max,
            messages_max=messages_max,
            disk_reserve=disk_reserve,
            disk=DiskGauge(path, clock.monotonic, measure_disk),
        )
        self._lock = SpoolLock(path)
        self._next_id = 1
        self._sick: str | None = "the spool is not open"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: Writer | None = None
        self._lookup: Lookup | None = None
        self._contents: Contents | None = None

    # Life.

    async def open(self) -> None:
        """Take the lock, open, migrate, verify, sweep. See `SpoolStore.open`."""
        assert self._writer is None, "open already"
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._take_folder)
        self._writer = Writer(
            Database(self._database, self._connection_factory, self._clock.monotonic),
            self._deliver,
            # Emptying the WAL makes the database grow, so the WAL must stay below the reserve.
            min(CHECKPOINT_OCTETS, self._accounts.disk_reserve // 4 or CHECKPOINT_OCTETS),
            self._on_sync,
        )
        self._writer.start()
        try:
            await self._open_database(self._writer, is_start=True)
        except SpoolSick:
            raise  # ours, and to be recovered
        except BaseException:
            await self.close()
            raise

    def _take_folder(self) -> None:
        prepare_folder(self._path, allow_network_filesystem=self._allow_network_filesystem)
        self._lock.acquire(LOCK_PATIENCE_SECONDS)
        self._lock.write_owner()

    async def _open_database(self, writer: Writer, *, is_start: bool = False) -> None:
        """Open for writing, then for reading, and be well; SpoolSick, and be sick."""
        opened = await self._ask(partial(writer.open, is_start=is_start))
        if isinstance(opened, SpoolError):
            self._sick = str(opened)
            raise opened
        await self._open_lookup()
        if (reason := writer.unhealthy_reason()) is not None:  # it has fallen sick meanwhile
            self._sick = reason
            raise SpoolSick(reason)
        self._accounts.reset(opened.contents)
        self._next_id = max(self._next_id, opened.next_id)
        self._sick = None

    async def _open_lookup(self) -> None:
        if self._lookup is not None:
            self._lookup.renew()
            return
        try:
            self._lookup = await asyncio.to_thread(Lookup, self._database)
            self._contents = Contents(self._lookup)
        except sqlite3.Error as error:
            self._sick = f"{self._database} cannot be read: {error}"
            raise SpoolSick(self._sick) from error

    async def _ask(
        self, order: Callable[[Callable[[Opened | SpoolError], None]], None]
    ) -> Opened | SpoolError:
        """Give the writer an order and wait for its answer."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Opened | SpoolError] = loop.create_future()

        def answer(value: Opened | SpoolError) -> None:
            loop.call_soon_threadsafe(_resolve, answered, value)

        order(answer)
        return await answered

    async def close(self) -> None:
        """Commit what is waiting, move the WAL into the database, give up the lock."""
        writer, self._writer = self._writer, None
        reader, self._lookup = self._lookup, None
        self._sick = "the spool is closed"
        if reader is not None:
            await asyncio.to_thread(reader.close)
        if writer is not None:
            await self._ask(writer.stop)
            await asyncio.to_thread(writer.join)
        self._lock.release()

    def unhealthy_reason(self) -> str | None:
        """Why every operation raises SpoolSick, or None."""
        return self._sick

    async def recover(self) -> None:
        """Reopen and verify; see `SpoolStore.recover`, and `database` for what that costs."""
        if self._sick is None:
            return
        if self._writer is None:
            raise SpoolSick(self._sick)
        await self._open_database(self._writer)

    # Writing.

    async def add(self, record: SpoolRecord, content: AsyncIterable[bytes]) -> None:
        """Store a message durably. See `SpoolStore.add`."""
        await self.add_copies((record,), content)

    async def add_copies(
        self, records: Sequence[SpoolRecord], content: AsyncIterable[bytes]
    ) -> None:
        """Store several copies durably, all or none. See `SpoolStore.add_copies`."""
        assert all(each.recipients for each in records), "a message needs a recipient"
        self._require_healthy()
        claim = self._accounts.claim(records[0].rank, len(records))
        try:
            await take_in(self, records, content, claim)
        finally:
            claim.release()

    async def settle(self, settlement: Settlement) -> None:
        """Record the outcome of an attempt, durably. See `SpoolStore.settle`."""
        assert not settlement.endings.keys() & settlement.deferred.keys(), "both ended and kept"
        self._require_healthy()
        await self.submit(
            Settle(
                done=self.future(),
                priority=MARK_PRIORITY,
                octets=sum(len(report.content) for report in settlement.reports),
                settlement=settlement,
                report_ids=[self.take_id() for _ in settlement.reports],
            )
        )

    async def quarantine(self, queue_id: QueueId) -> None:
        """Keep a damaged message and never try it. See `SpoolStore.quarantine`."""
        self._require_healthy()
        await self.submit(Quarantine(done=self.future(), priority=MARK_PRIORITY, queue_id=queue_id))

    async def amend(self, queue_id: QueueId, action: QueueAction, wall: float) -> bool:
        """Hold, release, retry or delete. See `SpoolStore.amend`."""
        self._require_healthy()
        job = Amend(
            done=self.future(),
            priority=MARK_PRIORITY,
            queue_id=queue_id,
            action=action,
            wall=wall,
        )
        await self.submit(job)
        return job.has_changed

    async def assign(self, backends: Mapping[QueueId, str]) -> None:
        """Say which message is for whom. See `SpoolStore.assign`."""
        self._require_healthy()
        await self.submit(Assign(done=self.future(), priority=MARK_PRIORITY, backends=backends))

    async def note_delay(self, queue_id: QueueId, report: Report | None) -> None:
        """Record that the sender of a late message was told. See `SpoolStore.note_delay`."""
        self._require_healthy()
        await self.submit(
            NoteDelay(
                done=self.future(),
                priority=MARK_PRIORITY,
                octets=0 if report is None else len(report.content),
                queue_id=queue_id,
                report=report,
                report_id=self.take_id(),
            )
        )

    def _require_healthy(self) -> None:
        if self._sick is not None:
            raise SpoolSick(self._sick)

    # What `intake` needs.

    def take_id(self) -> int:
        """A message id that has never been used."""
        message_id = self._next_id
        self._next_id += 1
        return message_id

    def future(self) -> asyncio.Future[None]:
        """What a job is answered with."""
        assert self._loop is not None, "not open"
        return self._loop.create_future()

    async def submit(self, job: Job) -> None:
        """Hand a job to the writer and wait until it is on disk."""
        self._require_healthy()
        assert self._writer is not None, "healthy but not open"
        self._writer.submit(job)
        await job.done

    def submit_alone(self, job: Job) -> None:
        """Hand over a job for whose end nobody waits; a sick spool lets it be."""
        if self._writer is not None and self._sick is None:
            self._writer.submit(job)

    def _deliver(self, outcome: Outcome) -> None:
        """Pass a group's outcome from the writer's thread to the loop, in one call."""
        assert self._loop is not None, "not open"
        try:
            self._loop.call_soon_threadsafe(self._conclude, outcome)
        except RuntimeError:
            # The loop was closed without closing the spool; nobody is left to be told.
            return

    def _conclude(self, outcome: Outcome) -> None:
        """Sum up what a group changed, then tell all who wait for it."""
        for job in outcome.done:
            if job.claim is not None:
                job.claim.release()
        try:
            self._accounts.apply(outcome.changes)
        except AssertionError as fault:  # somebody else has written; recovery takes stock anew
            self._sick = f"the spool is not what we made of it: {fault}"
        if outcome.sick is not None:
            self._sick = outcome.sick
        for job, error in outcome.failed:
            if not job.done.done():
                job.done.set_exception(error)
                if isinstance(job, ForgetArrival):
                    job.done.exception()  # nobody waits for it
        self._answer(outcome.done)

    def _answer(self, done: Sequence[Job]) -> None:
        """Tell some of those whose job is on disk, and the rest in the next turns of the loop."""
        for job in done[:ANSWERS_PER_TURN]:
            if not job.done.done():
                job.done.set_result(None)
        if rest := done[ANSWERS_PER_TURN:]:
            assert self._loop is not None
            self._loop.call_soon(self._answer, rest)

    # Reading.

    async def due(
        self,
        wall: float,
        traffic_class: str,
        limit: int,
        exclude: Sequence[QueueId] = (),
        *,
        backend: str = "",
    ) -> list[SpoolRecord]:
        """Messages to try now. See `SpoolStore.due`."""
        return await self._listed(
            lambda connection: lookup.due(
                connection, wall, traffic_class, limit, exclude, backend=backend
            )
        )

    async def next_due(self) -> float | None:
        """The earliest next attempt. See `SpoolStore.next_due`."""
        keys = sorted(self._accounts.outgoing)
        return await self._query(lambda connection: lookup.next_due(connection, keys))

    async def beyond(self, wall: float, limit: int) -> list[QueueId]:
        """Messages of a later time than there can be. See `SpoolStore.beyond`."""
        keys = sorted(self._accounts.outgoing)
        return await self._query(lambda connection: lookup.beyond(connection, wall, keys, limit))

    async def expired(
        self,
        wall: float,
        limit: int,
        exclude: Sequence[QueueId] = (),
        *,
        backends: Sequence[str] | None = None,
    ) -> list[SpoolRecord]:
        """Messages whose time is up. See `SpoolStore.expired`."""
        return await self._listed(
            lambda connection: lookup.expired(connection, wall, limit, exclude, backends)
        )

    async def delayed(self, wall: float, limit: int) -> list[SpoolRecord]:
        """Messages whose senders wait for word. See `SpoolStore.delayed`."""
        return await self._listed(lambda connection: lookup.delayed(connection, wall, limit))

    async def _listed(
        self, query: Callable[[sqlite3.Connection], list[SpoolRecord]]
    ) -> list[SpoolRecord]:
        """Messages to try; those without a recipient to try are put aside, not to be met again."""
        found: list[SpoolRecord] = []
        for _ in range(REALIGN_ROUNDS_MAX):
            found = await self._query(query)
            odd = [record for record in found if not record.recipients]
            if not odd:
                return found
            try:
                for record in odd:
                    await self._realign(record.queue_id)
            except SpoolFull:
                break
        # More of them another time; the others are not kept waiting.
        return [record for record in found if record.recipients]

    async def _realign(self, queue_id: QueueId) -> None:
        await self.submit(Realign(done=self.future(), priority=MARK_PRIORITY, queue_id=queue_id))

    async def content(self, queue_id: QueueId) -> AsyncIterator[bytes]:
        """The stored content, verified. See `SpoolStore.content`."""
        self._require_healthy()
        assert self._contents is not None, "healthy but not open"
        try:
            async for piece in self._contents.read(queue_id):
                yield piece
        except sqlite3.Error as error:
            # Quarantine is for ever, so it takes proof: a failure to read is none.
            kind = SpoolCorrupt if is_damage(error) else SpoolError
            raise kind(f"{queue_id}: content cannot be read: {error}") from error

    async def totals(self) -> SpoolTotals:
        """Counts and limits. See `SpoolStore.totals`."""
        self._require_healthy()
        accounts = self._accounts
        held, outgoing = accounts.held(), accounts.to_be_sent()
        ledger = {name: dict(terms) for name, terms in accounts.ledger.items()}
        messages, octets, free = accounts.messages, accounts.octets, accounts.disk.free()
        # All of the above is of one moment; only the ages are of the next.
        keys, due_keys = [key for key, _ in held], [key for key, _ in outgoing]
        instants, dues = await self._query(
            lambda connection: (
                lookup.oldest(connection, keys),
                lookup.next_dues(connection, due_keys),
            )
        )
        wall = self._clock.wall()
        by_class = tuple(
            ClassTotals(
                traffic_class=traffic_class,
                state=state,
                messages=holding.messages,
                recipients=holding.recipients,
                octets=holding.octets,
                oldest_wall=wall if instant is None else instant,
            )
            for ((traffic_class, state), holding), instant in zip(held, instants, strict=True)
        )
        by_backend = tuple(
            BackendTotals(
                backend=backend,
                traffic_class=traffic_class,
                messages=holding.messages,
                recipients=holding.recipients,
                octets=holding.octets,
                due_wall=wall if due is None else due,
            )
            for ((backend, traffic_class), holding), due in zip(outgoing, dues, strict=True)
        )
        return SpoolTotals(
            by_class=by_class,
            by_backend=by_backend,
            ledger=ledger,
            octets=octets,
            messages=messages,
            octets_max=accounts.octets_max,
            messages_max=accounts.messages_max,
            disk_free=max(0, free),
            disk_reserve=accounts.disk_reserve,
        )

    async def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        self._require_healthy()
        assert self._lookup is not None, "healthy but not open"
        try:
            return await self._lookup.run(query)
        except sqlite3.Error as error:
            reason = f"the spool cannot be read: {error}"
            if not is_damage(error):
                raise SpoolError(reason) from error
            self._sick = reason
            raise SpoolSick(reason) from error


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
