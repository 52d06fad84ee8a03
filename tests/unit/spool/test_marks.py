"""Marks inside a transaction of the test's own: what they leave in the tables and in the sums."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mailshed.errors import SpoolError
from mailshed.spool.changes import Changes, Holding, HoldingKey, write_sums
from mailshed.spool.jobs import Job, StoreMessage
from mailshed.spool.marks import MARK_PRIORITY, Amend, NoteDelay, Quarantine, Settle
from mailshed.spool.recovery import recount, take_stock
from mailshed.spool.schema import DATABASE, open_writer
from mailshed.spool.store import Report, Settlement, SpoolRecord
from mailshed.terms import Ending, QueueAction, SpoolState
from tests.support.builders import WALL, spool_record

TABLES = ("message", "recipient", "chunk")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_writer(tmp_path / DATABASE)) as opened:
        yield opened


@pytest.fixture
async def future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@pytest.fixture
def record(connection: sqlite3.Connection, future: asyncio.Future[None]) -> SpoolRecord:
    """Message 1, stored: two recipients, due at WALL + 60, a report about it at WALL."""
    stored = spool_record(
        "a@example.net", "b@example.net", next_attempt_wall=WALL + 60, report_wall=WALL
    )
    run(
        connection,
        StoreMessage(done=future, priority=1, message_id=1, record=stored, piece=b"x"),
    )
    return stored


def rows(connection: sqlite3.Connection, table: str) -> int:
    found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return found


def run(connection: sqlite3.Connection, *jobs: Job) -> Changes:
    changes = Changes()
    for job in jobs:
        job.prepare()
        job.apply(connection, changes)
    changes.write_rows(connection)
    write_sums(connection, changes)
    return changes


def amend(future: asyncio.Future[None], record: SpoolRecord, action: QueueAction) -> Amend:
    return Amend(
        done=future,
        priority=MARK_PRIORITY,
        queue_id=record.queue_id,
        action=action,
        wall=WALL,
    )


def held(changes: Changes) -> dict[HoldingKey, Holding]:
    """What a mark added and took away, without what comes to nothing."""
    return {key: each for key, each in changes.holdings.items() if each != Holding()}


async def test_a_settled_message_leaves_nothing_but_its_ledger(
    connection: sqlite3.Connection, future: asyncio.Future[None]
) -> None:
    record = spool_record("a@example.net", "b@example.net")
    store = StoreMessage(done=future, priority=1, message_id=1, record=record, piece=b"x")
    settlement = Settlement(
        queue_id=record.queue_id,
        endings={0: Ending.DELIVERED, 1: Ending.REFUSED, 7: Ending.DELIVERED},
        attempts=1,
        next_attempt_wall=WALL,
    )
    settle = Settle(done=future, priority=-1, settlement=settlement, report_ids=[])
    run(connection, store)
    changes = run(connection, settle)
    assert [rows(connection, table) for table in ("message", "recipient", "chunk")] == [0, 0, 0]
    assert changes.removed == [1]
    assert sorted(connection.execute("SELECT * FROM ledger")) == [
        ("personal", "accepted", 2),
        ("personal", "delivered", 1),
        ("personal", "refused", 1),
    ]


@pytest.mark.parametrize("action", list(QueueAction))
async def test_the_sums_that_a_mark_reports_are_those_of_the_tables(
    connection: sqlite3.Connection,
    future: asyncio.Future[None],
    record: SpoolRecord,
    action: QueueAction,
) -> None:
    before = take_stock(connection).contents
    if action is QueueAction.RELEASE:
        before.merge(run(connection, amend(future, record, QueueAction.HOLD)))
    job = amend(future, record, action)
    before.merge(run(connection, job))
    assert job.has_changed
    after = take_stock(connection).contents
    counted = take_stock(connection, recount(connection)).contents
    assert held(before) == held(after) == counted.holdings
    assert +before.ledger == +after.ledger


async def test_a_mark_that_runs_twice_answers_for_its_last_run(
    connection: sqlite3.Connection, future: asyncio.Future[None], record: SpoolRecord
) -> None:
    """A neighbour may spoil the first transaction, and all of it is done again."""
    job = amend(future, record, QueueAction.HOLD)
    for end in ("ROLLBACK", "COMMIT"):
        connection.execute("BEGIN")
        job.apply(connection, Changes())
        connection.execute(end)
        assert job.has_changed
    job.apply(connection, Changes())
    assert not job.has_changed


async def test_deleting_leaves_nothing_but_the_ledger(
    connection: sqlite3.Connection, future: asyncio.Future[None], record: SpoolRecord
) -> None:
    changes = run(connection, amend(future, record, QueueAction.DELETE))
    assert [rows(connection, table) for table in TABLES] == [0, 0, 0]
    assert changes.removed == [1]
    assert changes.ledger == {("personal", "removed"): 2}


async def test_holding_leaves_the_due_time_as_it_is(
    connection: sqlite3.Connection, future: asyncio.Future[None], record: SpoolRecord
) -> None:
    run(connection, amend(future, record, QueueAction.HOLD))
    assert connection.execute("SELECT next_attempt FROM message").fetchone() == (WALL + 60,)


async def test_damage_leaves_the_due_time_as_it_is(
    connection: sqlite3.Connection, future: asyncio.Future[None], record: SpoolRecord
) -> None:
    job = Quarantine(done=future, priority=MARK_PRIORITY, queue_id=record.queue_id)
    changes = run(connection, job)
    assert held(changes) == {
        ("personal", SpoolState.QUEUED, ""): Holding(-1, -2, -1),
        ("personal", SpoolState.CORRUPT, ""): Holding(1, 2, 1),
    }
    assert connection.execute("SELECT next_attempt FROM message").fetchone() == (WALL + 60,)


async def test_a_delay_is_noted_with_its_report_or_not_at_all(
    connection: sqlite3.Connection, future: asyncio.Future[None], record: SpoolRecord
) -> None:
    def note(report: SpoolRecord) -> NoteDelay:
        return NoteDelay(
            done=future,
            priority=MARK_PRIORITY,
            queue_id=record.queue_id,
            report=Report(record=report, content=b"late"),
            report_id=2,
        )

    connection.execute("SAVEPOINT job")
    with pytest.raises(SpoolError, match="already"):
        run(connection, note(spool_record(queue_id=record.queue_id, is_generated=True)))
    connection.execute("ROLLBACK TO job")
    assert connection.execute("SELECT report_at FROM message").fetchall() == [(WALL,)]
    for messages in (1, 0):
        changes = run(connection, note(spool_record(is_generated=True)))
        assert len(changes.stored) == messages
    assert connection.execute("SELECT report_at FROM message").fetchall() == [(None,), (None,)]
    assert rows(connection, "chunk") == 2
