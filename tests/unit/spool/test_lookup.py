"""Queries that stay fast, and threads that read in the background."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from mailshed.errors import SpoolSick
from mailshed.spool import contents, lookup
from mailshed.spool.changes import Changes
from mailshed.spool.jobs import add_message
from mailshed.spool.lookup import THREADS, Lookup
from mailshed.spool.schema import DATABASE, open_writer
from mailshed.terms import SpoolState
from tests.support.builders import BULK, PERSONAL, WALL, spool_record
from tests.support.spools import Faults, sqlite_error

MANY = 5000
IN_HAND = '["Q1", "Q2"]'
KEYS = [("exch", "bulk"), ("exch", "personal")]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A database with many messages of two classes, half of them due and a third of them held."""
    folder = tmp_path_factory.mktemp("crowded")
    with closing(open_writer(folder / DATABASE)) as connection:
        connection.execute("BEGIN")
        for number in range(MANY):
            record = spool_record(
                names=BULK if number % 2 else PERSONAL,
                received_wall=WALL + number,
                next_attempt_wall=WALL + number,
                expires_wall=WALL + number,
                report_wall=WALL + number,
                backend="exch" if number % 20 else "neighbour",
            )
            changes = Changes()
            add_message(changes, number + 1, record, size=0, digest=b"")
            changes.write_rows(connection)
        connection.execute("UPDATE message SET state = 'hold' WHERE message_id % 3 = 0")
        connection.execute("UPDATE recipient SET state = 'hold' WHERE message_id % 3 = 0")
        connection.execute("COMMIT")
        yield connection


def steps(connection: sqlite3.Connection) -> Iterator[int]:
    """How many instructions of SQLite's virtual machine were run, in hundreds."""
    counter = count()
    connection.set_progress_handler(lambda: next(counter) and 0, 100)
    return counter


@pytest.mark.parametrize("wall", [WALL + 10, WALL + MANY / 2, WALL + MANY])
def test_a_query_costs_what_it_returns_and_not_what_there_is(
    crowded: sqlite3.Connection, wall: float
) -> None:
    counter = steps(crowded)
    assert lookup.due(crowded, wall, "personal", 4, [], backend="exch")
    assert lookup.expired(crowded, wall, 4, [])
    assert lookup.delayed(crowded, wall, 4)
    assert lookup.beyond(crowded, WALL - 1, KEYS, 4)
    assert lookup.next_due(crowded, KEYS) == WALL + 1
    assert lookup.oldest(crowded, [("bulk", SpoolState.QUEUED), ("bulk", SpoolState.HOLD)])
    crowded.set_progress_handler(None, 0)
    # About 600 instructions; a scan of the table would be over 50,000.
    assert next(counter) < 20


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        (lookup.DUE, ("exch", "personal", WALL, IN_HAND, 10)),
        (lookup.EXPIRED, (WALL, None, None, IN_HAND, 10)),
        (lookup.EXPIRED, (WALL, "(exch)", "(exch)", IN_HAND, 10)),
        (lookup.DELAYED, (WALL, 10)),
        (lookup.BEYOND, ("exch", "personal", WALL, 10)),
        (lookup.NEXT_DUE, ("exch", "personal")),
        (lookup.OLDEST, ("personal", "queued")),
        (contents.BEGINNINGS, (IN_HAND,)),
        (contents.PIECE, (1,)),
    ],
)
def test_no_query_sorts_or_scans(
    crowded: sqlite3.Connection, query: str, arguments: tuple[object, ...]
) -> None:
    plan = [row[3] for row in crowded.execute(f"EXPLAIN QUERY PLAN {query}", arguments)]
    # What a query is told to leave out, or to read, comes as a list.
    plan = [step for step in plan if not step.startswith(("LIST SUBQUERY", "SCAN json_each"))]
    assert plan, query
    assert all(step.startswith(("SEARCH message USING", "SEARCH chunk USING")) for step in plan)


