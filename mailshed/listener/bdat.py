"""The command BDAT: mail data in chunks that are counted (RFC 3030).

`BDAT octets [LAST]` is followed by so many octets of the message, and then by the next command. So
every BDAT has its octets read, whatever becomes of it: a client that pipelines has sent them, and
left in the stream they would be commands, which is how a message becomes two. They are read and
dropped where there is no transaction, where no recipient was accepted, and after a chunk of the
same message was refused. Only where it is not clear how many octets follow, or where they are
beyond all bounds, the session ends: nobody knows any more where a command begins.

Chunks and DATA do not mix in one transaction. RSET and EHLO forget the chunks so far. A chunk that
is refused, be it not the last, refuses the message: all further chunks hear the same, until LAST or
RSET. Mail data is judged as after DATA, `chunk_data` says how.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailshed.listener import reception
from mailshed.listener.mail_data import DataInterrupted
from mailshed.mail import reply
from mailshed.mail.reply import Reply

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession

# RFC 1870 has as many digits for the size of a whole message.
_ARGUMENT = re.compile(rb"([0-9]{1,20})(?:[ \t]+(LAST))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What BDAT announces."""

    octets: int
    is_last: bool


def parse(argument: bytes) -> Chunk | None:
    """Read what follows the verb; None if it is not clear how many octets come."""
    match = _ARGUMENT.fullmatch(argument)
    return None if match is None else Chunk(int(match[1]), is_last=match[2] is not None)


def run(session: "SmtpSession", argument: bytes) -> None:
    """Begin to take one chunk."""
    chunk = parse(argument)
    if chunk is None:
        session.end(reply.BAD_CHUNK, "bdat")
        return
    refusal = _out_of_order(session)
    try:
        session.take_with(
            _Wanted(session, chunk) if refusal is None else _Unwanted(session, chunk, refusal)
        )
    except DataInterrupted as interrupted:
        reception.give_up(session, interrupted)


def _out_of_order(session: "SmtpSession") -> Reply | None:
    """Why there cannot be mail data now."""
    envelope = session.envelope
    if envelope.mail is None:
        return reply.MAIL_FIRST
    return None if envelope.recipients else reply.NO_VALID_RECIPIENTS


class _Wanted:
    """Takes the octets of a chunk that belongs to the transaction, and answers."""

    __slots__ = ("_chunk", "_is_ended", "_left")

    def __init__(self, session: "SmtpSession", chunk: Chunk) -> None:
        under_way = session.envelope.reception or reception.begin(session)
        under_way.receiver.begin_chunk(under_way.content, chunk.octets)
        self._chunk = chunk
        self._left = chunk.octets
        self._is_ended = not chunk.is_last

    def __call__(self, session: "SmtpSession") -> bool:
        under_way = session.envelope.reception
        assert under_way is not None
        receiver, content = under_way.receiver, under_way.content
        try:
            if self._left:
                block = session.reader.take(self._left)
                if not block:
                    reception.wait_for_more(session, receiver)
                    return False
                self._left -= len(block)
                spill = receiver.feed_chunk(content, block)
            elif not self._is_ended:
                self._is_ended = True
                spill = receiver.end_chunks(content)
            else:
                self._finish(session, under_way)
                return True
        except DataInterrupted as interrupted:
            reception.give_up(session, interrupted)
            return True
        if spill is not None:
            session.wait_for(spill)
        return True

    def _finish(self, session: "SmtpSession", under_way: reception.Reception) -> None:
        if self._chunk.is_last:
            under_way.complete(session)
            return
        octets = self._chunk.octets
        session.take_commands()
        if not octets:
            session.count_idle_command()
        session.answer("bdat", under_way.receiver.refusal or reply.chunk_received(octets))


class _Unwanted:
    """Drops the octets of a chunk that is refused, and answers."""

    __slots__ = ("_left", "_receiver", "_refusal")

    def __init__(self, session: "SmtpSession", chunk: Chunk, refusal: Reply) -> None:
        self._receiver = reception.new_receiver(session)
        self._receiver.begin_drop(chunk.octets)
        self._left = chunk.octets
        self._refusal = refusal

    def __call__(self, session: "SmtpSession") -> bool:
        block = session.reader.take(self._left)
        self._left -= len(block)
        self._receiver.drop(block)
        if not self._left:
            session.take_commands()
            session.answer("bdat", self._refusal)
            return True
        try:
            reception.wait_for_more(session, self._receiver)
        except DataInterrupted as interrupted:
            reception.give_up(session, interrupted)
            return True
        return False
