"""What a client has sent and nobody has taken yet: octets in, lines and blocks out, no waiting.

The session feeds it from `data_received` and takes what it can use at once: a line if a whole one
is there, all there is, or so many octets. What was read too far is put back. Usually one segment is
one line and is taken before the next one comes, so what arrives is kept as it came and taken in
slices; only what is left over is ever copied.

While the session works, or its replies are not read, nobody takes anything. Then it is the
session's to call `hold_back`, and from `2 * BUFFER_LIMIT` octets on the client is not read any
further, until no more than `BUFFER_LIMIT` are left. One event of the transport may deliver up to
256 KiB beyond that.
"""

import asyncio

# Octets; see above. As asyncio's streams do, reading goes on well below where it stopped.
BUFFER_LIMIT = 64 * 1024


class InputBuffer:
    """The input of one session, in order."""

    __slots__ = ("_data", "_is_held_back", "_start", "is_eof_seen", "transport")

    def __init__(self) -> None:
        self._data = b""
        self._start = 0  # of what was not taken
        self._is_held_back = False
        self.transport: asyncio.Transport | None = None
        """Where it comes from."""
        self.is_eof_seen = False
        """Whether the client has closed its side; there may still be data to take."""

    @property
    def buffered(self) -> int:
        """Octets that have arrived and were not taken."""
        return len(self._data) - self._start

    @property
    def ends_with_quit(self) -> bool:
        """Whether the last thing the client sent, as far as it has arrived, is QUIT."""
        return self._data[max(self._start, len(self._data) - 6) :].upper() == b"QUIT\r\n"

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        rest = self._data
        if rest:
            data = rest[self._start :] + data
            self._start = 0
        self._data = data

    def take_line(self) -> bytes | None:
        """Take one line with its LF, or None if no whole line is there."""
        data, start = self._data, self._start
        if not data:
            return None
        end = data.find(b"\n", start) + 1
        if not end:
            if start:  # half a line shall not keep the segment that it came with
                self._data, self._start = data[start:], 0
            return None
        self._take_up_to(end)
        return data[start:end]

    def take_all(self) -> bytes:
        """Take everything that is there, perhaps nothing."""
        block = self._data[self._start :]
        self._take_up_to(len(self._data))
        return block

    def take(self, octets: int) -> bytes:
        """Take as many of the next octets as are there, perhaps none, but no more than that."""
        start = self._start
        block = self._data[start : start + octets]
        self._take_up_to(start + len(block))
        return block

    def put_back(self, data: bytes) -> None:
        """Let `data` be read again, before anything else."""
        if data:
            self._data = data + self._data[self._start :]
            self._start = 0

    def hold_back(self) -> None:
        """Read no further if so much is there that nobody has taken."""
        if not self._is_held_back and self.buffered > 2 * BUFFER_LIMIT:
            self._is_held_back = True
            if self.transport is not None and not self.transport.is_closing():
                self.transport.pause_reading()

    def _take_up_to(self, end: int) -> None:
        if end == len(self._data):
            self._data, self._start = b"", 0
        else:
            self._start = end
        if self._is_held_back and self.buffered <= BUFFER_LIMIT:
            self._is_held_back = False
            if self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()
