"""Many rows in few statements, all of them and in their order; sums that add up."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mailshed.errors import SpoolError
from mailshed.spool.changes import ROWS_MAX, Changes, Holding, write_sums
from mailshed.spool.jobs import add_message, chunk_key
from mailshed.spool.schema import DATABASE, open_writer
from mailshed.terms import SpoolState
from tests.support.builders import spool_record
from tests.support.spools import Faults

QUEUED, HOLD = SpoolState.QUEUED, SpoolState.HOLD


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def connection(tmp_path: Path, faults: Faults) -> Iterator[sqlite3.Connection]:
    with closing(open_writer(tmp_path / DATABASE, faults.factory())) as opened:
        faults.statements.clear()
        yield opened


def filled(messages: int) -> Changes:
    """So many messages, each of two recipients and a piece of content of its own."""
    changes = Changes()
    for number in range(1, messages + 1):
        record = spool_record("a@example.net", f"b{number}@example.net")
        add_message(changes, number, record, size=number, digest=b"digest")
        changes.chunks.append((chunk_key(number, 0), b"content of %d" % number))
    return changes


@pytest.mark.parametrize(
    ("messages", "statements"), [(0, 0), (1, 3), (2, 3), (7, 9), (64, 4), (3 * ROWS_MAX + 1, 15)]
)
def test_rows_share_statements(
    connection: sqlite3.Connection, faults: Faults, messages: int, statements: int
) -> None:
    """One for each one in the binary form of their number; recipients are twice as many."""
    changes = filled(messages)
    ids = [row[1] for row in changes.messages]
    changes.write_rows(connection)
    assert faults.count("INSERT") == statements
    found = connection.execute("SELECT queue_id, size FROM message ORDER BY message_id").fetchall()
    assert found == list(zip(ids, range(1, messages + 1), strict=True))
    for number, address, octets in connection.execute(
        "SELECT message_id, address, octets FROM recipient"
        " JOIN chunk ON chunk_id = message_id << 16 WHERE position = 1"
    ):
        assert (address, octets) == (b"b%d@example.net" % number, b"content of %d" % number)
    assert connection.execute("SELECT count(*) FROM recipient").fetchone() == (2 * messages,)


def test_rows_are_written_once(connection: sqlite3.Connection) -> None:
    changes = filled(3)
    for _ in range(2):
        changes.write_rows(connection)
    assert connection.execute("SELECT count(*) FROM message").fetchone() == (3,)


def test_a_queue_id_that_is_there_is_named(connection: sqlite3.Connection) -> None:
    changes = filled(1)
    changes.messages.append((2, *changes.messages[0][1:]))
    with pytest.raises(SpoolError, match=f"{changes.messages[0][1]}.* in the spool already"):
        changes.write_rows(connection)


def test_sums_are_added_to_those_that_are_there(connection: sqlite3.Connection) -> None:
    for _ in range(2):
        changes = Changes()
        changes.hold("bulk", QUEUED, 1, 2, 30, backend="mail")
        changes.hold("bulk", QUEUED, 1, 1, 1)
        changes.hold("bulk", HOLD, -1, -1, -7)
        changes.count("bulk", "accepted", 3)
        changes.count("bulk", "bounced", 1)
        write_sums(connection, changes)
    assert connection.execute("SELECT * FROM holding").fetchall() == [
        ("bulk", "hold", "", -2, -2, -14),
        ("bulk", "queued", "", 2, 2, 2),
        ("bulk", "queued", "mail", 2, 4, 60),
    ]
    assert connection.execute("SELECT * FROM ledger").fetchall() == [
        ("bulk", "accepted", 6),
        ("bulk", "bounced", 2),
    ]


def test_merged_changes_are_the_sum_of_both() -> None:
    changes, other = Changes(written=10), Changes(written=20)
    for each in (changes, other):
        each.hold("personal", QUEUED, 1, 2, each.written)
        each.count("personal", "accepted", 2)
    other.hold("bulk", HOLD, 1, 1, 1, backend="mail")
    other.stored.append(2)
    other.removed.append(1)
    changes.merge(other)
    assert changes.holdings == {
        ("personal", QUEUED, ""): Holding(2, 4, 30),
        ("bulk", HOLD, "mail"): Holding(1, 1, 1),
    }
    assert changes.ledger == {("personal", "accepted"): 4}
    assert (changes.stored, changes.removed, changes.written) == ([2], [1], 30)
