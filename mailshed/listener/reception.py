"""Receiving one message, from the first octet of its mail data to the reply to its end.

DATA brings all of it at once, BDAT in chunks with other commands in between (RFC 3030). Either way
there is one `Reception`, which the transaction owns while it lasts. It ends once: by
`complete`, when the handler takes the content over; or by `abandon`, when no message comes of it:
since it was refused, or RSET came, or the session ended, in whatever way. Then its content is
closed, and the handler is told.
"""

from typing import TYPE_CHECKING

from mailshed.listener.deadlines import Phase
from mailshed.listener.mail_data import DataInterrupted, MailDataReceiver
from mailshed.mail import reply
from mailshed.mail.reply import Reply

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession


class Reception:
    """The mail data of one message, under way."""

    __slots__ = ("content", "receiver")

    def __init__(self, session: "SmtpSession") -> None:
        self.content = session.handler.new_content(session)
        self.receiver = new_receiver(session)

    def abandon(self, session: "SmtpSession", answer: Reply | None) -> None:
        """No message comes of it; `answer` is what the client was told last, if anything."""
        session.envelope.reception = None
        self.content.close()
        session.handler.discarded(session, self.receiver.octets, answer)

    async def complete(self, session: "SmtpSession") -> None:
        """The mail data is there, or was refused: see to the message, and answer."""
        answer = self.receiver.refusal
        if answer is not None:
            self.abandon(session, answer)
        else:
            session.envelope.reception = None
            answer = await _handed_over(session, self)
        session.end_transaction(answer)


def new_receiver(session: "SmtpSession") -> MailDataReceiver:
    """Make what reads the mail data of one message, within the limits of this session."""
    return MailDataReceiver(
        session.reader,
        session.limits,
        is_normalising=session.client.address in session.limits.normalize_networks,
        now=session.loop.time,
        expect_within=session.expect_data,
    )


def begin(session: "SmtpSession") -> Reception:
    """Make a place for the mail data of the transaction under way."""
    reception = session.envelope.reception = Reception(session)
    return reception


async def take_data(session: "SmtpSession") -> None:
    """Receive everything up to the end of data, and answer."""
    reception = begin(session)
    try:
        await reception.receiver.receive(reception.content)
    except DataInterrupted as interrupted:
        give_up(session, interrupted)
    else:
        await reception.complete(session)


def give_up(session: "SmtpSession", interrupted: DataInterrupted) -> None:
    """End a session in the middle of mail data; what was received is abandoned at its very end."""
    if interrupted.last is reply.TOO_SLOW:
        session.handler.overdue(session, Phase.DATA)
    session.hang_up(interrupted.last)


async def _handed_over(session: "SmtpSession", reception: Reception) -> Reply | None:
    session.timer.is_paused = True
    try:
        return await session.handler.content(session, reception.content)
    finally:
        session.timer.is_paused = False
