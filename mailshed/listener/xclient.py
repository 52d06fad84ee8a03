"""The command XCLIENT: a trusted proxy says whose connection it passes on.

It is offered to peers in `trusted_proxies` alone, and only on a listener with `proxy: xclient`.
Anybody else is told 550, whatever it says, and nothing is read of that. Who may say it goes by the
other end of the connection, not by who the client is said to be: so the same proxy may say it
again, and nobody can talk himself into being a proxy.

Afterwards it is as if the client had just connected: it is judged by the caps in the proxy's place,
our greeting follows, and a greeting of its own is asked for. LOGIN is as good as a password that we
have verified. A client whose address the proxy does not know is not trusted for being near it, and
one that is introduced without ADDR stays whom it was before, as with Postfix.
"""

from typing import TYPE_CHECKING

from mailshed.config.policy import ProxyMode
from mailshed.errors import AddressSyntaxError
from mailshed.mail import reply
from mailshed.mail.xclient import ATTRIBUTES, parse_xclient

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession


def keyword(session: "SmtpSession") -> str | None:
    """What EHLO offers this peer."""
    return f"XCLIENT {' '.join(ATTRIBUTES)}" if _may_introduce(session) else None


def _may_introduce(session: "SmtpSession") -> bool:
    is_asked = session.policy.proxy is ProxyMode.XCLIENT
    return is_asked and session.handler.is_proxy(session)


def run(session: "SmtpSession", argument: bytes) -> None:
    """Answer XCLIENT."""
    session.count_idle_command()
    if not _may_introduce(session):
        session.answer("xclient", reply.XCLIENT_DENIED)
        return
    if session.envelope.mail is not None:
        session.answer("xclient", reply.AUTH_IN_TRANSACTION)
        return
    try:
        introduction = parse_xclient(argument)
    except AddressSyntaxError as error:
        session.answer("xclient", reply.make(501, f"5.5.4 Syntax: {error}"))
        return
    session.start_over()
    refusal = session.handler.introduced(session, introduction)
    if refusal is not None:
        session.end(refusal, "xclient")
    else:
        session.answer("xclient", session.greeting)