def test_due_steps_over_what_is_in_hand(crowded: sqlite3.Connection) -> None:
    found = lookup.due(crowded, WALL + MANY, "personal", 10, [], backend="exch")
    in_hand = [each.queue_id for each in found[::2]]
    others = lookup.due(crowded, WALL + MANY, "personal", 5, in_hand, backend="exch")
    assert others == found[1::2]


def test_oldest_is_none_where_there_is_nothing(crowded: sqlite3.Connection) -> None:
    keys = [("clinical", SpoolState.QUEUED), ("personal", SpoolState.QUEUED)]
    assert lookup.oldest(crowded, keys) == [None, WALL]


async def test_a_closed_lookup_says_so(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / DATABASE)):
        reader = Lookup(tmp_path / DATABASE)
        assert await reader.run(lambda connection: lookup.next_due(connection, KEYS)) is None
        reader.close()
        with pytest.raises(SpoolSick, match="closed"):
            await reader.run(lambda connection: lookup.next_due(connection, KEYS))


async def test_renewed_threads_open_new_connections(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / DATABASE)):
        reader = Lookup(tmp_path / DATABASE)
        first = await reader.run(lambda connection: connection)
        reader.renew()
        seen = [await reader.run(lambda connection: connection) for _ in range(10)]
        assert first not in seen
        reader.close()


async def test_a_failed_query_leaves_no_transaction_behind(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / DATABASE)):
        reader = Lookup(tmp_path / DATABASE)
        with pytest.raises(sqlite3.OperationalError):
            await reader.run(lambda connection: connection.execute("SELECT nonsense"))
        for _ in range(4):
            assert await reader.run(lambda connection: connection.in_transaction)
        assert not any(each.connection.in_transaction for each in reader._readers)
        reader.close()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Faults of all reading connections that are made from here on."""
    faults = Faults()
    monkeypatch.setattr("mailshed.spool.lookup.open_reader", faults.open_reader)
    return faults


async def test_every_connection_is_open_before_it_is_needed(tmp_path: Path, faults: Faults) -> None:
    with closing(open_writer(tmp_path / DATABASE)):
        reader = Lookup(tmp_path / DATABASE)
        assert faults.connections == THREADS
        for _ in range(10):
            await reader.run(lambda connection: lookup.next_due(connection, KEYS))
        assert faults.connections == THREADS
        reader.close()


async def test_a_query_that_fails_is_repeated_on_a_fresh_connection(
    tmp_path: Path, faults: Faults
) -> None:
    with closing(open_writer(tmp_path / DATABASE)):
        reader = Lookup(tmp_path / DATABASE)
        faults.fail("SELECT min(next_attempt)", sqlite_error(sqlite3.SQLITE_IOERR_READ))
        assert await reader.run(lambda connection: lookup.next_due(connection, KEYS)) is None
        assert faults.connections == THREADS + 1
        assert len(reader._readers) == THREADS
        reader.close()


async def test_a_reader_without_a_fresh_connection_keeps_its_old_one(
    tmp_path: Path, faults: Faults
) -> None:
    with closing(open_writer(tmp_path / DATABASE)):
        reader = Lookup(tmp_path / DATABASE)
        faults.fail("SELECT min(next_attempt)", sqlite_error(sqlite3.SQLITE_NOMEM))
        faults.fail("PRAGMA schema_version", sqlite_error(sqlite3.SQLITE_CANTOPEN))
        with pytest.raises(sqlite3.OperationalError):
            await reader.run(lambda connection: lookup.next_due(connection, KEYS))
        for _ in range(2 * THREADS):
            found = await reader.run(lambda connection: lookup.next_due(connection, KEYS))
            assert found is None
        assert faults.connections == THREADS + 1
        reader.close()


def test_a_lookup_that_cannot_open_all_connections_opens_none(
    tmp_path: Path, faults: Faults
) -> None:
    with closing(open_writer(tmp_path / DATABASE)):
        faults.fail("PRAGMA schema_version", sqlite_error(sqlite3.SQLITE_CANTOPEN), is_after=True)
        with pytest.raises(sqlite3.OperationalError):
            Lookup(tmp_path / DATABASE)
