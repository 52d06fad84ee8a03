"""Mail data in transit, in wire form: memory up to a limit, then an unlinked file.

The listener writes chunks as they arrive; the relay and the spool read them back in the same
form, CRLF line endings and dot-stuffing included, without the terminating `.CRLF`. Nothing is ever
re-serialised. The first `HEAD_OCTETS` stay in memory for the header view, whatever the rest does.

Two budgets bound all messages together. Over the memory budget, a message spills into a file
without a name (O_TMPFILE) in the spool's folder, so it vanishes with the process and cannot fill a
memory-backed /tmp. Over the disk budget there is `BudgetExceeded`, which the client sees as 452;
the last share of it is kept for clients that may always send (the clinical networks). File I/O
runs in the default executor, never on the event loop.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from mailshed.errors import BudgetExceeded
from mailshed.mail.header import OCTETS_MAX as HEAD_OCTETS

CHUNK_OCTETS = 256 * 1024
"""Size of the pieces in which a file is read back."""

# A share of the disk budget that only privileged clients may use.
RESERVED_SHARE = 0.1


@dataclass(slots=True)
class Budget:
    """A bounded amount of bytes; `used` never passes `limit`."""

    limit: int
    used: int = 0
    peak: int = 0

    def take(self, octets: int, keep_free: int = 0) -> bool:
        """Take `octets` if that leaves `keep_free`; say whether it did."""
        if self.used + octets > self.limit - keep_free:
            return False
        self.used += octets
        self.peak = max(self.peak, self.used)
        return True

    def give_back(self, octets: int) -> None:
        """Return what was taken."""
        self.used -= octets
        assert self.used >= 0, "budget returned twice"


@dataclass(slots=True, kw_only=True)
class ContentStore:
    """Maker of `Content` objects; owns the budgets and the folder for spilled data."""

    memory: Budget
    disk: Budget
    memory_per_message: int
    folder: Path

    def new(self, *, is_privileged: bool = False) -> "Content":
        """Start an empty message; privileged ones may use the reserved share of the disk."""
        return Content(self, is_privileged=is_privileged)


class Content:
    """The mail data of one message. Close it when the message is settled."""

    __slots__ = ("_chunks", "_file", "_in_memory", "_is_privileged", "_on_disk", "_store", "size")

    def __init__(self, store: ContentStore, *, is_privileged: bool) -> None:
        self._store = store
        self._is_privileged = is_privileged
        self._chunks: list[bytes] = []
        self._in_memory = 0
        self._on_disk = 0
        self._file: int | None = None
        self.size = 0

    @property
    def is_spilled(self) -> bool:
        """Whether the data went to a file."""
        return self._file is not None

    @property
    def head(self) -> bytes:
        """The first octets of the message, at least `HEAD_OCTETS` of them if it has so many."""
        if len(self._chunks) == 1:
            return self._chunks[0]
        return b"".join(self._chunks)

    def write(self, chunk: bytes) -> bool:
        """Append `chunk` in memory; False if it must be spilled with `spill` instead."""
        octets = len(chunk)
        if (
            self._file is not None
            or self._in_memory + octets > self._store.memory_per_message
            or not self._store.memory.take(octets)
        ):
            return False
        self._chunks.append(chunk)
        self._in_memory += octets
        self.size += octets
        return True

    async def spill(self, chunk: bytes) -> None:
        """Append `chunk` to the file, and move there what memory holds beyond the head.

        Raises BudgetExceeded if the disk budget is used up or the disk is full.
        """
        moved = b"" if self._file is not None else self._take_tail()
        data = moved + chunk
        keep_free = 0
        if not self._is_privileged:
            keep_free = int(self._store.disk.limit * RESERVED_SHARE)
        if not self._store.disk.take(len(data), keep_free):
            raise BudgetExceeded("no room on disk for mail data in transit")
        self._on_disk += len(data)
        self.size += len(chunk)
        try:
            self._file = await asyncio.to_thread(_append, self._file, self._store.folder, data)
        except OSError as error:
            raise BudgetExceeded(f"cannot write mail data in transit: {error}") from error

    def _take_tail(self) -> bytes:
        """Cut memory down to the head; return the rest."""
        joined = b"".join(self._chunks)
        head, tail = joined[:HEAD_OCTETS], joined[HEAD_OCTETS:]
        self._chunks = [head] if head else []
        self._store.memory.give_back(len(tail))
        self._in_memory -= len(tail)
        return tail

    @property
    def chunks_in_memory(self) -> list[bytes]:
        """All data if nothing was spilled, else the head only. Not to be changed."""
        return self._chunks

    async def chunks(self) -> AsyncIterator[bytes]:
        """All data in order, in pieces of at most `CHUNK_OCTETS` when it comes from the file."""
        for chunk in self._chunks:
            yield chunk
        if self._file is not None:
            offset = 0
            while offset < self._on_disk:
                chunk = await asyncio.to_thread(os.pread, self._file, CHUNK_OCTETS, offset)
                if not chunk:
                    raise OSError("mail data in transit is shorter than what was written")
                offset += len(chunk)
                yield chunk

    def close(self) -> None:
        """Return memory and disk space; safe to call twice."""
        self._store.memory.give_back(self._in_memory)
        self._store.disk.give_back(self._on_disk)
        self._in_memory = self._on_disk = 0
        self._chunks = []
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _append(file: int | None, folder: Path, data: bytes) -> int:
    if file is None:
        file = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    return file
