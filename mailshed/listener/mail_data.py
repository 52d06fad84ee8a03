"""Receiving the mail data of one message: block by block, into its `Content`.

It comes after DATA, up to its end, or in chunks that are counted (RFC 3030), one or more. Every
bound on mail data is kept here, while it arrives: its size, its pace, bare line endings, and
the room there is for it. A message that is refused is still read to its end, because a client that
is sending does not listen; but not for ever.

Whoever reads feeds what has come and asks what is still missing. A block is dealt with at once,
unless it has to go to the disk: then what is returned is to be called and awaited, and nothing is
fed meanwhile.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from mailshed.config.policy import SessionLimits
from mailshed.errors import BudgetExceeded
from mailshed.listener.chunk_data import ChunkStuffer
from mailshed.listener.data import DataScanner, LineMeter
from mailshed.mail import reply
from mailshed.mail.content import Content
from mailshed.mail.reply import Reply

# Mail data beyond the size limit is read and thrown away, so that the client sees our 552, until
# it is this many times the limit; then the connection is closed.
OVERSIZE_FACTOR_MAX = 2


# Chunks may be of one octet each; they are put together before they cost an object each.
GATHERED_OCTETS = 16 * 1024

Spill = Callable[[], Awaitable[None]]
"""What is left to do for a block: call it, and await the result."""


class DataInterrupted(Exception):
    """There is no end of data, and the session is over; `last` is what to say."""

    def __init__(self, last: Reply) -> None:
        super().__init__(last)
        self.last = last


class MailDataReceiver:
    """Takes one message. All that is fed may raise DataInterrupted: it is too much, or too slow."""

    __slots__ = (
        *("_announced", "_gathered", "_is_normalising", "_lines", "_now", "_octets", "_scanner"),
        *("_started", "_stuffer", "limits", "refusal"),
    )

    def __init__(
        self, limits: SessionLimits, *, is_normalising: bool, now: Callable[[], float]
    ) -> None:
        self.limits = limits
        """May be replaced while the message arrives."""
        self._lines = LineMeter(limits.line_octets_max)
        self._is_normalising = is_normalising
        self._now = now
        self._started = now()
        self._octets = 0
        self._scanner = DataScanner(is_normalising=is_normalising)
        self._stuffer: ChunkStuffer | None = None
        self._announced = 0
        self._gathered = bytearray()
        self.refusal: Reply | None = None
        """Why there will be no message, whatever else comes of it."""

    @property
    def octets(self) -> int:
        """Octets of mail data that have arrived, those of a refused message too."""
        return self._octets

    # After DATA.

    @property
    def rest(self) -> bytes | None:
        """What came behind the end of data; None before that end."""
        return self._scanner.rest

    def feed(self, content: Content, block: bytes) -> Spill | None:
        """Take the next block, which may hold the end of data and more."""
        scanner = self._scanner
        spill = self._take(content, scanner.feed(block), is_clean=scanner.is_clean)
        if scanner.rest is not None:
            content.is_normalised = not scanner.is_clean
        elif self._octets > OVERSIZE_FACTOR_MAX * self.limits.message_size_max:
            raise DataInterrupted(reply.TOO_LARGE)
        return spill

    # In chunks.

    def begin_chunk(self, content: Content, octets: int) -> None:
        """A chunk of so many octets follows; one that makes too large a message is not kept."""
        self._announce(octets)
        self.check_pace()  # chunks that come whole, with long pauses, are never waited for
        if self._announced > self.limits.message_size_max:
            self._refuse(content, reply.TOO_LARGE)

    def feed_chunk(self, content: Content, block: bytes) -> Spill | None:
        """Take the next octets of the chunk."""
        if self.refusal is not None:
            self._octets += len(block)
            return None
        stuffer = self._chunk_stuffer
        return self._gather(content, stuffer.feed(block), is_clean=stuffer.is_clean)

    def end_chunks(self, content: Content) -> Spill | None:
        """The last chunk is complete."""
        if self.refusal is not None:
            return None
        stuffer = self._chunk_stuffer
        rest = stuffer.finish()
        content.is_normalised = not stuffer.is_clean
        return self._gather(content, rest, is_clean=stuffer.is_clean, is_last=True)

    def begin_drop(self, octets: int) -> None:
        """Octets follow that nobody wants; they are fed to `drop`."""
        self._announce(octets)

    def drop(self, block: bytes) -> None:
        """Forget the next octets."""
        self._octets += len(block)

    @property
    def _chunk_stuffer(self) -> ChunkStuffer:
        if self._stuffer is None:
            self._stuffer = ChunkStuffer(is_normalising=self._is_normalising)
        return self._stuffer

    def _announce(self, octets: int) -> None:
        """Count what is to come; the session ends where that is beyond all bounds."""
        self._announced += octets
        if self._announced > OVERSIZE_FACTOR_MAX * self.limits.message_size_max:
            raise DataInterrupted(reply.TOO_LARGE)

    def _gather(
        self, content: Content, piece: bytes, *, is_clean: bool, is_last: bool = False
    ) -> Spill | None:
        gathered = self._gathered
        gathered += piece
        is_refused = not (is_clean or self._is_normalising)
        if not (is_last or is_refused or len(gathered) >= GATHERED_OCTETS):
            return None
        joined = bytes(gathered)
        gathered.clear()
        return self._take(content, joined, is_clean=is_clean)

    # Both.

    def check_pace(self) -> None:
        """To be called before more is waited for: raises if data has dripped so far."""
        age, limits = self._now() - self._started, self.limits
        octets = self._octets + len(self._gathered)
        if age > limits.data_rate_grace and octets < limits.data_rate_min * age:
            raise DataInterrupted(reply.TOO_SLOW)

    def _take(self, content: Content, piece: bytes, *, is_clean: bool) -> Spill | None:
        """Keep a piece of mail data, unless there is something against the message."""
        self._octets += len(piece)
        if self.refusal is not None:
            return None
        self._lines.feed(piece)
        flaw = self._flaw(is_clean=is_clean)
        if flaw is not None:
            self._refuse(content, flaw)
        elif piece and not content.write(piece):
            return partial(self._spill, content, piece)
        return None

    def _flaw(self, *, is_clean: bool) -> Reply | None:
        if self._octets > self.limits.message_size_max:
            return reply.TOO_LARGE
        if self._lines.is_exceeded:
            return reply.LINE_OF_DATA_TOO_LONG
        if not (is_clean or self._is_normalising):
            return reply.BARE_LINE_ENDING
        return None

    async def _spill(self, content: Content, piece: bytes) -> None:
        try:
            await content.spill(piece)
        except BudgetExceeded:
            self._refuse(content, reply.NO_ROOM_FOR_CONTENT)

    def _refuse(self, content: Content, refusal: Reply) -> None:
        if self.refusal is None:
            self.refusal = refusal
            content.close()
