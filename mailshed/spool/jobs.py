"""What the writer may be asked to do: each job is one change of the database, whole or not at all.

A job runs inside a transaction that it shares with others (`writer`), so it neither begins nor
commits, and it may run twice, if a neighbour spoils the first transaction: whatever it does outside
the database happens in `prepare`, once. What it changed it writes into `Changes`.

Priority is a number, lower first: marks before mail, since they free room and a slot waits for its
mark; mail by its class's rank; the pieces of large messages apart, so that they fill the room that
is left (see `backlog`).
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from mailshed.errors import SpoolError, SpoolSick
from mailshed.spool.accounts import Changes, Claim
from mailshed.spool.rows import (
    INSERT_MESSAGE,
    INSERT_RECIPIENT,
    liveliest,
    message_values,
    printable,
    recipient_values,
)
from mailshed.spool.schema import CHUNK_BITS, CHUNKS_MAX
from mailshed.spool.store import Settlement, SpoolRecord
from mailshed.terms import QueueId, SpoolState

MARK_PRIORITY = -1
"""Before any mail."""


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """One change. `done` belongs to the event loop; the writer only looks whether it is cancelled.

    `octets` is how much content the job brings, for the size of commits.
    """

    done: asyncio.Future[None]
    priority: int
    octets: int = 0
    is_piece: bool = False
    """Part of a large message, which has to let small ones pass."""
    needs_room: bool = False
    """It brings mail, and gives way on a full disk."""
    claim: Claim | None = None
    """Room to give back when the outcome is known."""

    def prepare(self) -> None:
        """Do, once, what need not be done inside the transaction."""

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Make the change. Raises SpoolError if this job cannot be done and others may go on."""
        raise NotImplementedError


@dataclass(eq=False, slots=True, kw_only=True)
class Arrival:
    """A large message that is coming in: its id and what has been seen of its content."""

    message_id: int
    pieces: int = 0
    octets: int = 0
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def note(self, piece: bytes) -> bytes:
        """Add the next piece to the digest; return the digest so far."""
        self._digest.update(piece)
        return self._digest.digest()


@dataclass(eq=False, slots=True, kw_only=True)
class StorePiece(Job):
    """Store one piece, not the last, of a large message."""

    arrival: Arrival
    place: int
    piece: bytes
    is_piece: bool = True
    needs_room: bool = True

    def prepare(self) -> None:
        """Digest the piece."""
        self.arrival.note(self.piece)

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Add the chunk; the first also announces the message."""
        message_id = self.arrival.message_id
        if self.place == 0:
            connection.execute("INSERT INTO incoming VALUES (?)", (message_id,))
        else:
            _require_incoming(connection, message_id)
        _insert_chunk(connection, message_id, self.place, self.piece)
        changes.written += len(self.piece)


@dataclass(eq=False, slots=True, kw_only=True)
class StoreMessage(Job):
    """Store a message: its last piece, its recipients, and the row that makes it valid."""

    message_id: int
    record: SpoolRecord
    piece: bytes
    arrival: Arrival | None = None
    """Where earlier pieces are; None if `piece` is the whole content."""
    digest: bytes = b""
    needs_room: bool = True

    def prepare(self) -> None:
        """Digest the last piece, and with it the whole."""
        if self.arrival is None:
            self.digest = hashlib.sha256(self.piece).digest()
        else:
            self.digest = self.arrival.note(self.piece)

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Add the last chunk, then what makes it count."""
        size, place = len(self.piece), 0
        if self.arrival is not None:
            _require_incoming(connection, self.message_id)
            connection.execute("DELETE FROM incoming WHERE message_id = ?", (self.message_id,))
            size += self.arrival.octets
            place = self.arrival.pieces
        if self.piece:
            _insert_chunk(connection, self.message_id, place, self.piece)
        insert_message(
            connection, changes, self.message_id, self.record, size=size, digest=self.digest
        )
        changes.written += len(self.piece)


