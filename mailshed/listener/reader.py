"""The input side of a session: asyncio's stream reader with four bounded, synchronous looks.

aiosmtpd reads through `asyncio.StreamReader`, whose `readuntil` costs a coroutine per line and can
stall for long on hostile input. This subclass keeps its interface and its flow control, which
aiosmtpd's inherited commands rely on, and adds: take a line if one is there, take all or so many
octets of what is there, and put back what was read too far. It touches four attributes that asyncio
names as private and that have been the same since Python 3.4; a unit test compares them with the
running version.
"""

import asyncio

# Reading from the client pauses at twice this. One event of the transport may still deliver up to
# 256 KiB at once.
BUFFER_LIMIT = 64 * 1024


class WireReader(asyncio.StreamReader):
    """A stream reader that can look without waiting and can put back."""

    _buffer: bytearray
    _eof: bool

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=BUFFER_LIMIT, loop=loop)

    @property
    def buffered(self) -> int:
        """Octets that have arrived and were not taken."""
        return len(self._buffer)

    @property
    def is_eof_seen(self) -> bool:
        """Whether the client has closed its side; there may still be data to take."""
        return self._eof

    @property
    def ends_with_quit(self) -> bool:
        """Whether the last thing the client sent, as far as it has arrived, is QUIT."""
        return self._buffer[-6:].upper() == b"QUIT\r\n"

    def take_line(self) -> bytes | None:
        """Take one line with its LF, or None if no whole line is there."""
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._maybe_resume_transport()  # type: ignore[attr-defined]
        return line

    def take_all(self) -> bytes:
        """Take everything that is there, perhaps nothing."""
        block = bytes(self._buffer)
        self._buffer.clear()
        self._maybe_resume_transport()  # type: ignore[attr-defined]
        return block

    def take(self, octets: int) -> bytes:
        """Take as many of the next octets as are there, perhaps none, but no more than that."""
        block = bytes(self._buffer[:octets])
        del self._buffer[:octets]
        self._maybe_resume_transport()  # type: ignore[attr-defined]
        return block

    def put_back(self, data: bytes) -> None:
        """Let `data` be read again, before anything else."""
        if data:
            self._buffer[:0] = data

    async def more(self) -> bool:
        """Wait until something new has arrived; False if nothing will, for the client has ended.

        Raises what broke the connection, as the reader's own methods do.
        """
        if (error := self.exception()) is not None:
            raise error
        if self._eof:
            return False
        await self._wait_for_data("more")  # type: ignore[attr-defined]
        return True
