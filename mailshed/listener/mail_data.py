"""Receiving the mail data of one message: from the session's reader into its `Content`.

It comes after DATA, up to its end, or in chunks that are counted (RFC 3030), one or more. Every
bound on mail data is kept here, while it arrives: its size, its pace, bare line endings, and
the room there is for it. A message that is refused is still read to its end, because a client that
is sending does not listen; but not for ever.
"""

from collections.abc import AsyncIterator, Callable

from mailshed.config.policy import SessionLimits
from mailshed.errors import BudgetExceeded
from mailshed.listener.chunk_data import ChunkStuffer
from mailshed.listener.data import DataScanner, LineMeter
from mailshed.listener.reader import WireReader
from mailshed.mail import reply
from mailshed.mail.content import Content
from mailshed.mail.reply import Reply

# Mail data beyond the size limit is read and thrown away, so that the client sees our 552, until
# it is this many times the limit; then the connection is closed.
OVERSIZE_FACTOR_MAX = 2


# Chunks may be of one octet each; they are put together before they cost an object each.
GATHERED_OCTETS = 16 * 1024


class DataInterrupted(Exception):
    """There was no end of data, and the session is over; `last` is what to say, if anything."""

    def __init__(self, last: Reply | None) -> None:
        super().__init__(last)
        self.last = last


class MailDataReceiver:
    """Reads one message. `expect_within` moves the session's deadline, in seconds from now."""

    def __init__(
        self,
        reader: WireReader,
        limits: SessionLimits,
        *,
        is_normalising: bool,
        now: Callable[[], float],
        expect_within: Callable[[float], None],
    ) -> None:
        self._reader = reader
        self.limits = limits
        """May be replaced while the message arrives."""
        self._lines = LineMeter(limits.line_octets_max)
        self._is_normalising = is_normalising
        self._now = now
        self._expect_within = expect_within
        self._started = now()
        self._octets = 0
        self._stuffer: ChunkStuffer | None = None
        self._announced = 0
        self._gathered = bytearray()
        self.refusal: Reply | None = None
        """Why there will be no message, whatever else comes of it."""

    @property
    def octets(self) -> int:
        """Octets of mail data that have arrived, those of a refused message too."""
        return self._octets

    async def receive(self, content: Content) -> Reply | None:
        """Read up to the end of data into `content`; a reply refuses the message.

        Raises DataInterrupted if the client leaves, drips, or sends without end.
        """
        reader = self._reader
        scanner = DataScanner(is_normalising=self._is_normalising)
        octets_max = OVERSIZE_FACTOR_MAX * self.limits.message_size_max
        while scanner.rest is None:
            block = reader.take_all()
            if not block:
                self._expect_data()
                if not await reader.more():
                    raise DataInterrupted(None)
                continue
            await self._take(content, scanner.feed(block), is_clean=scanner.is_clean)
            if self._octets > octets_max and scanner.rest is None:
                raise DataInterrupted(reply.TOO_LARGE)
        reader.put_back(scanner.rest)
        content.is_normalised = not scanner.is_clean
        return self.refusal

    async def receive_chunk(
        self, content: Content, octets: int, *, is_last: bool = False
    ) -> Reply | None:
        """Read a chunk of so many octets into `content`; a reply refuses the message.

        One that makes the message too large is read, and not looked at. Raises as `receive` does.
        """
        self._announce(octets)
        self._check_pace()  # chunks that come whole, with long pauses, are never waited for
        if self._announced > self.limits.message_size_max:
            self._refuse(content, reply.TOO_LARGE)
        if self._stuffer is None:
            self._stuffer = ChunkStuffer(is_normalising=self._is_normalising)
        stuffer = self._stuffer
        async for block in self._blocks(octets):
            if self.refusal is None:
                await self._gather(content, stuffer.feed(block), is_clean=stuffer.is_clean)
            else:
                self._octets += len(block)
        if is_last and self.refusal is None:
            rest = stuffer.finish()
            await self._gather(content, rest, is_clean=stuffer.is_clean, is_last=True)
            content.is_normalised = not stuffer.is_clean
        return self.refusal

    async def drop(self, octets: int) -> None:
        """Read so many octets and forget them; raises as `receive` does."""
        self._announce(octets)
        async for block in self._blocks(octets):
            self._octets += len(block)

    def _announce(self, octets: int) -> None:
        """Count what is to come; the session ends where that is beyond all bounds."""
        self._announced += octets
        if self._announced > OVERSIZE_FACTOR_MAX * self.limits.message_size_max:
            raise DataInterrupted(reply.TOO_LARGE)

    async def _blocks(self, octets: int) -> AsyncIterator[bytes]:
        """The next so many octets as they arrive, and not one more."""
        reader = self._reader
        while octets:
            block = reader.take(octets)
            octets -= len(block)
            if block:
                yield block
            else:
                self._expect_data()
                if not await reader.more():
                    raise DataInterrupted(None)

    async def _gather(
        self, content: Content, piece: bytes, *, is_clean: bool, is_last: bool = False
    ) -> None:
        gathered = self._gathered
        gathered += piece
        is_refused = not (is_clean or self._is_normalising)
        if is_last or is_refused or len(gathered) >= GATHERED_OCTETS:
            joined = bytes(gathered)
            gathered.clear()
            await self._take(content, joined, is_clean=is_clean)

    async def _take(self, content: Content, piece: bytes, *, is_clean: bool) -> None:
        """Keep a piece of mail data, unless there is something against the message."""
        self._octets += len(piece)
        if self.refusal is None:
            self._lines.feed(piece)
            refusal = self._flaw(is_clean=is_clean) or await self._keep(content, piece)
            if refusal is not None:
                self._refuse(content, refusal)

    def _refuse(self, content: Content, refusal: Reply) -> None:
        if self.refusal is None:
            self.refusal = refusal
            content.close()

    def _flaw(self, *, is_clean: bool) -> Reply | None:
        if self._octets > self.limits.message_size_max:
            return reply.TOO_LARGE
        if self._lines.is_exceeded:
            return reply.LINE_OF_DATA_TOO_LONG
        if not (is_clean or self._is_normalising):
            return reply.BARE_LINE_ENDING
        return None

    async def _keep(self, content: Content, piece: bytes) -> Reply | None:
        if piece and not content.write(piece):
            try:
                await content.spill(piece)
            except BudgetExceeded:
                return reply.NO_ROOM_FOR_CONTENT
            self._expect_within(self.limits.data_timeout)  # perhaps it was the disk that was slow
        return None

    def _expect_data(self) -> None:
        """Set the deadline for the next block, unless data has dripped too slowly so far."""
        self._check_pace()
        self._expect_within(self.limits.data_timeout)

    def _check_pace(self) -> None:
        age, limits = self._now() - self._started, self.limits
        octets = self._octets + len(self._gathered)
        if age > limits.data_rate_grace and octets < limits.data_rate_min * age:
            raise DataInterrupted(reply.TOO_SLOW)
