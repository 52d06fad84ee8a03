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


async def run(session: "SmtpSession", argument: bytes) -> None:
    """Read one chunk, and answer it."""
    chunk = parse(argument)
    if chunk is None:
        session.end(reply.BAD_CHUNK, "bdat")
        return
    if session.reader.buffered < chunk.octets:
        await session.flush()  # the client may want to know of its recipients before it sends it
    refusal = _out_of_order(session)
    try:
        if refusal is None:
            await _take(session, chunk)
        else:
            await reception.new_receiver(session).drop(chunk.octets)
            session.answer("bdat", refusal)
    except DataInterrupted as interrupted:
        reception.give_up(session, interrupted)


def _out_of_order(session: "SmtpSession") -> Reply | None:
    """Why there cannot be mail data now."""
    envelope = session.envelope
    if envelope.mail is None:
        return reply.MAIL_FIRST
    return None if envelope.recipients else reply.NO_VALID_RECIPIENTS


async def _take(session: "SmtpSession", chunk: Chunk) -> None:
    under_way = session.envelope.reception or reception.begin(session)
    receiver = under_way.receiver
    await receiver.receive_chunk(under_way.content, chunk.octets, is_last=chunk.is_last)
    if chunk.is_last:
        await under_way.complete(session)
        return
    if not chunk.octets:
        session.count_idle_command()
    session.answer("bdat", receiver.refusal or reply.chunk_received(chunk.octets))
