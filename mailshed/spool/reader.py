"""Read a spool from outside: what `mailshed queue` shows, with the daemon running or without.

Synchronous, and free of the event loop, so that the command line starts fast and the operations
thread can call it. Rows are plain dictionaries, ready for JSON.

While a daemon owns the spool, a connection that cannot write reads beside it. Without a daemon
there may be a WAL that a killed process left behind; it can only be read through shared memory that
the reader sets up, so the reader then takes the daemon's lock, for as long as the query lasts, and
opens the database for writing, with writing forbidden.

What is meant is a `QueueFilter`, found by `search`. A question that takes longer than
`QUERY_SECONDS_MAX` is given up, since a reader that does not end keeps the WAL from being reset.

Addresses come as they are; whoever prints them masks them. Header fields are redacted here, and
subjects never leave.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from mailshed.errors import SpoolError, SpoolLocked
from mailshed.mail.header import OCTETS_MAX as HEADER_OCTETS
from mailshed.mail.redaction import redacted
from mailshed.spool.filter import EVERYTHING, QueueFilter
from mailshed.spool.lock import SpoolLock
from mailshed.spool.schema import (
    BUSY_TIMEOUT_SECONDS,
    CHUNK_BITS,
    DATABASE,
    check_version,
    open_reader,
    readable,
)
from mailshed.spool.search import count, find
from mailshed.terms import QueueId

QUERY_SECONDS_MAX = 30.0
# Steps of SQLite's virtual machine between two looks at the clock: some milliseconds.
_STEPS = 100_000

MESSAGE = """
    SELECT message_id, queue_id, traffic_class, state, received, size, attempts, next_attempt,
        reason, reverse_path
    FROM message WHERE message_id = ?
"""
RECIPIENTS = """
    SELECT address, state, last_reply FROM recipient WHERE message_id = ? ORDER BY position
"""
ENVELOPE = """
    SELECT parameters, expires, client_address, helo, is_trusted, is_generated, in_doubt,
        message.backend
    FROM message WHERE message_id = ?
"""
PARAMETERS = "SELECT parameters FROM recipient WHERE message_id = ? ORDER BY position"
HEAD = "SELECT substr(octets, 1, ?) FROM chunk WHERE chunk_id = ?"

Entry = dict[str, object]
"""One message or one line of totals, ready for JSON."""


def list_messages(
    path: Path, wanted: QueueFilter, limit: int, *, wall: float | None = None
) -> list[Entry]:
    """Up to `limit` messages of the spool in folder `path`, oldest first.

    `wall` is the time from which ages are counted, by default now.
    """
    now = time.time() if wall is None else wall
    with reading(path) as connection:
        keys = find(connection, wanted, limit, now)
        return [_message(connection, message_id, now) for _, message_id, _ in keys]


def count_messages(
    path: Path, wanted: QueueFilter = EVERYTHING, *, wall: float | None = None
) -> list[Entry]:
    """How much of each class is in each state; a message counts under its liveliest recipient."""
    now = time.time() if wall is None else wall
    with reading(path) as connection:
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
            for traffic_class, state, messages, recipients, octets, oldest in count(
                connection, wanted, now
            )
        ]


def find_ids(
    path: Path, wanted: QueueFilter, limit: int, *, wall: float | None = None
) -> list[QueueId]:
    """The queue ids of up to `limit` messages, oldest first."""
    now = time.time() if wall is None else wall
    with reading(path) as connection:
        return [queue_id for _, _, queue_id in find(connection, wanted, limit, now)]


def show_messages(
    path: Path, ids: Sequence[QueueId], *, with_headers: bool = False, wall: float | None = None
) -> list[Entry]:
    """All that there is to say of these messages, those left out that are not there."""
    now = time.time() if wall is None else wall
    with reading(path) as connection:
        keys = find(connection, QueueFilter(ids=tuple(ids)), len(ids), now) if ids else []
        found = [describe(connection, message_id, now) for _, message_id, _ in keys]
        if with_headers:
            for entry, (_, message_id, _) in zip(found, keys, strict=True):
                entry["headers"] = _headers(connection, message_id)
        return found


def describe(connection: sqlite3.Connection, message_id: int, now: float) -> Entry:
    """The whole envelope of one message, and what became of it so far."""
    entry = _message(connection, message_id, now)
    row = connection.execute(readable(connection, ENVELOPE), (message_id,)).fetchone()
    parameters, expires, client, helo, is_trusted, is_generated, in_doubt, backend = row
    recipients = entry["recipients"]
    assert isinstance(recipients, list)
    for recipient, (each,) in zip(
        recipients, connection.execute(PARAMETERS, (message_id,)), strict=True
    ):
        recipient["parameters"] = _words(each)
    return {
        **entry,
        "parameters": _words(parameters),
        "expires": _rfc3339(expires),
        "expires_epoch": expires,
        "client": client,
        "helo": helo,
        "is_trusted": bool(is_trusted),
        "is_generated": bool(is_generated),
        "in_doubt": in_doubt,
        "backend": backend,
    }


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
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
            _end_in_time(connection)
            connection.execute("BEGIN")
            if check_version(connection, database) == 0:
                raise SpoolError(f"{database} is empty")
            yield connection
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise SpoolError(
                f"looking through the queue takes longer than {QUERY_SECONDS_MAX:.0f} s; name a"
                " class, a state or queue ids"
            ) from error
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


def _end_in_time(connection: sqlite3.Connection) -> None:
    """Let whatever is asked of this connection fail when its time is up."""
    deadline = time.monotonic() + QUERY_SECONDS_MAX
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)


def _message(connection: sqlite3.Connection, message_id: int, now: float) -> Entry:
    row = connection.execute(MESSAGE, (message_id,)).fetchone()
    _, queue_id, traffic_class, state, received, size, attempts, due, reason, sender = row
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
        "sender": _text(sender),
        "recipients": [
            {"address": _text(address), "state": each, "last_reply": last_reply}
            for address, each, last_reply in recipients
        ],
    }


def _headers(connection: sqlite3.Connection, message_id: int) -> list[dict[str, str]]:
    """The redacted header section; empty if it cannot be read."""
    with suppress(sqlite3.DatabaseError):  # a damaged page concerns this message alone
        row = connection.execute(HEAD, (HEADER_OCTETS, message_id << CHUNK_BITS)).fetchone()
        if row is not None:
            return [field._asdict() for field in redacted(row[0])]
    return []


def _words(parameters: bytes) -> list[str]:
    return [_text(each) for each in parameters.split()]


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")


def _rfc3339(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
