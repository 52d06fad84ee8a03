"""What is done to a database between opening it and trusting it.

`sweep` removes what nobody was promised: messages whose last piece never came, and messages whose
COMMIT failed and yet reached the disk. `require` looks for the opposite, promises that are not
there. `prove` commits something, since a database that reads well may lie on a disk that does not
sync any more. `take_stock` says what there is, for the accounts: by the sums in the database, or by
those of a `recount` if a hand may have made the others wrong, which `correct` then puts right.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mailshed.errors import SpoolSick
from mailshed.spool.changes import Changes, write_sums
from mailshed.spool.jobs import forget_incoming, retract_message
from mailshed.spool.rows import state_from
from mailshed.spool.schema import COUNT

Sums = tuple[str, str, str, int, int, int]
"""A row of `holding`: class, state, backend; messages, recipients, octets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What the database holds when it has been opened and verified."""

    contents: Changes
    next_id: int
    """Lowest message id that has never been used."""


def sweep(connection: sqlite3.Connection, retracted: Iterable[int]) -> None:
    """Remove unfinished messages, and those with the ids `retracted` if they are there."""
    changes = Changes()
    connection.execute("BEGIN IMMEDIATE")
    for (message_id,) in connection.execute("SELECT message_id FROM incoming").fetchall():
        forget_incoming(connection, message_id)
    for message_id in retracted:
        retract_message(connection, changes, message_id)
    write_sums(connection, changes)
    connection.execute("COMMIT")


def prove(connection: sqlite3.Connection) -> None:
    """Commit something, and take it back: raises sqlite3.Error if the disk cannot write or sync.

    The id 0 is nobody's; if the second commit fails, the next `sweep` takes it away.
    """
    connection.execute("INSERT INTO incoming VALUES (0)")
    connection.execute("DELETE FROM incoming WHERE message_id = 0")


def require(connection: sqlite3.Connection, acknowledged: Iterable[int]) -> None:
    """Raise SpoolSick unless these messages are all in the database."""
    query = "SELECT 1 FROM message WHERE message_id = ?"
    missing = sum(
        connection.execute(query, (message_id,)).fetchone() is None for message_id in acknowledged
    )
    if missing:
        raise SpoolSick(f"{missing} acknowledged messages are missing after a fault")


def recount(connection: sqlite3.Connection) -> list[Sums]:
    """The sums as the messages themselves have them; reads all of their rows."""
    return connection.execute(COUNT).fetchall()


def correct(connection: sqlite3.Connection, counted: Sequence[Sums]) -> None:
    """Write down what was counted, unless it is what the database says."""
    written = connection.execute("SELECT * FROM holding WHERE messages <> 0")
    if set(written) == set(counted):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("DELETE FROM holding")
        connection.executemany("INSERT INTO holding VALUES (?, ?, ?, ?, ?, ?)", counted)
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def take_stock(connection: sqlite3.Connection, counted: Sequence[Sums] | None = None) -> Opened:
    """What there is: as it was counted, or else as the database says."""
    contents = Changes()
    rows = connection.execute("SELECT * FROM holding") if counted is None else counted
    for traffic_class, state, backend, messages, recipients, octets in rows:
        contents.hold(
            traffic_class, state_from(state), messages, recipients, octets, backend=backend
        )
    ledger = connection.execute("SELECT traffic_class, term, recipients FROM ledger")
    for traffic_class, term, recipients in ledger:
        contents.count(traffic_class, term, recipients)
    last_id = connection.execute("SELECT max(message_id) FROM message").fetchone()[0]
    return Opened(contents=contents, next_id=(last_id or 0) + 1)
