"""Receiving the mail data of one message: from the session's reader into its `Content`.

Every bound on mail data is kept here, while it arrives: its size, its pace, bare line endings, and
the room there is for it. A message that is refused is still read to its end, because a client that
is sending does not listen; but not for ever.
"""

from collections.abc import Callable

from mailshed.config.policy import SessionLimits
from mailshed.errors import BudgetExceeded
from mailshed.listener.data import DataScanner
from mailshed.listener.reader import WireReader
from mailshed.mail import reply
from mailshed.mail.content import Content
from mailshed.mail.reply import Reply

# Mail data beyond the size limit is read and thrown away, so that the client sees our 552, until
# it is this many times the limit; then the connection is closed.
OVERSIZE_FACTOR_MAX = 2

# The minimum data rate counts from here on; before it, slow start and short messages are excused.
DATA_RATE_GRACE = 60.0


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
        self._limits = limits
        self._is_normalising = is_normalising
        self._now = now
        self._expect_within = expect_within
        self._scanner = DataScanner(is_normalising=is_normalising)
        self._started = now()
        self._octets = 0

    @property
    def octets(self) -> int:
        """Octets of mail data that have arrived, those of a refused message too."""
        return self._octets

    async def receive(self, content: Content) -> Reply | None:
        """Read up to the end of data into `content`; a reply refuses the message.

        Raises DataInterrupted if the client leaves, drips, or sends without end.
        """
        scanner, reader = self._scanner, self._reader
        octets_max = OVERSIZE_FACTOR_MAX * self._limits.message_size_max
        refusal: Reply | None = None
        while scanner.rest is None:
            block = reader.take_all()
            if not block:
                self._expect_data()
                if not await reader.more():
                    raise DataInterrupted(None)
                continue
            piece = scanner.feed(block)
            self._octets += len(piece)
            if refusal is None:
                refusal = self._flaw() or await self._keep(content, piece)
                if refusal is not None:
                    content.close()
            if self._octets > octets_max and scanner.rest is None:
                raise DataInterrupted(reply.TOO_LARGE)
        reader.put_back(scanner.rest)
        content.is_normalised = not scanner.is_clean
        return refusal

    def _flaw(self) -> Reply | None:
        if self._octets > self._limits.message_size_max:
            return reply.TOO_LARGE
        if not self._scanner.is_clean and not self._is_normalising:
            return reply.BARE_LINE_ENDING
        return None

    async def _keep(self, content: Content, piece: bytes) -> Reply | None:
        if piece and not content.write(piece):
            try:
                await content.spill(piece)
            except BudgetExceeded:
                return reply.NO_ROOM_FOR_CONTENT
            self._expect_within(self._limits.data_timeout)  # perhaps it was the disk that was slow
        return None

    def _expect_data(self) -> None:
        """Set the deadline for the next block, unless data has dripped too slowly so far."""
        age = self._now() - self._started
        if age > DATA_RATE_GRACE and self._octets < self._limits.data_rate_min * age:
            raise DataInterrupted(reply.TOO_SLOW)
        self._expect_within(self._limits.data_timeout)
