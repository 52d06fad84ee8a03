"""Reading content: the first pieces of many messages together, what follows one by one.

Most messages are one piece, and the drain asks for hundreds at a time. A step in another thread for
each costs the event loop more than the reading itself, as a commit for each would on the way in. So
what is asked for while a step is under way shares the next one (compare group commit in `writer`).

A step that fails is repeated for each message alone, so that damage concerns nobody else.
"""

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial

from mailshed.errors import SpoolCorrupt, SpoolError
from mailshed.spool.digest import begin_digest
from mailshed.spool.lookup import Lookup
from mailshed.spool.schema import CHUNK_BITS
from mailshed.terms import QueueId

# Messages of one step: with pieces of 256 KiB, 8 MiB.
TOGETHER_MAX = 32

# Content is octets, whatever a hand has made of it.
BEGINNINGS = """
    SELECT queue_id, message_id, size, digest, CAST(octets AS BLOB)
    FROM message INDEXED BY sqlite_autoindex_message_1 LEFT JOIN chunk
        ON chunk_id = message_id << 16
    WHERE queue_id IN (SELECT value FROM json_each(?))
"""
PIECE = "SELECT CAST(octets AS BLOB) FROM chunk WHERE chunk_id = ?"


@dataclass(frozen=True, slots=True)
class _Beginning:
    """A message's first piece, empty if it has none or it is missing."""

    message_id: int
    size: int
    """Octets of the whole content."""
    expected: bytes
    octets: bytes
    digest: "hashlib._Hash"
    """Of `octets`."""


_Asked = tuple[QueueId, "asyncio.Future[_Beginning | None]"]


class Contents:
    """The content of what is in the spool. Belongs to the event loop."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._asked: list[_Asked] = []
        self._is_reading = False

    async def read(self, queue_id: QueueId) -> AsyncIterator[bytes]:
        """See `SpoolStore.content`; may raise sqlite3.Error as well."""
        beginning = await self._beginning(queue_id)
        if beginning is None:
            raise SpoolCorrupt(f"{queue_id} is not in the spool")
        left, piece, digest = beginning.size, beginning.octets, beginning.digest
        key = beginning.message_id << CHUNK_BITS
        while left:
            if not piece or len(piece) > left:
                raise SpoolCorrupt(f"{queue_id}: content is missing")
            left -= len(piece)
            if not left and digest.digest() != beginning.expected:
                raise SpoolCorrupt(f"{queue_id}: content does not match its checksum")
            yield piece
            if left:
                key += 1
                piece, digest = await self._lookup.run(partial(_piece, key=key, digest=digest))

    async def _beginning(self, queue_id: QueueId) -> _Beginning | None:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[_Beginning | None] = loop.create_future()
        self._asked.append((queue_id, found))
        if not self._is_reading:
            self._is_reading = True
            loop.call_soon(self._read_next)  # with what else is asked for in this turn of the loop
        try:
            return await found
        except SpoolError:
            raise
        except Exception:  # noqa: BLE001 -- whatever it is, maybe it is another message's
            alone = await self._lookup.run(partial(_beginnings, ids=[queue_id]))
            return alone.get(queue_id)

    def _read_next(self) -> None:
        """Begin the next step, if there is anything to read."""
        asked = [each for each in self._asked[:TOGETHER_MAX] if not each[1].done()]
        del self._asked[:TOGETHER_MAX]
        self._is_reading = bool(asked or self._asked)
        if self._is_reading:
            ids = [queue_id for queue_id, _ in asked]
            reading = self._lookup.submit(partial(_beginnings, ids=ids))
            reading.add_done_callback(partial(self._conclude, asked))

    def _conclude(
        self,
        asked: Sequence[_Asked],
        reading: "asyncio.Future[dict[QueueId, _Beginning]]",
    ) -> None:
        """Answer those who asked, and go on."""
        error = reading.exception()
        for queue_id, found in asked:
            if found.done():
                continue  # whoever asked is gone
            if error is None:
                found.set_result(reading.result().get(queue_id))
            else:
                found.set_exception(error)
        self._read_next()


def _beginnings(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[QueueId, _Beginning]:
    rows = connection.execute(BEGINNINGS, (json.dumps(ids),)).fetchall()
    return {
        queue_id: _Beginning(message_id, size, expected, octets or b"", begin_digest(octets or b""))
        for queue_id, message_id, size, expected, octets in rows
    }


def _piece(
    connection: sqlite3.Connection, key: int, digest: "hashlib._Hash"
) -> tuple[bytes, "hashlib._Hash"]:
    """One piece (empty: missing) and the digest up to its end, both away from the event loop.

    The digest is a new one, because a query may be run twice.
    """
    row: tuple[bytes] | None = connection.execute(PIECE, (key,)).fetchone()
    octets = b"" if row is None else row[0]
    longer = digest.copy()
    longer.update(octets)
    return octets, longer
