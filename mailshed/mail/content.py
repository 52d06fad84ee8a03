"""Mail data in transit, in wire form: memory up to a limit, then an unlinked file.

The listener writes chunks as they arrive; the relay and the spool read them back in the same
form, CRLF line endings and dot-stuffing included, without the terminating `.CRLF`. Nothing is ever
re-serialised.

Two budgets bound all messages together. Over the memory budget, a message spills into a file
without a name (O_TMPFILE) in the spool's folder, so it vanishes with the process and cannot fill a
memory-backed /tmp; a file system that knows no such files gets one whose name is removed at once.
What arrives then is gathered within the message's share of memory and written when that is full;
the last of it stays in memory. Over the disk budget there is `BudgetExceeded`, which the client
sees as 452; the last share of it is kept for clients that may always send (the clinical networks).
Where memory allows, the first `HEAD_OCTETS` stay in it for the header view; `head` finds them
wherever they are.

The event loop never waits for the disk: writing runs in the default executor, and so does reading
what the page cache does not have. A session can be cancelled while a thread still writes for it, so
a file is closed by whoever uses it last: a descriptor closed too early could belong to another
client's socket by the time the thread writes to it.

Source: preadv2(2), RWF_NOWAIT.
"""

import asyncio
import errno
import os
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock

from mailshed.errors import BudgetExceeded
from mailshed.mail.header import OCTETS_MAX as HEAD_OCTETS

CHUNK_OCTETS = 256 * 1024
"""Size of the pieces in which a file is read back."""

CLOSED_BY_THREAD_OCTETS = 4 * 1024 * 1024
"""A file so large is closed by a thread, which costs what it takes the kernel to free so much."""

# What open(2) says where O_TMPFILE is not known: by the file system (NFS, some overlays), or by the
# kernel, which then sees a folder opened for writing.
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT})

# What preadv2(2) says if the page cache does not have it, or if the file system cannot tell.
_NOT_NOW = frozenset({errno.EAGAIN, errno.EOPNOTSUPP})

# How many pieces one writev(2) takes.
_PIECES_MAX = os.sysconf("SC_IOV_MAX")

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

    __slots__ = (
        *("_chunks", "_file", "_in_memory", "_is_privileged", "_on_disk", "_store", "_tail"),
        *("is_normalised", "size"),
    )

    def __init__(self, store: ContentStore, *, is_privileged: bool) -> None:
        self._store = store
        self._is_privileged = is_privileged
        self._chunks: list[bytes] = []
        self._in_memory = 0
        self._on_disk = 0
        self._file: _SpillFile | None = None
        self._tail: list[bytes] = []  # what comes after all that is in the file
        self.size = 0
        self.is_normalised = False
        """Whether bare CR, LF or NUL was replaced in it; its receiver says so."""

    @property
    def is_spilled(self) -> bool:
        """Whether the data went to a file."""
        return self._file is not None

    @property
    def head(self) -> bytes:
        """What memory holds of the beginning; complete only if `read_head` would say the same."""
        if len(self._chunks) == 1:
            return self._chunks[0]
        return b"".join(self._chunks)

    async def read_head(self) -> bytes:
        """The first octets of the message, at least `HEAD_OCTETS` of them if it has so many."""
        head = self.head
        missing = HEAD_OCTETS - len(head)
        if self._file is None or missing <= 0:
            return head
        head += await asyncio.to_thread(self._file.read, missing, 0)
        return b"".join((head, *self._tail))[:HEAD_OCTETS]

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
        """Append `chunk` to what goes to the file, and write if memory is to hold no more of it.

        Raises BudgetExceeded if the disk budget is used up or the disk is full; the content is of
        no use then and can only be closed.
        """
        if self._file is not None and self._gather(chunk):
            return
        pieces: list[bytes | memoryview]
        if self._file is None:
            octets = self._in_memory + len(chunk)
            head_size = self._head_size(octets)
            self._take_disk(octets - head_size)
            head, pieces = _split([*self._chunks, chunk], head_size)
            self._chunks = [head] if head else []
            self._file = _SpillFile(self._store.folder)
        else:
            pieces = [*self._tail, chunk]
            head_size = sum(map(len, self._chunks))
            self._take_disk(self._in_memory - head_size + len(chunk))
            self._tail = []
        try:
            await asyncio.to_thread(self._file.append, pieces)
        except OSError as error:
            raise BudgetExceeded(
                f"cannot write mail data in transit to a file in {self._store.folder}: {error}"
            ) from error
        self._store.memory.give_back(self._in_memory - head_size)
        self._in_memory = head_size
        self.size += len(chunk)

    def _gather(self, chunk: bytes) -> bool:
        """Keep `chunk` in memory for now, if the message may have so much there."""
        octets = len(chunk)
        if self._in_memory + octets > self._store.memory_per_message:
            return False
        if not self._store.memory.take(octets):
            return False
        self._tail.append(chunk)
        self._in_memory += octets
        self.size += octets
        return True

    def _head_size(self, octets: int) -> int:
        """How much of the first `octets` is to stay in memory, which is taken if need be."""
        wanted = min(octets, HEAD_OCTETS)
        missing = wanted - self._in_memory
        if missing > 0:
            if not self._store.memory.take(missing):
                return self._in_memory
            self._in_memory = wanted
        return wanted

    def _take_disk(self, octets: int) -> None:
        disk = self._store.disk
        keep_free = 0 if self._is_privileged else int(disk.limit * RESERVED_SHARE)
        if not disk.take(octets, keep_free):
            raise BudgetExceeded(
                f"no room on disk for mail data in transit: {disk.used} of {disk.limit} octets "
                f"are used, {keep_free} are kept for clinical networks"
            )
        self._on_disk += octets

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
                piece = self._file.read_now(CHUNK_OCTETS, offset)
                if piece is None:
                    piece = await asyncio.to_thread(self._file.read, CHUNK_OCTETS, offset)
                if not piece:
                    raise OSError("mail data in transit is shorter than what was written")
                offset += len(piece)
                yield piece
            for chunk in self._tail:
                yield chunk

    def close(self) -> None:
        """Return memory and disk space; safe to call twice."""
        self._store.memory.give_back(self._in_memory)
        self._store.disk.give_back(self._on_disk)
        self._in_memory = self._on_disk = 0
        self._chunks, self._tail = [], []
        if self._file is not None:
            self._file.close()
            self._file = None