@dataclass(eq=False, slots=True, kw_only=True)
class ForgetArrival(Job):
    """Remove the pieces of a large message that will not be finished. No-op if it was."""

    arrival: Arrival

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Remove the chunks and the announcement."""
        del changes  # what was never valid was never counted
        forget_incoming(connection, self.arrival.message_id)


@dataclass(eq=False, slots=True, kw_only=True)
class Settle(Job):
    """Record the outcome of an attempt, with the reports that it causes."""

    settlement: Settlement
    report_ids: Sequence[int]
    """One message id for each report."""
    digests: tuple[bytes, ...] = ()

    def prepare(self) -> None:
        """Digest the reports."""
        reports = self.settlement.reports
        self.digests = tuple(hashlib.sha256(report.content).digest() for report in reports)

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Move or remove recipients, count the endings, add the reports."""
        settlement = self.settlement
        found = _find(connection, settlement.queue_id)
        if found is None:
            return
        named = settlement.endings.keys() | settlement.deferred.keys()
        if not named & found.states.keys():
            return
        for position, ending in settlement.endings.items():
            if position in found.states:
                changes.count(found.traffic_class, ending.value, 1)
        self._move(connection, changes, found)
        for report, message_id, digest in zip(
            settlement.reports, self.report_ids, self.digests, strict=True
        ):
            size = len(report.content)
            _insert_chunk(connection, message_id, 0, report.content)
            insert_message(connection, changes, message_id, report.record, size=size, digest=digest)
            changes.written += size

    def _move(self, connection: sqlite3.Connection, changes: Changes, found: "_Found") -> None:
        """Write what is left of the message, or remove it."""
        settlement, message_id = self.settlement, found.message_id
        remaining = {
            position: settlement.state if position in settlement.deferred else state
            for position, state in found.states.items()
            if position not in settlement.endings
        }
        changes.hold(found.traffic_class, found.state, -1, -len(found.states), -found.size)
        if not remaining:
            _delete_message(connection, message_id)
            changes.removed.append(message_id)
            return
        connection.executemany(
            "DELETE FROM recipient WHERE message_id = ? AND position = ?",
            [(message_id, position) for position in settlement.endings],
        )
        connection.executemany(
            "UPDATE recipient SET state = ?, last_reply = ? WHERE message_id = ? AND position = ?",
            [
                (settlement.state.value, printable(reply), message_id, position)
                for position, reply in settlement.deferred.items()
            ],
        )
        state = liveliest(list(remaining.values()))
        connection.execute(
            "UPDATE message SET state = ?, attempts = ?, next_attempt = ?, in_doubt = ?"
            " WHERE message_id = ?",
            (
                state.value,
                settlement.attempts,
                settlement.next_attempt_wall,
                settlement.in_doubt,
                message_id,
            ),
        )
        changes.hold(found.traffic_class, state, 1, len(remaining), found.size)


