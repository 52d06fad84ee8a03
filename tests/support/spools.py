"""SQLite spools for tests, and a connection to SQLite that fails when it is told to.

`Faults` stands between the spool and the sqlite3 module: it counts statements, holds one back, or
lets it fail as the library would, before it is executed or, worse, after.
"""

import sqlite3
import threading
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailshed.spool.sqlite import SqliteSpool
from tests.support.clock import ManualClock
from tests.support.processes import wait_until

# Longer than anything a test waits for; a gate that nobody opens must not hang the suite.
GATE_SECONDS = 60.0


async def pieces(data: bytes, octets: int = 64 * 1024) -> AsyncIterator[bytes]:
    """Content as the pipeline hands it over, in pieces of this size."""
    for start in range(0, len(data), octets):
        yield data[start : start + octets]


async def joined(content: AsyncIterator[bytes]) -> bytes:
    """All of a content in one piece."""
    return b"".join([piece async for piece in content])


def sqlite_spool(path: Path, **changes: Any) -> SqliteSpool:
    """A spool in `path` with limits that no ordinary test meets."""
    arguments: dict[str, Any] = {
        "octets_max": 1 << 40,
        "messages_max": 1 << 40,
        "disk_reserve": 0,
        "clock": ManualClock(),
    }
    return SqliteSpool(path, **(arguments | changes))


def io_error() -> sqlite3.OperationalError:
    """What Python raises when a write or a sync failed."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    return error


def full_error() -> sqlite3.OperationalError:
    """What Python raises when a write met ENOSPC."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def sqlite_error(code: int, text: str = "injected") -> sqlite3.OperationalError:
    """What Python raises for a result code of SQLite."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@dataclass
class _Fault:
    prefix: str
    error: Exception
    is_after: bool


class Faults:
    """What the connections made by `factory()` do beside their work. Thread-safe enough."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.connections = 0
        self._faults: list[_Fault] = []
        self._gate = threading.Event()
        self._gate.set()
        self.is_at_gate = threading.Event()

    def count(self, prefix: str) -> int:
        """How many statements so far began like this."""
        return sum(statement.startswith(prefix) for statement in self.statements)

    def wait_for(self, prefix: str) -> None:
        """Wait, not on the event loop, until a statement has begun like this."""
        wait_until(lambda: self.count(prefix), f"no {prefix}")

    def fail(self, prefix: str, error: Exception, *, is_after: bool = False) -> None:
        """Let the next statement that begins like this fail; `is_after`: once it has worked."""
        self._faults.append(_Fault(prefix, error, is_after))

    def heal(self) -> None:
        """Forget all faults that have not happened."""
        self._faults.clear()

    def hold_commit(self) -> None:
        """Let the writer stop in front of its next COMMIT, until `release_commit`."""
        self.is_at_gate.clear()
        self._gate.clear()

    def release_commit(self) -> None:
        """Let the writer go on."""
        self._gate.set()

    def factory(self) -> type[sqlite3.Connection]:
        """A class for `sqlite3.connect(factory=...)`."""
        faults = self

        class Connection(sqlite3.Connection):
            def __init__(self, *arguments: Any, **keywords: Any) -> None:
                super().__init__(*arguments, **keywords)
                faults.connections += 1

            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                faults._before(sql)
                cursor = super().execute(sql, parameters)
                faults._strike(sql, is_after=True)
                return cursor

            def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
                faults._before(sql)
                return super().executemany(sql, parameters)

        return Connection

    def open_reader(self, database: Path) -> sqlite3.Connection:
        """A stand-in for `schema.open_reader` whose connections have these faults."""
        return sqlite3.connect(
            f"{database.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            factory=self.factory(),
        )

    def _before(self, sql: str) -> None:
        statement = " ".join(sql.split())
        self.statements.append(statement)
        self._strike(sql, is_after=False)
        if statement == "COMMIT" and not self._gate.is_set():
            self.is_at_gate.set()
            assert self._gate.wait(GATE_SECONDS), "nobody released the commit"

    def _strike(self, sql: str, *, is_after: bool) -> None:
        statement = " ".join(sql.split())
        for fault in self._faults:
            if fault.is_after == is_after and statement.startswith(fault.prefix):
                self._faults.remove(fault)
                raise fault.error
