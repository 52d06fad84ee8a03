"""Asking the spool: a few threads, and as many connections that cannot write.

In WAL mode readers neither wait for the writer nor hold it up, and see what was committed before
they began. Their transactions are short, one query or one piece of content, because a long one
keeps the WAL from being reset.

All connections are open from the start, files of the WAL included, so that a process which runs out
of descriptors can still deliver what it holds. A query that fails is tried once more on a fresh
connection; only then its sqlite3.Error goes to the caller.

`INDEXED BY` turns a query that would have become a scan of a million rows into an error that every
test sees.
"""

import json
import sqlite3
from asyncio import Future, get_running_loop
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from mailshed.errors import SpoolSick
from mailshed.spool.rows import MessageRow, RecipientRow, records_from
from mailshed.spool.schema import open_reader, pragma
from mailshed.spool.store import SpoolRecord
from mailshed.terms import QueueId, SpoolState

T = TypeVar("T")
Key = tuple[str, str]
"""A backend and a traffic class."""
THREADS = 2

DUE = """
    SELECT message_id, queue_id, traffic_class, rank, reverse_path, parameters, size, received,
        expires, next_attempt, attempts, reason, client_address, helo, is_trusted, is_generated,
        in_doubt, report_at, backend, login
    FROM message INDEXED BY message_due
    WHERE backend = ? AND traffic_class = ? AND next_attempt <= ?
        AND state IN ('queued', 'deferred')
        AND queue_id NOT IN (SELECT value FROM json_each(?))
    ORDER BY next_attempt, received, message_id LIMIT ?
"""
EXPIRED = """
    SELECT message_id, queue_id, traffic_class, rank, reverse_path, parameters, size, received,
        expires, next_attempt, attempts, reason, client_address, helo, is_trusted, is_generated,
        in_doubt, report_at, backend, login
    FROM message INDEXED BY message_expiry
    WHERE expires <= ? AND state IN ('queued', 'deferred')
        AND (? IS NULL OR instr(?, '(' || backend || ')'))
        AND queue_id NOT IN (SELECT value FROM json_each(?))
    ORDER BY expires, message_id LIMIT ?
"""
DELAYED = """
    SELECT message_id, queue_id, traffic_class, rank, reverse_path, parameters, size, received,
        expires, next_attempt, attempts, reason, client_address, helo, is_trusted, is_generated,
        in_doubt, report_at, backend, login
    FROM message INDEXED BY message_report
    WHERE report_at <= ? AND state IN ('queued', 'deferred')
    ORDER BY report_at, message_id LIMIT ?
"""
LIVE_RECIPIENTS = """
    SELECT message_id, position, address, parameters, state, last_reply FROM recipient
    WHERE message_id IN (SELECT value FROM json_each(?)) AND state IN ('queued', 'deferred')
    ORDER BY message_id, position
"""
# MIN of an index's column is one step into the index.
NEXT_DUE = """
    SELECT min(next_attempt) FROM message INDEXED BY message_due
    WHERE backend = ? AND traffic_class = ? AND state IN ('queued', 'deferred')
"""
BEYOND = """
    SELECT queue_id FROM message INDEXED BY message_due
    WHERE backend = ? AND traffic_class = ? AND next_attempt > ?
        AND state IN ('queued', 'deferred') LIMIT ?
"""
OLDEST = """
    SELECT min(received) FROM message INDEXED BY message_oldest
    WHERE traffic_class = ? AND state = ?
"""


@dataclass(slots=True)
class _Reader:
    """A place for a connection, and how often the spool had been recovered when it was made."""

    connection: sqlite3.Connection
    generation: int = 0


