"""Sweeping, missing and taking stock, on a database made by hand."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mailshed.errors import SpoolSick
from mailshed.spool.changes import Changes, Holding, write_sums
from mailshed.spool.jobs import add_message
from mailshed.spool.recovery import correct, prove, recount, require, sweep, take_stock
from mailshed.spool.schema import CHUNK_BITS, DATABASE, open_writer
from mailshed.terms import SpoolState
from tests.support.builders import BULK, spool_record
from tests.support.spools import Faults, full_error


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Messages 1 and 2, whole; message 3, of which two pieces have come."""
    with closing(open_writer(tmp_path / DATABASE)) as opened:
        changes = Changes()
        records = {1: spool_record("a@example.net", "b@example.net"), 2: spool_record(names=BULK)}
        for message_id, record in records.items():
            add_message(changes, message_id, record, size=100, digest=b"")
            opened.execute("INSERT INTO chunk VALUES (?, x'00')", (message_id << CHUNK_BITS,))
        opened.execute("INSERT INTO incoming VALUES (3)")
        opened.execute("INSERT INTO chunk VALUES (?, x'00')", (3 << CHUNK_BITS,))
        opened.execute("INSERT INTO chunk VALUES (?, x'00')", (3 << CHUNK_BITS | 1,))
        changes.write_rows(opened)
        write_sums(opened, changes)
        yield opened


def chunks(connection: sqlite3.Connection) -> list[int]:
    """Message ids of all chunks."""
    rows = connection.execute("SELECT chunk_id FROM chunk ORDER BY chunk_id")
    return [chunk_id >> CHUNK_BITS for (chunk_id,) in rows]


def test_sweeps_the_unfinished_and_leaves_the_whole(connection: sqlite3.Connection) -> None:
    sweep(connection, [])
    assert chunks(connection) == [1, 2]
    require(connection, [1, 2])


def test_retracts_what_is_there_and_ignores_what_is_not(connection: sqlite3.Connection) -> None:
    sweep(connection, [2, 77])
    assert chunks(connection) == [1]
    assert take_stock(connection).contents.ledger == {
        ("personal", "accepted"): 2,
        ("bulk", "accepted"): 0,
    }


def test_counts_promises_that_are_not_there(connection: sqlite3.Connection) -> None:
    with pytest.raises(SpoolSick, match="2 acknowledged messages"):
        require(connection, [1, 2, 3, 4])


def test_takes_stock_of_messages_recipients_and_octets(connection: sqlite3.Connection) -> None:
    opened = take_stock(connection)
    assert opened.contents.holdings == {
        ("personal", SpoolState.QUEUED, ""): Holding(1, 2, 100),
        ("bulk", SpoolState.QUEUED, ""): Holding(1, 1, 100),
    }
    assert opened.next_id == 3
    assert take_stock(connection, recount(connection)) == opened


def test_sums_that_somebody_made_wrong_are_put_right(connection: sqlite3.Connection) -> None:
    """A message was removed by hand, and a word written that nobody knows."""
    connection.execute("DELETE FROM message WHERE message_id = 1")
    connection.execute("UPDATE message SET state = 'lost'")
    counted = recount(connection)
    correct(connection, counted)
    assert connection.execute("SELECT * FROM holding").fetchall() == counted
    assert take_stock(connection).contents.holdings == {
        ("bulk", SpoolState.HOLD, ""): Holding(1, 1, 100)
    }


def test_sums_that_are_right_are_left_alone(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO holding VALUES ('empty', 'hold', 'mail', 0, 0, 0)")
    before = connection.total_changes
    correct(connection, recount(connection))
    assert connection.total_changes == before


def test_a_correction_that_fails_leaves_no_transaction_behind(tmp_path: Path) -> None:
    faults = Faults()
    with closing(open_writer(tmp_path / DATABASE, faults.factory())) as opened:
        counted = [("bulk", "hold", "", 1, 1, 1)]
        for statement in ("DELETE FROM holding", "COMMIT"):
            faults.fail(statement, full_error())
            with pytest.raises(sqlite3.OperationalError, match="full"):
                correct(opened, counted)
            assert not opened.in_transaction
        correct(opened, counted)
        assert opened.execute("SELECT * FROM holding").fetchall() == counted


def test_an_empty_database_has_nothing(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / DATABASE)) as connection:
        opened = take_stock(connection)
    assert (opened.contents, opened.next_id) == (Changes(), 1)


def test_a_proof_writes_and_leaves_nothing_behind(connection: sqlite3.Connection) -> None:
    before = connection.total_changes
    prove(connection)
    assert connection.total_changes == before + 2
    assert connection.execute("SELECT message_id FROM incoming").fetchall() == [(3,)]
    connection.execute("INSERT INTO incoming VALUES (0)")  # as after a proof that broke off
    sweep(connection, [])
    prove(connection)
