"""The one thread that writes: it takes what is waiting, commits it together, and says so.

A commit costs one fdatasync, whatever is in it, so the more wait the more share it (group commit);
nobody waits for company. What shares a commit is decided in `backlog`.

The common case pays for nothing but its statements: the jobs of a group run one after the other in
one transaction. If one of them fails, the transaction is rolled back and the group runs again with
a savepoint for each job, so that the bad one fails alone. On a full disk the jobs that bring mail
give way and the marks, which are small, are tried once more.

Whatever else SQLite reports (I/O error, damage) makes the writer sick: it does not know what a
retry after a failed fsync would mean (the kernel may have dropped the pages and report success the
second time), so it answers every job with SpoolSick until `recover` has reopened and verified the
database. A message whose COMMIT failed may yet be in the WAL; recovery retracts it, because its
sender was told that we do not have it.

Checkpoints and the return of free pages happen between commits, after the outcomes are out.

The thread outlives every error, expected or not: whoever waits for it waits without a timeout. What
nobody foresaw is treated like a failed store: sick, the jobs in hand refused, and on it goes.
"""

import queue
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from mailshed.errors import SpoolError, SpoolFull, SpoolSick
from mailshed.spool.accounts import COMMIT_OCTETS
from mailshed.spool.backlog import Backlog
from mailshed.spool.changes import Changes, write_sums
from mailshed.spool.database import Database
from mailshed.spool.jobs import Job
from mailshed.spool.recovery import (
    Opened,
    Sums,
    correct,
    prove,
    recount,
    require,
    sweep,
    take_stock,
)
from mailshed.spool.rows import is_full, is_refused_write
from mailshed.spool.schema import pragma

T = TypeVar("T")

