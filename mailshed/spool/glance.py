"""One look at one spooled message from outside: its envelope and the beginning of its content.

For `mailshed explain`, with the daemon running or without. Synchronous, and in a read transaction
of its own, as the listings of `reader` are.
"""

from dataclasses import dataclass
from pathlib import Path

from mailshed.mail.header import OCTETS_MAX as HEAD_OCTETS
from mailshed.spool.reader import reading
from mailshed.spool.rows import MessageRow, RecipientRow, records_from
from mailshed.spool.schema import CHUNK_BITS
from mailshed.spool.store import SpoolRecord

MESSAGE = """
    SELECT message_id, queue_id, traffic_class, rank, reverse_path, parameters, size, received,
        expires, next_attempt, attempts, reason, client_address, helo, is_trusted, is_generated,
        in_doubt, report_at, backend, login
    FROM message WHERE queue_id = ?
"""
RECIPIENTS = """
    SELECT message_id, position, address, parameters, state, last_reply FROM recipient
    WHERE message_id = ? ORDER BY position
"""
HEAD = "SELECT substr(octets, 1, ?) FROM chunk WHERE chunk_id = ?"


@dataclass(frozen=True, slots=True)
class Glance:
    """A message as the spool has it; its recipients are those that have not ended."""

    record: SpoolRecord
    head: bytes
    """As much of its content as a header view looks at; empty if it is missing."""


def glance(path: Path, queue_id: str) -> Glance | None:
    """Look at a message in the spool in folder `path`; None if it is not there.

    Raises SpoolError if the spool cannot be read.
    """
    with reading(path) as connection:
        row: MessageRow | None = connection.execute(MESSAGE, (queue_id,)).fetchone()
        if row is None:
            return None
        recipients: list[RecipientRow] = connection.execute(RECIPIENTS, (row[0],)).fetchall()
        found = connection.execute(HEAD, (HEAD_OCTETS, row[0] << CHUNK_BITS)).fetchone()
    (record,) = records_from([row], recipients)
    return Glance(record, found[0] if found is not None else b"")
