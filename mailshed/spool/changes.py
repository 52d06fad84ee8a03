"""What one transaction changes: rows of new mail, sums, and terms of the conservation law.

Jobs describe here what they add; it is written at the end of the transaction, in one statement for
many rows (`write_rows`, `write_sums`). That is not for SQLite's sake, which is as fast row by row.
Python's sqlite3 gives up the interpreter's lock for each statement, and gets it back from an event
loop with work to do only when that is made to let go, which can take 5 ms (`sys.setswitchinterval`)
and the attention of the operating system. With 20 messages in a group, three rows each, that is the
time of several commits.

The event loop adds the same `Changes` to its own sums when they are on disk (`accounts`).
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from mailshed.errors import SpoolError
from mailshed.spool.rows import MESSAGE_COLUMNS, RECIPIENT_COLUMNS, Row
from mailshed.terms import SpoolState

# Rows that one statement adds at most; parameters are 22 times as many, and the largest statement
# that is kept prepared takes some 100 KiB.
ROWS_MAX = 64

_UPSERT_HOLDING = (
    " ON CONFLICT DO UPDATE SET messages = messages + excluded.messages,"
    " recipients = recipients + excluded.recipients, octets = octets + excluded.octets"
)
_UPSERT_LEDGER = " ON CONFLICT DO UPDATE SET recipients = recipients + excluded.recipients"

HoldingKey = tuple[str, SpoolState, str]
"""A traffic class, a state, and the backend that the mail is for."""


@dataclass(slots=True)
class Holding:
    """How much there is of something."""

    messages: int = 0
    recipients: int = 0
    octets: int = 0

    def add(self, messages: int, recipients: int, octets: int) -> None:
        """Add to it, or take from it with negative numbers."""
        self.messages += messages
        self.recipients += recipients
        self.octets += octets


@dataclass(slots=True)
class Changes:
    """What one transaction did: moves between states, and ledger terms by (class, term)."""

    holdings: dict[HoldingKey, Holding] = field(default_factory=dict)
    ledger: Counter[tuple[str, str]] = field(default_factory=Counter)
    stored: list[int] = field(default_factory=list)
    """Ids of messages that became valid."""
    removed: list[int] = field(default_factory=list)
    """Ids of messages that left."""
    written: int = 0
    """Octets of content that went to disk."""
    messages: list[Row] = field(default_factory=list)
    """Rows of this table that are to be added, and of the two below."""
    recipients: list[Row] = field(default_factory=list)
    chunks: list[Row] = field(default_factory=list)

    def hold(
        self,
        traffic_class: str,
        state: SpoolState,
        messages: int,
        recipients: int,
        octets: int,
        *,
        backend: str = "",
    ) -> None:
        """Add to (or with negative numbers, take from) what a class has in a state."""
        key = (traffic_class, state, backend)
        holding = self.holdings.get(key)
        if holding is None:
            holding = self.holdings[key] = Holding()
        holding.add(messages, recipients, octets)

    def count(self, traffic_class: str, term: str, recipients: int) -> None:
        """Add recipients to a term of the conservation law."""
        self.ledger[traffic_class, term] += recipients

    def merge(self, other: "Changes") -> None:
        """Add what another transaction did; its rows are written."""
        for (traffic_class, state, backend), each in other.holdings.items():
            self.hold(
                traffic_class,
                state,
                each.messages,
                each.recipients,
                each.octets,
                backend=backend,
            )
        self.ledger.update(other.ledger)
        self.stored.extend(other.stored)
        self.removed.extend(other.removed)
        self.written += other.written

    def write_rows(self, connection: sqlite3.Connection) -> None:
        """Add the rows, once. Raises SpoolError if a queue id is there already."""
        try:
            _insert(connection, "message", MESSAGE_COLUMNS, self.messages)
        except sqlite3.IntegrityError as error:
            ids = ", ".join(str(row[1]) for row in self.messages)
            raise SpoolError(f"{ids}: in the spool already") from error
        _insert(connection, "recipient", RECIPIENT_COLUMNS, self.recipients)
        _insert(connection, "chunk", 2, self.chunks)
        for rows in (self.messages, self.recipients, self.chunks):
            rows.clear()


def write_sums(connection: sqlite3.Connection, changes: Changes) -> None:
    """Add holdings and ledger terms of a whole transaction; its last statements before COMMIT."""
    holdings: list[Row] = [
        (traffic_class, state.value, backend, each.messages, each.recipients, each.octets)
        for (traffic_class, state, backend), each in changes.holdings.items()
    ]
    _insert(connection, "holding", 6, holdings, _UPSERT_HOLDING)
    terms: list[Row] = [(*key, recipients) for key, recipients in changes.ledger.items()]
    _insert(connection, "ledger", 3, terms, _UPSERT_LEDGER)


def _insert(
    connection: sqlite3.Connection, table: str, columns: int, rows: Sequence[Row], on: str = ""
) -> None:
    """Add rows, in as few statements as there are ones in their number's binary form."""
    begin, step = 0, ROWS_MAX
    while begin < len(rows):
        while step > len(rows) - begin:
            step //= 2
        values = [value for row in rows[begin : begin + step] for value in row]
        connection.execute(_insertion(table, columns, step, on), values)
        begin += step


@cache
def _insertion(table: str, columns: int, rows: int, on: str) -> str:
    # All of it is from this module. A text that is the same object finds its prepared statement.
    row = f"({', '.join('?' * columns)})"
    return f"INSERT INTO {table} VALUES {', '.join([row] * rows)}{on}"  # noqa: S608
