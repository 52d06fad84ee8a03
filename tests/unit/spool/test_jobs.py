"""Each job alone, inside a transaction of the test's own."""

import asyncio
import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mailshed.errors import SpoolError, SpoolSick
from mailshed.spool.changes import Changes, write_sums
from mailshed.spool.jobs import (
    Arrival,
    ForgetArrival,
    Job,
    StoreMessage,
    StorePiece,
    retract_message,
)
from mailshed.spool.schema import CHUNK_OCTETS, DATABASE, open_writer
from tests.support.builders import spool_record


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_writer(tmp_path / DATABASE)) as opened:
        yield opened


@pytest.fixture
async def future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


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


def large(future: asyncio.Future[None]) -> tuple[Arrival, StorePiece, StorePiece, StoreMessage]:
    """A message in three pieces."""
    arrival = Arrival(message_id=9, pieces=2, octets=2 * CHUNK_OCTETS)
    pieces = [
        StorePiece(done=future, priority=1, arrival=arrival, place=place, piece=bytes(CHUNK_OCTETS))
        for place in range(2)
    ]
    last = StoreMessage(
        done=future,
        priority=1,
        message_id=9,
        record=spool_record(),
        piece=b"the end",
        arrival=arrival,
    )
    return arrival, *pieces, last  # type: ignore[return-value]


async def test_a_job_that_runs_twice_stores_the_same(
    connection: sqlite3.Connection, future: asyncio.Future[None]
) -> None:
    """A neighbour may spoil the first transaction, and all of it is done again."""
    _, *jobs = large(future)
    for job in jobs:
        job.prepare()
    for end in ("ROLLBACK", "COMMIT"):
        connection.execute("BEGIN")
        changes = Changes()
        for job in jobs:
            job.apply(connection, changes)
        changes.write_rows(connection)
        connection.execute(end)
    size, digest = connection.execute("SELECT size, digest FROM message").fetchone()
    content = bytes(2 * CHUNK_OCTETS) + b"the end"
    assert (size, digest) == (len(content), hashlib.sha256(content).digest())
    assert rows(connection, "chunk") == 3
    assert rows(connection, "incoming") == 0


async def test_a_message_counts_only_from_its_last_piece_on(
    connection: sqlite3.Connection, future: asyncio.Future[None]
) -> None:
    _, first, second, last = large(future)
    changes = run(connection, first, second)
    assert (changes.holdings, changes.ledger, changes.stored) == ({}, {}, [])
    assert changes.written == 2 * CHUNK_OCTETS
    changes = run(connection, last)
    assert changes.stored == [9]
    assert changes.ledger == {("personal", "accepted"): 1}


@pytest.mark.parametrize("place", [1, 2])
async def test_pieces_that_follow_a_sweep_are_refused(
    connection: sqlite3.Connection, future: asyncio.Future[None], place: int
) -> None:
    arrival, *jobs = large(future)
    run(connection, *jobs[:place], ForgetArrival(done=future, priority=1, arrival=arrival))
    assert rows(connection, "chunk") == 0
    with pytest.raises(SpoolSick, match="recovered"):
        run(connection, jobs[place])


async def test_forgetting_a_message_that_was_finished_changes_nothing(
    connection: sqlite3.Connection, future: asyncio.Future[None]
) -> None:
    arrival, *jobs = large(future)
    run(connection, *jobs, ForgetArrival(done=future, priority=1, arrival=arrival))
    assert (rows(connection, "chunk"), rows(connection, "message")) == (3, 1)


async def test_the_same_queue_id_twice_is_refused(
    connection: sqlite3.Connection, future: asyncio.Future[None]
) -> None:
    record = spool_record()
    jobs = [
        StoreMessage(done=future, priority=1, message_id=number, record=record, piece=b"x")
        for number in (1, 2)
    ]
    run(connection, jobs[0])
    with pytest.raises(SpoolError, match="already"):
        run(connection, jobs[1])


async def test_a_retracted_message_was_never_accepted(
    connection: sqlite3.Connection, future: asyncio.Future[None]
) -> None:
    record = spool_record("a@example.net", "b@example.net")
    run(
        connection,
        StoreMessage(done=future, priority=1, message_id=1, record=record, piece=b"x"),
    )
    changes = Changes()
    for message_id in (1, 2):
        retract_message(connection, changes, message_id)
    write_sums(connection, changes)
    assert [rows(connection, table) for table in ("message", "recipient", "chunk")] == [0, 0, 0]
    assert list(connection.execute("SELECT * FROM ledger")) == [("personal", "accepted", 0)]
