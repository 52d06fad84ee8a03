"""Receiving one message, from the first octet of its mail data to the reply to its end.

DATA brings all of it at once, BDAT in chunks with other commands in between (RFC 3030). Either way
there is one `Reception`, which the transaction owns while it lasts. It ends once: by
`complete`, when the handler takes the content over; or by `abandon`, when no message comes of it:
since it was refused, or RSET came, or the session ended, in whatever way. Then its content is
closed, and the handler is told.

While mail data arrives, it is what the session takes from its input in place of commands: the
function for DATA is here, that for a chunk in `bdat`.
"""

from typing import TYPE_CHECKING

from mailshed.listener.deadlines import Phase
from mailshed.listener.mail_data import DataInterrupted, MailDataReceiver
from mailshed.mail import reply

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession
    from mailshed.mail.reply import Reply


class Reception:
    """The mail data of one message, under way."""

    __slots__ = ("content", "receiver")

    def __init__(self, session: "SmtpSession") -> None:
        self.content = session.handler.new_content(session)
        self.receiver = new_receiver(session)

    def abandon(self, session: "SmtpSession", answer: "Reply | None") -> None:
        """No message comes of it; `answer` is what the client was told last, if anything."""
        session.envelope.reception = None
        self.content.close()
        session.handler.discarded(session, self.receiver.octets, answer)

    def complete_if_ended(self, session: "SmtpSession") -> None:
        """Complete it if the end of data has come; what is behind it is for others to take."""
        rest = self.receiver.rest
        if rest is not None:
            session.reader.put_back(rest)
            self.complete(session)

    def complete(self, session: "SmtpSession") -> None:
        """The mail data is there, or was refused: see to the message, and answer."""
        session.take_commands()
        refusal = self.receiver.refusal
        if refusal is not None:
            self.abandon(session, refusal)
            session.end_transaction(refusal)
        else:
            session.envelope.reception = None
            session.hand_over(self.content)


def new_receiver(session: "SmtpSession") -> MailDataReceiver:
    """Make what takes the mail data of one message, within the limits of this session."""
    return MailDataReceiver(
        session.limits,
        is_normalising=session.client.address in session.limits.normalize_networks,
        now=session.loop.time,
    )


def begin(session: "SmtpSession") -> Reception:
    """Make a place for the mail data of the transaction under way."""
    reception = session.envelope.reception = Reception(session)
    return reception


def take_data(session: "SmtpSession") -> bool:
    """Take what has come up to the end of data, and answer that; False if more has to come."""
    reception = session.envelope.reception
    assert reception is not None
    block = session.reader.take_all()
    try:
        if not block:
            wait_for_more(session, reception.receiver)
            return False
        spill = reception.receiver.feed(reception.content, block)
    except DataInterrupted as interrupted:
        give_up(session, interrupted)
        return True
    if spill is not None:
        session.wait_for(spill, lambda _: reception.complete_if_ended(session))
    else:
        reception.complete_if_ended(session)
    return True


def wait_for_more(session: "SmtpSession", receiver: MailDataReceiver) -> None:
    """Set the deadline for the next block; raises DataInterrupted if it has dripped so far."""
    receiver.check_pace()
    session.expect_data(session.limits.data_timeout)


def give_up(session: "SmtpSession", interrupted: DataInterrupted) -> None:
    """End a session in the middle of mail data, which is abandoned with it."""
    if interrupted.last is reply.TOO_SLOW:
        session.handler.overdue(session, Phase.DATA)
    session.end(interrupted.last)