class _SpillFile:
    """A file without a name, made at the first write. Its methods may run in any thread."""

    __slots__ = ("_descriptor", "_folder", "_is_closed", "_lock", "_octets", "_users")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None
        self._octets = 0
        self._users = 0
        self._is_closed = False
        self._lock = Lock()  # guards the fields; never held during I/O

    def append(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Write `pieces` at the end."""
        views = deque(memoryview(piece) for piece in pieces)
        with self._in_use() as descriptor:
            while views:
                written = os.writev(descriptor, list(islice(views, _PIECES_MAX)))
                self._octets += written
                while views and written >= len(views[0]):
                    written -= len(views.popleft())
                if written:
                    views[0] = views[0][written:]

    def read(self, octets: int, offset: int) -> bytes:
        """Read up to `octets` from `offset` on."""
        with self._in_use() as descriptor:
            return os.pread(descriptor, octets, offset)

    def read_now(self, octets: int, offset: int) -> bytes | None:
        """Do the same unless the disk has to be waited for; then there is None."""
        buffer = bytearray(octets)
        try:
            with self._in_use() as descriptor:
                count = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in _NOT_NOW:
                return None
            raise
        return bytes(memoryview(buffer)[:count])

    def close(self) -> None:
        """Close the file as soon as no thread uses it."""
        with self._lock:
            self._is_closed = True
            self._close_if_unused()

    @contextmanager
    def _in_use(self) -> Iterator[int]:
        with self._lock:
            if self._is_closed:
                raise OSError("mail data in transit was closed")
            self._users += 1
        try:
            if self._descriptor is None:  # the first write; the next comes after it
                self._descriptor = _open_nameless(self._folder)
            yield self._descriptor
        finally:
            with self._lock:
                self._users -= 1
                self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._is_closed and self._users == 0 and self._descriptor is not None:
            _give_up(self._descriptor, self._octets)
            self._descriptor = None


def _give_up(descriptor: int, octets: int) -> None:
    """Close a file that nobody else can find, and with it free its blocks.

    The kernel takes 1.5 ms for 25 MiB, and longer where the journal is busy.
    """
    if octets >= CLOSED_BY_THREAD_OCTETS:
        try:
            asyncio.get_running_loop().run_in_executor(None, os.close, descriptor)
        except RuntimeError:  # this is a thread already, or the loop is about to end
            pass
        else:
            return
    os.close(descriptor)


def _split(pieces: Sequence[bytes], octets: int) -> tuple[bytes, list[bytes | memoryview]]:
    """The first `octets` of all, and what follows them, which is not copied."""
    head, rest = bytearray(), list[bytes | memoryview]()
    for piece in pieces:
        missing = octets - len(head)
        head += piece[:missing]
        if len(piece) > missing:
            rest.append(memoryview(piece)[missing:])
    return bytes(head), rest


def _open_nameless(folder: Path) -> int:
    """Open a new file in `folder` that nobody else can find."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    descriptor, name = tempfile.mkstemp(prefix=".transit-", dir=folder)
    try:
        Path(name).unlink()
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