class Lookup:
    """The reading side of an open spool. Making one reads the disk; may raise sqlite3.Error."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._readers: list[_Reader] = []
        self._idle: SimpleQueue[_Reader] = SimpleQueue()
        self._generation = 0
        self._is_closed = False
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="spool-reader")
        try:
            for _ in range(THREADS):
                self._readers.append(_Reader(_open(database)))
                self._idle.put(self._readers[-1])
        except sqlite3.Error:
            self.close()
            raise

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` in a thread of ours, in one read transaction."""
        return await self.submit(query)

    def submit(self, query: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        """The same, without waiting."""
        loop = get_running_loop()
        if self._is_closed:
            refused: Future[T] = loop.create_future()
            refused.set_exception(SpoolSick("the spool is closed"))
            return refused
        return loop.run_in_executor(self._threads, self._run, query)

    def _run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        reader = self._idle.get()  # there are as many as threads, so one is idle
        try:
            if reader.generation != self._generation:
                self._replace(reader)
            try:
                return _read(reader.connection, query)
            except sqlite3.Error:
                self._replace(reader)
                return _read(reader.connection, query)
        finally:
            self._idle.put(reader)

    def _replace(self, reader: _Reader) -> None:
        """Give the reader a fresh connection; if there is none to be had, it keeps its old one."""
        generation, old = self._generation, reader.connection
        reader.connection = _open(self._database)
        reader.generation = generation
        with suppress(sqlite3.Error):
            old.close()

    def renew(self) -> None:
        """Forget the connections of before a fault; each reader makes a new one."""
        self._generation += 1

    def close(self) -> None:
        """End the threads, after what they are doing, and close the connections."""
        self._is_closed = True
        self._threads.shutdown(wait=True)
        for reader in self._readers:
            reader.connection.close()
        self._readers.clear()


def _open(database: Path) -> sqlite3.Connection:
    """A connection with all its files open: SQLite opens the WAL at the first read."""
    connection = open_reader(database)
    try:
        pragma(connection, "schema_version")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _read(connection: sqlite3.Connection, query: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN")
    try:
        return query(connection)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def due(
    connection: sqlite3.Connection,
    wall: float,
    traffic_class: str,
    limit: int,
    exclude: Sequence[QueueId],
    *,
    backend: str = "",
) -> list[SpoolRecord]:
    """See `SpoolStore.due`. What is excluded stands among the first, and is stepped over."""
    rows = connection.execute(DUE, (backend, traffic_class, wall, json.dumps(exclude), limit))
    return _records(connection, rows.fetchall())


def expired(
    connection: sqlite3.Connection,
    wall: float,
    limit: int,
    exclude: Sequence[QueueId],
    backends: Sequence[str] | None = None,
) -> list[SpoolRecord]:
    """See `SpoolStore.expired`."""
    # Names of backends have no brackets, so none is found in the middle of another.
    names = None if backends is None else "".join(f"({each})" for each in backends)
    rows = connection.execute(EXPIRED, (wall, names, names, json.dumps(exclude), limit))
    return _records(connection, rows.fetchall())


def delayed(connection: sqlite3.Connection, wall: float, limit: int) -> list[SpoolRecord]:
    """See `SpoolStore.delayed`."""
    rows = connection.execute(DELAYED, (wall, limit))
    return _records(connection, rows.fetchall())


def next_dues(connection: sqlite3.Connection, keys: Sequence[Key]) -> list[float | None]:
    """The earliest next attempt for each backend and class, None where there is none."""
    return [connection.execute(NEXT_DUE, key).fetchone()[0] for key in keys]


def next_due(connection: sqlite3.Connection, keys: Sequence[Key]) -> float | None:
    """See `SpoolStore.next_due`; asks each backend and class for its own."""
    found = next_dues(connection, keys)
    return min((instant for instant in found if instant is not None), default=None)


def beyond(
    connection: sqlite3.Connection, wall: float, keys: Sequence[Key], limit: int
) -> list[QueueId]:
    """See `SpoolStore.beyond`; asks each backend and class for its own."""
    found: list[QueueId] = []
    for backend, name in keys:
        rows = connection.execute(BEYOND, (backend, name, wall, limit - len(found)))
        found += [QueueId(queue_id) for (queue_id,) in rows]
    return found


def oldest(
    connection: sqlite3.Connection, keys: Sequence[tuple[str, SpoolState]]
) -> list[float | None]:
    """Arrival of the oldest message of each class and state, None where there is none."""
    return [
        connection.execute(OLDEST, (traffic_class, state.value)).fetchone()[0]
        for traffic_class, state in keys
    ]


def _records(connection: sqlite3.Connection, rows: list[MessageRow]) -> list[SpoolRecord]:
    ids = json.dumps([row[0] for row in rows])
    recipients: list[RecipientRow] = connection.execute(LIVE_RECIPIENTS, (ids,)).fetchall()
    return records_from(rows, recipients)
