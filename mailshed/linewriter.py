"""A file descriptor for lines that never keeps the event loop waiting.

The log goes to standard error, which is a pipe, a socket or a terminal that somebody else reads;
when they stop reading, a plain `write` stops the whole service. Lines are therefore gathered and
handed to the kernel once per loop iteration, in pieces that the kernel has said it can take: after
`poll` reports a pipe, socket or terminal writable, a write of up to PIPE_BUF octets does not block
(pipe(7); the socket case leaves three quarters of the send buffer free). The descriptor is not made
non-blocking, since that would change it for every process that shares it.

When the reader stalls, up to `octets_max` octets of lines wait and are tried again every
`RETRY_SECONDS`; what comes on top is dropped, counted, and reported once the reader is back. When
the reader is gone (EPIPE) everything is dropped and counted. Without a running loop (start-up, the
last words, other threads) a line is written at once, waiting at most `PATIENCE_SECONDS`.

Known weakness: another process that writes to the same pipe between `poll` and `write` can make
that one write wait. Lines must be ASCII, so that characters are octets.
"""

import asyncio
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

OCTETS_MAX = 1024 * 1024
"""Octets of lines that wait for a stalled reader: about 4000 events."""

# The retry costs one poll; at this pace a pipe of 64 KiB still carries 3 MB/s.
RETRY_SECONDS = 0.02
PATIENCE_SECONDS = 1.0
# One page is what Linux guarantees to accept after POLLOUT (PIPE_BUF).
_PIECE_OCTETS = 4096


class LineWriter:
    """A bounded, thread-safe buffer of lines in front of one file descriptor.

    `on_recovered` is called with the number of lines lost when the buffer has drained after a
    loss; it may write.
    """

    def __init__(self, fd: int, *, octets_max: int = OCTETS_MAX) -> None:
        self.on_recovered: Callable[[int], None] | None = None
        self.dropped_total = 0
        self._fd = fd
        self._octets_max = octets_max
        self._lines: deque[bytes] = deque()
        self._octets = 0
        # `_lock` guards the buffer and is never held across I/O; `_writing` is held by the one
        # thread that writes, which may be waiting, so the event loop only ever tries it.
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._scheduled_on: asyncio.AbstractEventLoop | None = None
        self._reported = 0
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, line: str) -> None:
        """Take one ASCII line that ends in a newline; never raises."""
        data = line.encode("ascii", "backslashreplace")
        with self._lock:
            if self._octets + len(data) > self._octets_max:
                self.dropped_total += 1
                return
            self._lines.append(data)
            self._octets += len(data)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush(PATIENCE_SECONDS)
            return
        if self._scheduled_on is not loop:
            self._scheduled_on = loop
            loop.call_soon(self._flush_on, loop)

    def flush(self, timeout: float = PATIENCE_SECONDS) -> bool:
        """Write what waits, for at most `timeout` seconds; say whether nothing is left."""
        deadline = time.monotonic() + timeout
        if not self._writing.acquire(timeout=timeout):
            return False
        try:
            dropped_before = self.dropped_total
            is_empty = self._drain(deadline)
            is_gone = self.dropped_total != dropped_before
            lost = self.dropped_total - self._reported
            if is_empty and not is_gone:
                self._reported = self.dropped_total
        finally:
            self._writing.release()
        if is_empty and not is_gone and lost and self.on_recovered is not None:
            self.on_recovered(lost)
        return is_empty

    def _flush_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled_on = None
        if not self.flush(0.0):
            self._scheduled_on = loop
            loop.call_later(RETRY_SECONDS, self._flush_on, loop)

    def _drain(self, deadline: float) -> bool:
        """Write pieces until all is out (True) or the reader has stalled past `deadline`."""
        while piece := self._take_piece():
            patience = max(0.0, deadline - time.monotonic())
            if not self._poll.poll(patience * 1000):
                self._put_back(piece)
                return False
            try:
                written = os.write(self._fd, piece)
            except BlockingIOError:  # somebody else made the descriptor non-blocking
                self._put_back(piece)
                return False
            except OSError:
                self._drop(piece)
                return True
            if written < len(piece):
                self._put_back(piece[written:])
        return True

    def _take_piece(self) -> bytes:
        """Take as many lines as fit one piece, or a part of a line that alone does not."""
        with self._lock:
            size = 0
            parts: list[bytes] = []
            while self._lines and size < _PIECE_OCTETS:
                line = self._lines.popleft()
                parts.append(line[: _PIECE_OCTETS - size])
                size += len(parts[-1])
                if len(parts[-1]) < len(line):
                    self._lines.appendleft(line[len(parts[-1]) :])
            self._octets -= size
            return b"".join(parts)

    def _put_back(self, piece: bytes) -> None:
        with self._lock:
            self._lines.appendleft(piece)
            self._octets += len(piece)

    def _drop(self, piece: bytes) -> None:
        """The reader is gone: count and forget."""
        with self._lock:
            waiting = b"".join(self._lines)
            self._lines.clear()
            self._octets = 0
            self.dropped_total += piece.count(b"\n") + waiting.count(b"\n")
