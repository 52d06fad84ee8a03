"""Take messages out of a spool as files, with the daemon running or without; the spool stays as is.

A message becomes `<queue id>.eml`, its content as it would be in a file: dots un-stuffed (RFC 5321,
4.5.2), line endings CRLF as they came, our `Received:` line on top; and `<queue id>.json`, its
envelope, with which it can be sent again. Both are for the owner's eyes only and are on disk when
`extract` returns, their names after `sync_folder`. Nothing that is there already is overwritten.

The checksum is verified on the way. What does not match, or is not all there, is damaged; it is
left out, or kept as far as it can be read and called so. Each message is read in a transaction of
its own, and another than the one before it may be there in between.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mailshed.spool.reader import Entry, describe, reading
from mailshed.spool.schema import CHUNK_BITS
from mailshed.terms import QueueId

SCHEMA = "mailshed.message/1"
SUFFIXES = (".eml", ".json")

_FOUND = "SELECT message_id, size, digest FROM message WHERE queue_id = ?"
_PIECE = "SELECT octets FROM chunk WHERE chunk_id = ?"
# Primary codes, the low octet, of what was not written like that, rather than not read.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """A message that was found. `damage` says what is wrong with its content; empty: nothing."""

    damage: str = ""
    is_written: bool = True


class Unstuffer:
    """Takes out the dots that were put before lines beginning with a dot, piece by piece."""

    def __init__(self) -> None:
        # What may be the start of CRLF-dot waits for the next piece; the data starts a line.
        self._carry = b"\r\n"
        self._is_at_start = True

    def feed(self, piece: bytes) -> bytes:
        """The next octets; what cannot be judged yet comes with later ones."""
        data = self._carry + piece
        kept = 2 if data.endswith(b"\r\n") else 1 if data.endswith(b"\r") else 0
        self._carry = data[len(data) - kept :]
        return self._begun(data[: len(data) - kept].replace(b"\r\n.", b"\r\n"))

    def finish(self) -> bytes:
        """The last octets."""
        return self._begun(self._carry)

    def _begun(self, data: bytes) -> bytes:
        """`data` without the line ending that we imagined before the first line."""
        if not self._is_at_start or not data:
            return data
        self._is_at_start = False
        return data[2:]


def existing(folder: Path, queue_ids: list[QueueId]) -> list[Path]:
    """Files in `folder` that `extract` of these messages would have to overwrite."""
    names = {f"{queue_id}{suffix}" for queue_id in queue_ids for suffix in SUFFIXES}
    return sorted(path for path in folder.iterdir() if path.name in names)


def extract(
    spool: Path, queue_id: QueueId, folder: Path, *, keep_damaged: bool = False
) -> Extracted | None:
    """Write one message of the spool into `folder`; None if it is not there any more.

    Raises SpoolError if the spool cannot be read now, OSError if a file cannot be written; then
    there is no file of this message.
    """
    files = _Files(folder / queue_id)
    try:
        with reading(spool) as connection:
            row = connection.execute(_FOUND, (queue_id,)).fetchone()
            if row is None:
                return None
            message_id, size, digest = row
            with files.create(".eml") as write:
                damage = _copy(connection, message_id, size, digest, write)
            entry = describe(connection, message_id, time.time())
        if damage and not keep_damaged:
            return Extracted(damage=damage, is_written=False)
        with files.create(".json") as write:
            write(_document(entry, digest, damage))
        files.keep()
        return Extracted(damage=damage)
    finally:
        files.discard()


def sync_folder(folder: Path) -> None:
    """Make the names of new files durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(
    connection: sqlite3.Connection,
    message_id: int,
    size: int,
    expected: bytes,
    write: Callable[[bytes], object],
) -> str:
    """Write the content, as far as there is any; return what is wrong with it."""
    digest, unstuffer = hashlib.sha256(), Unstuffer()
    place, left = 0, size
    try:
        while left > 0:
            key = message_id << CHUNK_BITS | place
            row: tuple[bytes] | None = connection.execute(_PIECE, (key,)).fetchone()
            if row is None or not row[0]:
                return f"the last {left:,} octets are missing"
            write(unstuffer.feed(row[0]))
            digest.update(row[0])
            place, left = place + 1, left - len(row[0])
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in _DAMAGE:
            raise
        return f"the last {left:,} octets cannot be read: {error}"
    finally:
        write(unstuffer.finish())
    return "" if digest.digest() == expected else "the content does not match its checksum"


def _document(entry: Entry, digest: bytes, damage: str) -> bytes:
    sums = {"sha256_wire_form": digest.hex(), "is_damaged": bool(damage), "damage": damage}
    return json.dumps({"schema": SCHEMA, **entry, **sums}, indent=2).encode() + b"\n"


class _Files:
    """The files of one message, which stay together or not at all."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._created: list[Path] = []

    @contextmanager
    def create(self, suffix: str) -> Iterator[Callable[[bytes], object]]:
        """A new file, on disk at the end; yields what writes to it."""
        path = self._base.with_name(self._base.name + suffix)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            self._created.append(path)
            try:
                yield file.write
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:  # those of writing do not say which file
                raise OSError(error.errno, error.strerror, str(path)) from error

    def keep(self) -> None:
        """The message is complete."""
        self._created.clear()

    def discard(self) -> None:
        """Remove what is there of an incomplete message."""
        for path in self._created:
            with suppress(OSError):
                path.unlink()
