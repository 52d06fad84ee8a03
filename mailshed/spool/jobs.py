"""What the writer may be asked to do: each job is one change of the database, whole or not at all.

Here is what a job is, and those that bring mail; those that change what is there are in `marks`.

A job runs inside a transaction that it shares with others (`writer`), so it neither begins nor
commits, and it may run twice, if a neighbour spoils the first transaction: whatever it does outside
the database happens in `prepare`, once. What it changed it writes into `Changes`, and so it does
with the rows of new mail, which are added when all jobs of the transaction have run.

Priority is a number, lower first: marks before mail, since they free room and a slot waits for its
mark; mail by its class's rank; the pieces of large messages apart, so that they fill the room that
is left (see `backlog`).
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from mailshed.errors import SpoolSick
from mailshed.spool.accounts import Claim
from mailshed.spool.changes import Changes
from mailshed.spool.digest import begin_digest
from mailshed.spool.rows import liveliest, message_values, recipient_values, state_from
from mailshed.spool.schema import CHUNK_BITS, CHUNKS_MAX
from mailshed.spool.store import SpoolRecord
from mailshed.terms import QueueId, SpoolState


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

    @property
    def brings(self) -> tuple[int, ...]:
        """Ids of the messages that it makes valid, and that somebody is promised."""
        return ()

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
        # At once, and not with the rows of others: a `ForgetArrival` may follow.
        key = chunk_key(message_id, self.place)
        connection.execute("INSERT INTO chunk VALUES (?, ?)", (key, self.piece))
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

    @property
    def brings(self) -> tuple[int, ...]:
        """The message."""
        return (self.message_id,)

    def prepare(self) -> None:
        """Digest the last piece, and with it the whole."""
        if self.arrival is None:
            self.digest = begin_digest(self.piece).digest()
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
            changes.chunks.append((chunk_key(self.message_id, place), self.piece))
        add_message(changes, self.message_id, self.record, size=size, digest=self.digest)
        changes.written += len(self.piece)


@dataclass(eq=False, slots=True, kw_only=True)
class StoreCopies(Job):
    """Store several messages in one step: all of them become valid, or none."""

    copies: Sequence[StoreMessage]
    needs_room: bool = True

    @property
    def brings(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(each.message_id for each in self.copies)

    def prepare(self) -> None:
        """Digest the last piece for each."""
        for each in self.copies:
            each.prepare()

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Store one after the other; who shares the transaction sees to it that none is alone."""
        for each in self.copies:
            each.apply(connection, changes)


@dataclass(eq=False, slots=True, kw_only=True)
class ForgetArrival(Job):
    """Remove the pieces of a large message that will not be finished. No-op if it was."""

    arrival: Arrival

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Remove the chunks and the announcement."""
        del changes  # what was never valid was never counted
        forget_incoming(connection, self.arrival.message_id)


def add_message(
    changes: Changes, message_id: int, record: SpoolRecord, *, size: int, digest: bytes
) -> None:
    """Make a message valid whose content is there, or is added in the same transaction."""
    changes.messages.append(message_values(message_id, record, size, digest))
    for recipient in record.recipients:
        changes.recipients.append(recipient_values(message_id, recipient))
    recipients = len(record.recipients)
    state = liveliest([recipient.state for recipient in record.recipients])
    changes.hold(record.traffic_class, state, 1, recipients, size, backend=record.backend)
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
    found = find_message(connection, queue_id)
    assert found is not None, "a message vanished within a transaction"
    recipients = len(found.states)
    take_out(changes, found)
    source = "generated" if is_generated else "accepted"
    changes.count(found.traffic_class, source, -recipients)
    delete_message(connection, message_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A message as a job finds it; `states` by the recipients' indexes."""

    message_id: int
    traffic_class: str
    state: SpoolState
    size: int
    attempts: int
    next_attempt: float
    report_at: float | None
    states: dict[int, SpoolState]
    backend: str = ""


def find_message(connection: sqlite3.Connection, queue_id: QueueId) -> Found | None:
    """The message with this queue id, if it is there."""
    row = connection.execute(
        "SELECT message_id, traffic_class, state, size, attempts, next_attempt, report_at, backend"
        " FROM message WHERE queue_id = ?",
        (queue_id,),
    ).fetchone()
    if row is None:
        return None
    message_id, traffic_class, state, size, attempts, next_attempt, report_at, backend = row
    recipients = connection.execute(
        "SELECT position, state FROM recipient WHERE message_id = ?", (message_id,)
    )
    return Found(
        message_id=message_id,
        traffic_class=traffic_class,
        state=state_from(state),
        size=size,
        attempts=attempts,
        next_attempt=next_attempt,
        report_at=report_at,
        states={position: state_from(each) for position, each in recipients},
        backend=backend,
    )


def take_out(changes: Changes, found: Found) -> None:
    """Take a message out of the sums, as it was found; whoever changes it puts it back."""
    changes.hold(
        found.traffic_class,
        found.state,
        -1,
        -len(found.states),
        -found.size,
        backend=found.backend,
    )


def _require_incoming(connection: sqlite3.Connection, message_id: int) -> None:
    """A recovery sweeps what was coming in; its remainder must not become half a message."""
    row = connection.execute(
        "SELECT 1 FROM incoming WHERE message_id = ?", (message_id,)
    ).fetchone()
    if row is None:
        raise SpoolSick("the spool was recovered while the message came in")


def chunk_key(message_id: int, place: int) -> int:
    """The key of a piece of content."""
    assert place < CHUNKS_MAX, "more content than a message can have"
    return message_id << CHUNK_BITS | place


def _delete_chunks(connection: sqlite3.Connection, message_id: int) -> None:
    first = message_id << CHUNK_BITS
    connection.execute(
        "DELETE FROM chunk WHERE chunk_id BETWEEN ? AND ?", (first, first | CHUNKS_MAX - 1)
    )


def delete_message(connection: sqlite3.Connection, message_id: int) -> None:
    """Remove a message with its recipients and its content; the ledger is the caller's."""
    _delete_chunks(connection, message_id)
    # The recipients go by cascade.
    connection.execute("DELETE FROM message WHERE message_id = ?", (message_id,))
