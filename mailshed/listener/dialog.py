"""The dialog: a greeting, and then one command after the other.

Each function here takes from the input of a session what it can use, and says whether it did; what
is missing has yet to come. The session calls them (`protocol`), and `commands` knows what a command
does.
"""

from typing import TYPE_CHECKING

from mailshed.listener import commands, starttls
from mailshed.listener.lines import COMMAND_OCTETS_MAX, take_line
from mailshed.mail import reply

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession


def begin(session: "SmtpSession") -> bool:
    """Find out who has connected, begin TLS if that comes first, and greet."""
    refused = session.handler.connected(session)
    if refused is not None:
        session.end(refused, "connect")
        return False
    session.arrived = session.client
    session.take_commands()
    if starttls.is_first(session):
        starttls.begin(session, greet)
    else:
        greet(session)
    return True


def greet(session: "SmtpSession") -> None:
    """Say who we are, and expect commands."""
    session.timer.note_mail(session.limits.session_idle_max)
    session.answer("connect", session.greeting)


def take_command(session: "SmtpSession") -> bool:
    """Run the next command."""
    line = take_line(session, COMMAND_OCTETS_MAX)
    if line is None:
        return False
    if not line:
        session.answer("other", reply.LINE_TOO_LONG)
    elif not line.endswith(b"\r\n"):
        session.answer("other", reply.BARE_LF_IN_COMMAND)
    else:
        verb, _, argument = line[:-2].partition(b" ")
        _run(session, verb.upper(), argument)
    return True


def _run(session: "SmtpSession", verb: bytes, argument: bytes) -> None:
    command = commands.COMMANDS.get(verb)
    if command is not None:
        session.expect_command()
        command(session, argument.strip(b" \t"))
    elif verb in commands.OF_HTTP:
        session.end(reply.NOT_HTTP)
    elif verb in commands.NOT_IMPLEMENTED:
        session.answer(verb.decode("ascii").lower(), reply.NOT_IMPLEMENTED)
    else:
        session.answer("other", reply.UNKNOWN_COMMAND)