@dataclass(eq=False, slots=True, kw_only=True)
class Quarantine(Job):
    """Keep a damaged message, and never try it again."""

    queue_id: QueueId

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Set message and recipients to corrupt."""
        found = _find(connection, self.queue_id)
        if found is None:
            return
        corrupt = SpoolState.CORRUPT
        key = (corrupt.value, found.message_id)
        connection.execute("UPDATE recipient SET state = ? WHERE message_id = ?", key)
        connection.execute("UPDATE message SET state = ? WHERE message_id = ?", key)
        recipients = len(found.states)
        changes.hold(found.traffic_class, found.state, -1, -recipients, -found.size)
        changes.hold(found.traffic_class, corrupt, 1, recipients, found.size)


def write_ledger(connection: sqlite3.Connection, changes: Changes) -> None:
    """Add the ledger terms of a whole transaction; its last statement before COMMIT."""
    connection.executemany(
        "INSERT INTO ledger VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET recipients = recipients + excluded.recipients",
        [(*key, recipients) for key, recipients in changes.ledger.items()],
    )


def insert_message(
    connection: sqlite3.Connection,
    changes: Changes,
    message_id: int,
    record: SpoolRecord,
    *,
    size: int,
    digest: bytes,
) -> None:
    """Make a message valid whose content is there."""
    try:
        connection.execute(INSERT_MESSAGE, message_values(message_id, record, size, digest))
    except sqlite3.IntegrityError as error:
        raise SpoolError(f"{record.queue_id} is in the spool already") from error
    for recipient in record.recipients:
        connection.execute(INSERT_RECIPIENT, recipient_values(message_id, recipient))
    recipients = len(record.recipients)
    state = liveliest([recipient.state for recipient in record.recipients])
    changes.hold(record.traffic_class, state, 1, recipients, size)
    source = "generated" if record.is_generated else "accepted"
    changes.count(record.traffic_class, source, recipients)
    changes.stored.append(message_id)


def forget_incoming(connection: sqlite3.Connection, message_id: int) -> None:
    """Remove what there is of a message that never became valid."""
    forgotten = connection.execute("DELETE FROM incoming WHERE message_id = ?", (message_id,))
    if forgotten.rowcount:
        _delete_chunks(connection, message_id)


def retract_message(connection: sqlite3.Connection, changes: Changes, message_id: int) -> None:
    """Undo a `StoreMessage` that was answered with an error, and yet reached the disk."""
    row = connection.execute(
        "SELECT queue_id, is_generated FROM message WHERE message_id = ?", (message_id,)
    ).fetchone()
    if row is None:
        return
    queue_id, is_generated = row
    found = _find(connection, queue_id)
    assert found is not None, "a message vanished within a transaction"
    recipients = len(found.states)
    changes.hold(found.traffic_class, found.state, -1, -recipients, -found.size)
    source = "generated" if is_generated else "accepted"
    changes.count(found.traffic_class, source, -recipients)
    _delete_message(connection, message_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A message as a job finds it; `states` by the recipients' indexes."""

    message_id: int
    traffic_class: str
    state: SpoolState
    size: int
    states: dict[int, SpoolState]


def _find(connection: sqlite3.Connection, queue_id: QueueId) -> _Found | None:
    row = connection.execute(
        "SELECT message_id, traffic_class, state, size FROM message WHERE queue_id = ?",
        (queue_id,),
    ).fetchone()
    if row is None:
        return None
    message_id, traffic_class, state, size = row
    recipients = connection.execute(
        "SELECT position, state FROM recipient WHERE message_id = ?", (message_id,)
    )
    return _Found(
        message_id=message_id,
        traffic_class=traffic_class,
        state=SpoolState(state),
        size=size,
        states={position: SpoolState(each) for position, each in recipients},
    )


def _require_incoming(connection: sqlite3.Connection, message_id: int) -> None:
    """A recovery sweeps what was coming in; its remainder must not become half a message."""
    row = connection.execute(
        "SELECT 1 FROM incoming WHERE message_id = ?", (message_id,)
    ).fetchone()
    if row is None:
        raise SpoolSick("the spool was recovered while the message came in")


def _insert_chunk(
    connection: sqlite3.Connection, message_id: int, place: int, octets: bytes
) -> None:
    assert place < CHUNKS_MAX, "more content than a message can have"
    connection.execute(
        "INSERT INTO chunk VALUES (?, ?)", (message_id << CHUNK_BITS | place, octets)
    )


def _delete_chunks(connection: sqlite3.Connection, message_id: int) -> None:
    first = message_id << CHUNK_BITS
    connection.execute(
        "DELETE FROM chunk WHERE chunk_id BETWEEN ? AND ?", (first, first | CHUNKS_MAX - 1)
    )


def _delete_message(connection: sqlite3.Connection, message_id: int) -> None:
    _delete_chunks(connection, message_id)
    # The recipients go by cascade.
    connection.execute("DELETE FROM message WHERE message_id = ?", (message_id,))
