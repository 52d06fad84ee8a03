"""The commands of a mail transaction up to its mail data, and those that are about nothing.

Each command is a function of the session and of what follows the verb; it answers once, in words of
`mailshed.mail.reply`. Here they are looked at for syntax and sequence (RFC 5321, 4.1.4); what they
may not contain is known to `transaction`, and who may send where to the `MailHandler`.

MAIL and RCPT wait when the handler has to find out first, or wants mail to come more slowly: what
came before is answered then, and what comes after waits.

Commands of extensions are in modules of their own, see `extensions`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from mailshed.listener import auth, extensions, reception, starttls
from mailshed.listener.interface import Later
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.mail.reply import Reply
from mailshed.terms import Stage

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession


async def helo(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 4.1.1.1."""
    if _greet(session, "helo", argument, is_extended=False):
        session.answer("helo", reply.make(250, session.hostname))


async def ehlo(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 4.1.1.1."""
    if _greet(session, "ehlo", argument, is_extended=True):
        session.answer("ehlo", reply.make(250, session.hostname, *extensions.keywords(session)))


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


async def mail(session: "SmtpSession", argument: bytes) -> None:
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
            await session.busy(rest)
        session.answer("mail", begun)


async def rcpt(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 4.1.1.3."""
    if session.envelope.mail is None:
        session.answer("rcpt", reply.MAIL_FIRST)
        return
    if session.envelope.reception is not None:
        session.answer("rcpt", reply.CHUNKS_BEFORE)
        return
    answer = _add_recipient(session, argument)
    if not isinstance(answer, Reply):
        answer = await _wait_for(session, answer)
    if answer.code == 421:
        session.end(answer, "rcpt")
    else:
        session.answer("rcpt", answer)


def _add_recipient(
    session: "SmtpSession", argument: bytes
) -> Reply | Callable[[], Awaitable[Reply]]:
    """Take a recipient, and tell the handler of a refusal that is not its own."""
    session.was_asked = False

    def refuse(mailbox: Mailbox) -> Reply | Later | None:
        session.was_asked = True
        return session.handler.recipient(session, mailbox)

    answer = session.envelope.add_recipient(argument, session.limits, refuse)
    is_repeated = answer is reply.TOO_MANY_RECIPIENTS and session.envelope.recipients_excess > 1
    if isinstance(answer, Reply) and not (answer.is_success or session.was_asked or is_repeated):
        session.handler.rejected(session, Stage.RCPT, argument, answer)
    return answer


async def _wait_for(session: "SmtpSession", later: Callable[[], Awaitable[Reply]]) -> Reply:
    """Wait for an answer, and note for how long."""
    await session.flush()
    began = session.loop.time()
    answer = await session.busy(later)
    session.envelope.waited += session.loop.time() - began
    return answer


async def data(session: "SmtpSession", argument: bytes) -> None:
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
        await session.flush()
        await reception.take_data(session)


async def rset(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 4.1.1.5."""
    session.count_idle_command()
    if argument:
        session.answer("rset", reply.NO_PARAMETERS)
    else:
        session.forget_transaction()
        session.answer("rset", reply.OK)


async def noop(session: "SmtpSession", argument: bytes) -> None:  # noqa: ARG001 - may be anything
    """RFC 5321, 4.1.1.9."""
    session.count_idle_command()
    session.answer("noop", reply.OK)


async def vrfy(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 3.5.3: we do not tell."""
    session.count_idle_command()
    refusal = reply.CANNOT_VERIFY if argument else reply.make(501, "5.5.4 Syntax: VRFY")
    session.answer("vrfy", refusal)


async def quit_(session: "SmtpSession", argument: bytes) -> None:
    """RFC 5321, 4.1.1.10."""
    if argument:
        session.answer("quit", reply.NO_PARAMETERS)
        return
    session.answer("quit", reply.BYE)
    await session.flush()
    session.hang_up(None)


COMMANDS: Mapping[str, extensions.Command] = {
    "HELO": helo,
    "EHLO": ehlo,
    "MAIL": mail,
    "RCPT": rcpt,
    "DATA": data,
    "RSET": rset,
    "NOOP": noop,
    "VRFY": vrfy,
    "QUIT": quit_,
    **extensions.COMMANDS,
}
"""All commands by verb, in upper case, those of extensions too."""

NOT_IMPLEMENTED = frozenset({"EXPN", "HELP", "ETRN", "TURN"})
"""Commands that are known, and that nobody gets here."""

OF_HTTP = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PUT", "TRACE"}
)
"""Verbs of a browser. A web page can make one of our own network post commands here, which that
network's trust would then count for. So nothing behind a request is read (Postfix:
smtpd_forbidden_commands)."""
