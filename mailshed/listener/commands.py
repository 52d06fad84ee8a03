"""The commands of a mail transaction up to its mail data, and those that are about nothing.

Each command is a function of the session and of what follows the verb; it answers once, in words of
`mailshed.mail.reply`. Here they are looked at for syntax and sequence (RFC 5321, 4.1.4); what they
may not contain is known to `transaction`, and who may send where to the `MailHandler`.

A command answers at once, or tells the session what to wait for: MAIL and RCPT do when the handler
has to find out first, or wants mail to come more slowly. What came before is answered then, and
what comes after waits.

Commands of extensions are in modules of their own, see `extensions`.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from mailshed.listener import auth, extensions, reception, starttls
from mailshed.mail import reply
from mailshed.mail.envelope import Recipient
from mailshed.mail.reply import Reply
from mailshed.terms import Stage

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession


def helo(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 4.1.1.1."""
    if _greet(session, "helo", argument, is_extended=False):
        session.answer("helo", reply.make(250, session.hostname))


def ehlo(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 4.1.1.1."""
    if _greet(session, "ehlo", argument, is_extended=True):
        session.answer("ehlo", extensions.offer(session))


def _greet(session: "SmtpSession", verb: str, argument: bytes, *, is_extended: bool) -> bool:
    session.count_idle_command()
    hostname = argument.decode("ascii", "surrogateescape")
    if not hostname or not hostname.isascii() or not hostname.isprintable() or " " in hostname:
        session.answer(verb, reply.make(501, f"5.5.4 Syntax: {verb.upper()} hostname"))
        return False
    session.forget_transaction()
    assert session.session is not None
    session.session.extended_smtp = is_extended
    session.has_utf8 = is_extended and session.handler.is_offered_behind("SMTPUTF8")
    session.session.host_name = hostname
    return True


def mail(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 4.1.1.2."""
    assert session.session is not None
    if not session.session.host_name:
        session.answer("mail", reply.HELO_FIRST)
    elif session.envelope.mail is not None:
        session.answer("mail", reply.NESTED_MAIL)
    elif refused := starttls.refusal(session) or auth.refusal_of_mail(session):
        session.answer("mail", refused)
    elif session.is_stopping:
        session.end(reply.SHUTTING_DOWN)
    else:
        begun = session.envelope.begin(
            argument,
            session.limits,
            session.loop.time(),
            is_trusted=session.client.is_trusted,
            has_utf8=session.has_utf8,
        )
        if not begun.is_success:
            session.handler.rejected(session, Stage.MAIL, argument, begun)
        elif refused := auth.refusal_of_sender(session, argument):
            begun = refused
            session.forget_transaction()
        elif rest := session.handler.mail(session):
            session.wait_for(rest, lambda _: session.answer("mail", begun))
            return
        session.answer("mail", begun)


def rcpt(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 4.1.1.3."""
    if session.envelope.mail is None:
        session.answer("rcpt", reply.MAIL_FIRST)
        return
    if session.envelope.reception is not None:
        session.answer("rcpt", reply.CHUNKS_BEFORE)
        return
    read = session.envelope.read_recipient(argument, session.limits)
    session.was_asked = not isinstance(read, Reply)
    if isinstance(read, Reply):
        if read is not reply.TOO_MANY_RECIPIENTS or session.envelope.recipients_excess == 1:
            session.handler.rejected(session, Stage.RCPT, argument, read)
        session.answer("rcpt", read)
        return
    found = session.handler.recipient(session, read.mailbox)
    if found is None or isinstance(found, Reply):
        _answer_rcpt(session, read, found)
    else:
        began = session.loop.time()
        session.wait_for(found, partial(_answer_rcpt, session, read, began=began))


def _answer_rcpt(
    session: "SmtpSession", read: Recipient, refused: Reply | None, *, began: float | None = None
) -> None:
    """Take the recipient or not; `began` is when its answer was asked for, if that took time."""
    if began is not None:
        session.envelope.waited += session.loop.time() - began
    answer = session.envelope.add(read, refused)
    if answer.code == 421:
        session.end(answer, "rcpt")
    else:
        session.answer("rcpt", answer)


def data(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 4.1.1.4."""
    if argument:
        session.answer("data", reply.NO_PARAMETERS)
    elif session.envelope.mail is None:
        session.answer("data", reply.MAIL_FIRST)
    elif session.envelope.reception is not None:
        session.answer("data", reply.CHUNKS_BEFORE)
    elif not session.envelope.recipients:
        session.answer("data", reply.NO_VALID_RECIPIENTS)
    else:
        session.answer("data", reply.START_INPUT)
        reception.begin(session)
        session.take_with(reception.take_data)


def rset(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 4.1.1.5."""
    session.count_idle_command()
    if argument:
        session.answer("rset", reply.NO_PARAMETERS)
    else:
        session.forget_transaction()
        session.answer("rset", reply.OK)


def noop(session: "SmtpSession", argument: bytes) -> None:  # noqa: ARG001 - may be anything
    """RFC 5321, 4.1.1.9."""
    session.count_idle_command()
    session.answer("noop", reply.OK)


def vrfy(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 3.5.3: we do not tell."""
    session.count_idle_command()
    refusal = reply.CANNOT_VERIFY if argument else reply.make(501, "5.5.4 Syntax: VRFY")
    session.answer("vrfy", refusal)


def quit_(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 4.1.1.10."""
    if argument:
        session.answer("quit", reply.NO_PARAMETERS)
        return
    session.answer("quit", reply.BYE)
    session.hang_up()


COMMANDS: Mapping[bytes, extensions.Command] = {
    b"HELO": helo,
    b"EHLO": ehlo,
    b"MAIL": mail,
    b"RCPT": rcpt,
    b"DATA": data,
    b"RSET": rset,
    b"NOOP": noop,
    b"VRFY": vrfy,
    b"QUIT": quit_,
    **extensions.COMMANDS,
}
"""All commands by verb, in upper case, those of extensions too."""

NOT_IMPLEMENTED = frozenset({b"EXPN", b"HELP", b"ETRN", b"TURN"})
"""Commands that are known, and that nobody gets here."""

OF_HTTP = frozenset(
    {
        b"CONNECT",
        b"DELETE",
        b"GET",
        b"HEAD",
        b"OPTIONS",
        b"PATCH",
        b"POST",
        b"PRI",
        b"PUT",
        b"TRACE",
    }
)
"""Verbs of a browser. A web page can make one of our own network post commands here, which that
network's trust would then count for. So nothing behind a request is read (Postfix:
smtpd_forbidden_commands)."""
