"""Between records and rows: the one place that knows the order of the columns.

Addresses and parameters are stored as the bytes they are. Parameters cannot hold a space (RFC 5321,
4.1.2), so a space separates them. Text that came from outside may hold what UTF-8 cannot express;
it is for people to read, so such characters become '?'.

Words may stand in a row that this version does not know, because of a newer one that was drained in
haste, or a hand that edited. One odd row must not keep all others from being delivered, so each
word has a meaning: see `state_from` and `_reason_from`.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence

from mailshed.spool.store import SpoolRecipient, SpoolRecord
from mailshed.terms import QueueId, Reason, SpoolState

LIVE_STATES = (SpoolState.QUEUED, SpoolState.DEFERRED)
"""States of a recipient that may be tried."""
BY_LIVELINESS = (*LIVE_STATES, SpoolState.HOLD, SpoolState.CORRUPT)
"""All states; a message has the first of these that one of its recipients has."""

MESSAGE_COLUMNS = 22
"""Columns of `message`, in the order of `message_values`; so with the next for `recipient`."""
RECIPIENT_COLUMNS = 6
Row = tuple[object, ...]

# What the queries of `lookup` select, column by column.
MessageRow = tuple[
    int, str, str, int, bytes, bytes, int,
    float, float, float, int, str, str, str, int,
    int, int, float | None, str, str,
]  # fmt: skip
RecipientRow = tuple[int, int, bytes, bytes, str, str]


def message_values(message_id: int, record: SpoolRecord, size: int, digest: bytes) -> Row:
    """The row of `message` for a record."""
    return (
        message_id,
        record.queue_id,
        record.traffic_class,
        record.rank,
        liveliest([recipient.state for recipient in record.recipients]).value,
        record.reverse_path,
        b" ".join(record.parameters),
        size,
        digest,
        record.received_wall,
        record.expires_wall,
        record.next_attempt_wall,
        record.attempts,
        record.reason.value,
        printable(record.client_address),
        printable(record.helo),
        int(record.is_trusted),
        int(record.is_generated),
        record.in_doubt,
        record.report_wall,
        printable(record.backend),
        printable(record.login),
    )


def recipient_values(message_id: int, recipient: SpoolRecipient) -> Row:
    """The row of `recipient`."""
    return (
        message_id,
        recipient.index,
        recipient.address,
        b" ".join(recipient.parameters),
        recipient.state.value,
        printable(recipient.last_reply),
    )


def records_from(
    messages: Sequence[MessageRow], recipients: Sequence[RecipientRow]
) -> list[SpoolRecord]:
    """Records in the order of `messages`, each with its `recipients`, which are in order."""
    by_message: defaultdict[int, list[SpoolRecipient]] = defaultdict(list)
    for message_id, position, address, parameters, state, last_reply in recipients:
        by_message[message_id].append(
            SpoolRecipient(
                index=position,
                address=address,
                parameters=tuple(parameters.split()),
                state=state_from(state),
                last_reply=last_reply,
            )
        )
    return [_record_from(row, tuple(by_message[row[0]])) for row in messages]


def _record_from(row: MessageRow, recipients: tuple[SpoolRecipient, ...]) -> SpoolRecord:
    return SpoolRecord(
        queue_id=QueueId(row[1]),
        traffic_class=row[2],
        rank=row[3],
        reverse_path=row[4],
        parameters=tuple(row[5].split()),
        recipients=recipients,
        size=row[6],
        received_wall=row[7],
        expires_wall=row[8],
        next_attempt_wall=row[9],
        attempts=row[10],
        reason=_reason_from(row[11]),
        client_address=row[12],
        helo=row[13],
        is_trusted=bool(row[14]),
        is_generated=bool(row[15]),
        in_doubt=row[16],
        report_wall=row[17],
        backend=row[18],
        login=row[19],
    )


def state_from(text: str) -> SpoolState:
    """The state that a row names; one that nobody knows waits for an operator."""
    try:
        return SpoolState(text)
    except ValueError:
        return SpoolState.HOLD


def _reason_from(text: str) -> Reason:
    """The reason that a row names; it is told to people, and decides nothing."""
    try:
        return Reason(text)
    except ValueError:
        return Reason.INTERNAL


def liveliest(states: Sequence[SpoolState]) -> SpoolState:
    """The state of a message whose recipients have these (at least one)."""
    if len(states) == 1:
        return states[0]
    return min(states, key=BY_LIVELINESS.index)


def printable(text: str) -> str:
    """`text` with what UTF-8 cannot express replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def is_full(error: BaseException) -> bool:
    """Whether the disk, or the size a database may have, is used up."""
    return _primary_code(error) == sqlite3.SQLITE_FULL


def is_refused_write(error: BaseException) -> bool:
    """Whether the kernel refused to extend or write a file; a failed sync is something else."""
    return getattr(error, "sqlite_errorcode", 0) in {
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_SHMSIZE,
    }


def is_damage(error: BaseException) -> bool:
    """Whether SQLite has read something that it never wrote, rather than failed to read."""
    return _primary_code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _primary_code(error: BaseException) -> int:
    """SQLite's result code; 0 if there is none, as in some errors of the sqlite3 module itself."""
    # The low byte is the primary code; extended ones say where it happened.
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
