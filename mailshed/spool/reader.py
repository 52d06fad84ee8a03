"""Read a spool from outside: what `mailshed queue` shows, with the daemon running or without.

Synchronous, and free of the event loop, so that the command line starts fast and the operations
thread can call it. Rows are plain dictionaries, ready for JSON.

While a daemon owns the spool, a connection that cannot write reads beside it. Without a daemon
there may be a WAL that a killed process left behind; it can only be read through shared memory that
the reader sets up, so the reader then takes the daemon's lock, for as long as the query lasts, and
opens the database for writing, with writing forbidden.

Addresses come as they are; whoever prints them masks them.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from pathlib import Path

from mailshed.errors import SpoolError, SpoolLocked
from mailshed.spool.lock import SpoolLock
from mailshed.spool.rows import BY_LIVELINESS
from mailshed.spool.schema import BUSY_TIMEOUT_SECONDS, DATABASE, check_version, open_reader

MESSAGES = """
    SELECT received, message_id, queue_id, traffic_class, state, size, attempts, next_attempt,
        reason, reverse_path
    FROM message INDEXED BY message_oldest
    WHERE traffic_class = ? AND state = ? ORDER BY received, message_id LIMIT ?
"""
RECIPIENTS = """
    SELECT address, state, last_reply FROM recipient WHERE message_id = ? ORDER BY position
"""
COUNTS = """
    SELECT traffic_class, state, count(*), sum(recipients), sum(size), min(received) FROM (
        SELECT traffic_class, state, size, received, (
            SELECT count(*) FROM recipient WHERE recipient.message_id = message.message_id
        ) AS recipients FROM message
    ) GROUP BY traffic_class, state
"""

_Row = tuple[float, int, str, str, str, int, int, float, str, bytes]


def list_messages(
    path: Path, traffic_class: str | None, limit: int, *, wall: float | None = None
) -> list[dict[str, object]]:
    """Up to `limit` messages of the spool in folder `path`, oldest first.

    Of one class, or of all. `wall` is the time from which ages are counted, by default now.
    """
    now = time.time() if wall is None else wall
    with _reading(path) as connection:
        classes = [traffic_class] if traffic_class is not None else _classes(connection)
        queries: list[Iterator[_Row]] = [
            connection.execute(MESSAGES, (name, state.value, limit))
            for name in classes
            for state in BY_LIVELINESS
        ]
        return [_message(connection, row, now) for row in islice(merge(*queries), limit)]


def count_messages(path: Path, *, wall: float | None = None) -> list[dict[str, object]]:
    """How much of each class is in each state; a message counts under its liveliest recipient."""
    now = time.time() if wall is None else wall
    with _reading(path) as connection:
        return [
            {
                "class": traffic_class,
                "state": state,
                "messages": messages,
                "recipients": recipients,
                "octets": octets,
                "oldest_epoch": oldest,
                "oldest_age_seconds": max(0.0, now - oldest),
            }
            for traffic_class, state, messages, recipients, octets, oldest in connection.execute(
                COUNTS
            )
        ]


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the spool's database in one read transaction; SpoolError if impossible."""
    database = path / DATABASE
    try:
        database.stat()
    except FileNotFoundError:
        raise SpoolError(f"there is no spool in {path}") from None
    except OSError as error:
        raise SpoolError(f"cannot read {database}: {error.strerror}") from error
    lock = SpoolLock(path)
    try:
        lock.acquire(create=False)
        is_ours = True
    except SpoolLocked:
        is_ours = False
    try:
        with closing(_open_alone(database) if is_ours else open_reader(database)) as connection:
            connection.execute("BEGIN")
            if check_version(connection, database) == 0:
                raise SpoolError(f"{database} is empty")
            yield connection
    except sqlite3.Error as error:
        raise SpoolError(f"cannot read {database}: {error}") from error
    finally:
        lock.release()


def _open_alone(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{database.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_SECONDS,
        isolation_level=None,
    )
    connection.execute("PRAGMA query_only = ON")
    return connection


def _classes(connection: sqlite3.Connection) -> list[str]:
    """Every class that ever had a message: the ledger is short, the messages may be many."""
    rows = connection.execute("SELECT DISTINCT traffic_class FROM ledger")
    return [traffic_class for (traffic_class,) in rows]


def _message(connection: sqlite3.Connection, row: _Row, now: float) -> dict[str, object]:
    received, message_id, queue_id, traffic_class, state, size, attempts, due, reason, sender = row
    recipients = connection.execute(RECIPIENTS, (message_id,))
    return {
        "queue_id": queue_id,
        "class": traffic_class,
        "state": state,
        "received": _rfc3339(received),
        "received_epoch": received,
        "age_seconds": max(0.0, now - received),
        "size": size,
        "attempts": attempts,
        "next_attempt": _rfc3339(due),
        "reason": reason,
        "sender": sender.decode("latin-1"),
        "recipients": [
            {"address": address.decode("latin-1"), "state": each, "last_reply": last_reply}
            for address, each, last_reply in recipients
        ],
    }


def _rfc3339(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