# Octets written to the WAL since the last checkpoint that make one worth its fsync; about what
# SQLite itself would do (1000 pages).
CHECKPOINT_OCTETS = 4 * 1024**2
# After so long without work, tidy up (seconds).
IDLE_SECONDS = 1.0
# Free pages that are kept for the next messages rather than given back, and how many are given back
# in one commit, so that a job which arrives meanwhile does not wait.
FREE_PAGES_KEPT = 1024
FREE_PAGES_STEP = 256
# How many acknowledged messages recovery looks for by name.
ACKNOWLEDGED_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one group, for the event loop."""

    done: list[Job] = field(default_factory=list)
    failed: list[tuple[Job, SpoolError]] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)
    sick: str | None = None
    """Set if the writer is sick."""


@dataclass(frozen=True, slots=True)
class _Order:
    """A request that is not a job: open (again), or stop."""

    answer: Callable[[Opened | SpoolError], None]
    is_start: bool = False
    is_stop: bool = False


class Writer:
    """The writing thread. All that is done to `database` is done in it.

    `deliver` is called in the thread, once for each group; it must hand over and return. So is
    `on_sync`, with the seconds that each COMMIT took, sync included.
    """

    def __init__(
        self,
        database: Database,
        deliver: Callable[[Outcome], None],
        checkpoint_octets: int = CHECKPOINT_OCTETS,
        on_sync: Callable[[float], None] | None = None,
    ) -> None:
        self._database = database
        self._on_sync = on_sync
        self._checkpoint_octets = checkpoint_octets
        self._deliver = deliver
        self._inbox: queue.SimpleQueue[Job | _Order] = queue.SimpleQueue()
        self._backlog = Backlog()
        self._orders: list[_Order] = []
        self._connection: sqlite3.Connection | None = None
        self._sick: str | None = "not open"
        self._is_stopped = False
        self._in_hand: list[Job] = []
        self._written = 0
        self._retract: list[int] = []
        self._attempted = Changes()
        self._acknowledged: OrderedDict[int, None] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)

    def start(self) -> None:
        """Start the thread; it does nothing before `open`."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Ask for a change; the answer comes through `deliver`."""
        self._inbox.put(job)

    def open(
        self, answer: Callable[[Opened | SpoolError], None], *, is_start: bool = False
    ) -> None:
        """Open, or close and open again, and verify; `answer` is called in the thread.

        `is_start`: see `Database.open`.
        """
        self._inbox.put(_Order(answer, is_start=is_start))

    def stop(self, answer: Callable[[Opened | SpoolError], None]) -> None:
        """Finish what is waiting, checkpoint, close and end the thread."""
        self._database.hurry()
        self._inbox.put(_Order(answer, is_stop=True))

    def unhealthy_reason(self) -> str | None:
        """Why it refuses all jobs, or None; good for the moment, and for any thread to ask."""
        return self._sick

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        timeout: float | None = None
        while not self._is_stopped:
            try:
                timeout = self._step(timeout)
            except Exception as error:  # noqa: BLE001 -- a thread that ends would leave all waiting
                timeout = None
                group, self._in_hand = self._in_hand, []
                outcome = self._fall_sick(error, group)
                with suppress(Exception):  # if it is the delivery that fails
                    self._deliver(outcome)
                self._database.distrust()

    def _step(self, timeout: float | None) -> float | None:
        """Do one thing; return how long to wait for work after it (None: for ever)."""
        self._receive(timeout)
        if self._backlog:
            self._in_hand = self._backlog.take()
            self._commit(self._in_hand)
            self._in_hand = []
            return IDLE_SECONDS
        if self._orders:
            self._obey(self._orders.pop(0))
            return timeout
        return self._tidy()

    def _obey(self, order: _Order) -> None:
        """Carry out an order and answer it, whatever happens."""
        if order.is_stop:
            self._is_stopped = True
            if self._close():
                self._database.note_stopped()
            order.answer(SpoolError("closed"))
        else:
            order.answer(self._open(is_start=order.is_start))

    def _receive(self, timeout: float | None) -> None:
        """Move all that has arrived into the backlog, waiting for it if there is nothing to do."""
        is_idle = not self._backlog and not self._orders
        try:
            item = self._inbox.get(block=is_idle, timeout=timeout)
            while True:
                if isinstance(item, _Order):
                    self._orders.append(item)
                else:
                    self._backlog.put(item)
                item = self._inbox.get_nowait()
        except queue.Empty:
            pass

    # Groups.

    def _commit(self, group: list[Job]) -> None:
        """Commit the group and deliver its outcome."""
        if self._sick is not None:
            failed: list[tuple[Job, SpoolError]] = [(job, SpoolSick(self._sick)) for job in group]
            self._deliver(Outcome(failed=failed, sick=self._sick))
            return
        # What was cancelled is left out; what is cancelled from here on may be stored whole.
        group = [job for job in group if not job.done.cancelled()]
        if not group:
            return
        try:
            for job in group:
                job.prepare()
            outcome = self._transact(group)
        except Exception as error:  # noqa: BLE001 -- a thread that ends would leave all waiting
            outcome = self._fall_sick(error, group)
        else:
            self._remember(outcome.changes)
        self._deliver(outcome)
        self._in_hand = []  # it has been promised: what fails from here on is not its fault
        if outcome.sick is not None:
            self._database.distrust()
            return
        self._written += outcome.changes.written + COMMIT_OCTETS
        if self._written >= self._checkpoint_octets:
            self._between_commits(self._checkpoint)

    def _transact(self, group: list[Job]) -> Outcome:
        """Commit what can be committed of the group. Raises if the store has failed."""
        fault: Exception | None = None
        for attempt in (self._together, self._one_by_one):
            try:
                return attempt(group)
            except Exception as error:
                self._roll_back()
                if self._is_full(error):
                    return self._make_way(group)
                if _is_store_fault(error):
                    raise
                fault = error
        assert fault is not None
        raise fault

    def _together(self, group: list[Job]) -> Outcome:
        """One transaction, all or nothing."""
        connection = self._open_connection
        self._attempted = changes = Changes()
        connection.execute("BEGIN IMMEDIATE")
        for job in group:
            job.apply(connection, changes)
        changes.write_rows(connection)
        write_sums(connection, changes)
        self._sync(connection)
        return Outcome(done=group, changes=changes)

    def _one_by_one(self, group: list[Job]) -> Outcome:
        """One transaction without the jobs that fail."""
        connection = self._open_connection
        outcome = Outcome()
        self._attempted = outcome.changes
        connection.execute("BEGIN IMMEDIATE")
        for job in group:
            connection.execute("SAVEPOINT job")
            changes = Changes()
            try:
                job.apply(connection, changes)
                changes.write_rows(connection)
            except Exception as error:
                if _is_store_fault(error):
                    raise
                connection.execute("ROLLBACK TO job")
                refusal = error if isinstance(error, SpoolError) else SpoolError(repr(error))
                outcome.failed.append((job, refusal))
            else:
                outcome.done.append(job)
                outcome.changes.merge(changes)
            connection.execute("RELEASE job")
        write_sums(connection, outcome.changes)
        self._sync(connection)
        return outcome

    def _sync(self, connection: sqlite3.Connection) -> None:
        """COMMIT, which returns when the group is on stable storage."""
        began = time.monotonic()
        connection.execute("COMMIT")
        if self._on_sync is not None:
            with suppress(Exception):  # whoever measures a commit cannot undo it
                self._on_sync(time.monotonic() - began)

    def _make_way(self, group: list[Job]) -> Outcome:
        """The disk is full: refuse mail and try the marks alone."""
        self._written = self._checkpoint_octets  # an emptied WAL is room
        mail = [job for job in group if job.needs_room]
        marks = [job for job in group if not job.needs_room]
        if not mail:
            return Outcome(failed=[(job, SpoolFull("the disk is full")) for job in marks])
        outcome = self._transact(marks) if marks else Outcome()
        outcome.failed.extend((job, SpoolFull("the disk is full")) for job in mail)
        return outcome

    def _is_full(self, error: Exception) -> bool:
        """Whether there was no room to write, which SQLite does not always see."""
        return is_full(error) or (is_refused_write(error) and self._database.is_out_of_room())

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after some errors.
        if self._open_connection.in_transaction:
            self._open_connection.execute("ROLLBACK")

    def _fall_sick(self, error: Exception, group: list[Job]) -> Outcome:
        self._sick = f"the spool failed: {_text(error)}"
        # The group may have reached the disk all the same: its mail is taken back, since nobody was
        # promised it; its marks hold, whether they are repeated or not.
        refused = [message_id for job in group for message_id in job.brings]
        self._retract += refused
        for message_id in (*refused, *self._attempted.removed):
            self._acknowledged.pop(message_id, None)
        return Outcome(failed=[(job, SpoolSick(self._sick)) for job in group], sick=self._sick)

    def _remember(self, changes: Changes) -> None:
        """Keep the ids of the latest acknowledged messages, for recovery to look for."""
        for message_id in changes.stored:
            self._acknowledged[message_id] = None
        for message_id in changes.removed:
            self._acknowledged.pop(message_id, None)
        while len(self._acknowledged) > ACKNOWLEDGED_MAX:
            self._acknowledged.popitem(last=False)

    # Opening and closing.

    @property
    def _open_connection(self) -> sqlite3.Connection:
        assert self._connection is not None, "not open"
        return self._connection

    def _open(self, *, is_start: bool) -> Opened | SpoolError:
        """Open the database anew and verify it; stay sick, and say why, if that fails."""
        try:
            self._close()
            self._connection = self._database.open(is_start=is_start)
            sweep(self._connection, self._retract)
            require(self._connection, self._acknowledged)
            self._unless_full(prove)
            # So that what a fault left in the WAL is settled now.
            self._unless_full(lambda _: self._checkpoint("TRUNCATE"))
            counted: list[Sums] | None = None
            if not (is_start and self._database.was_trusted):
                counted = recount(self._connection)
                self._unless_full(partial(correct, counted=counted))
            opened = take_stock(self._connection, counted)
        except Exception as error:  # noqa: BLE001 -- whoever asked waits for the answer
            # First, so that closing leaves alone what has not been verified.
            self._sick = _text(error)
            self._close()
            self._database.note_failure(error)
            return SpoolSick(self._sick)
        self._database.vouch()
        self._sick = None
        self._retract.clear()
        return opened

    def _unless_full(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do what a full disk may put off: it can be read, and is to be drained."""
        try:
            work(self._open_connection)
        except sqlite3.OperationalError as error:
            if not self._is_full(error):
                raise

    def _close(self) -> bool:
        """Close the database, whatever its condition; what was committed stays committed.

        Whether it was well to its end; if the WAL could not be emptied, it still has all there is.
        """
        connection = self._connection
        if connection is None:
            return False
        is_well = self._sick is None
        try:
            if is_well:
                self._checkpoint("TRUNCATE")
        except sqlite3.Error:
            is_well = False
            self._database.distrust()
        self._connection = None
        with suppress(sqlite3.Error):
            connection.close()
        return is_well

    # Between commits.

    def _between_commits(self, work: Callable[[], T]) -> T | None:
        """Do what can wait on a full disk, and what makes the writer sick if it fails (None)."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001 -- out of memory is no sqlite3.Error
            if not self._is_full(error):
                self._deliver(self._fall_sick(error, []))
                self._database.distrust()
            return None

    def _checkpoint(self, mode: str = "PASSIVE") -> None:
        self._open_connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        self._written = 0

    def _tidy(self) -> float | None:
        """Use the silence; return how long to wait for work before doing more (None: for ever)."""
        if self._sick is not None:
            return None
        match self._between_commits(self._shrink):
            case None:
                return IDLE_SECONDS
            case True:
                return 0.0
        if self._written:
            self._between_commits(self._checkpoint)
        return None

    def _shrink(self) -> bool:
        """Give back some free pages if there are many; False if there was nothing to do."""
        excess = int(pragma(self._open_connection, "freelist_count")) - FREE_PAGES_KEPT
        if excess > 0:
            self._vacuum(min(excess, FREE_PAGES_STEP))
        return excess > 0

    def _vacuum(self, pages: int) -> None:
        # Each step of this statement gives back one page, and its rows have no columns, at which
        # sqlite3's execute() stops after the first; executescript() goes on to the end.
        self._open_connection.executescript(f"PRAGMA incremental_vacuum({pages})")
        self._written += COMMIT_OCTETS


def _text(error: Exception) -> str:
    """The error for an operator; of one that nobody foresaw, the text alone says too little."""
    return str(error) if isinstance(error, SpoolError | sqlite3.Error) else repr(error)


def _is_store_fault(error: Exception) -> bool:
    """Whether the database failed, rather than one job being wrong."""
    job_faults = (
        sqlite3.IntegrityError,
        sqlite3.ProgrammingError,
        sqlite3.InterfaceError,
        sqlite3.DataError,
    )
    return isinstance(error, sqlite3.Error) and not isinstance(error, job_faults)
