"""From a clear connection to a protected one: the command STARTTLS (RFC 3207).

What a client says in clear may have been said by somebody in between. So nothing of it counts
afterwards (RFC 3207, 4.2): neither its name, nor a mail transaction, nor who it claims to be. And
nothing that was said in clear may be taken for something said under TLS: a client has to wait for
our 220, so whatever has arrived behind its STARTTLS is an attack (CVE-2011-0411) or a client that
cannot be helped, and ends the session unanswered.

The order is what keeps it safe. Between the last look at what has arrived and the moment from which
all that arrives belongs to TLS, the loop does not turn; what comes later in clear is no TLS, and
fails the handshake. The session's state is forgotten before the handshake and not after it, since
the first command may arrive together with the handshake's last message.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from mailshed.config.policy import TlsMode
from mailshed.listener.handshakes import Secured
from mailshed.mail import reply
from mailshed.mail.reply import Reply

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession


def is_offered(session: "SmtpSession") -> bool:
    """Whether the client may say STARTTLS now."""
    is_clear = session.client.tls is None
    return session.policy.tls is TlsMode.STARTTLS and is_clear and not _is_passed_on(session)


def _is_passed_on(session: "SmtpSession") -> bool:
    """Whether a proxy has said with XCLIENT, in clear, whose connection it passes on.

    To forget that would turn a client into its proxy, which may be trusted; to keep it, would keep
    what was said in clear. So a proxy that wants TLS begins it first, as Postfix does.
    """
    return session.client != session.arrived


def refusal(session: "SmtpSession") -> Reply | None:
    """Why what is about to be said must not be said in clear on this listener."""
    is_clear = session.policy.is_tls_required and session.client.tls is None
    return reply.TLS_REQUIRED if is_clear else None


def run(session: "SmtpSession", argument: bytes) -> None:
    """The command STARTTLS."""
    session.count_idle_command()
    if session.client.tls is not None:
        session.answer("starttls", reply.TLS_TWICE)
    elif _is_passed_on(session):
        session.answer("starttls", reply.TLS_TOO_LATE)
    elif not is_offered(session):
        session.answer("starttls", reply.NOT_IMPLEMENTED)
    elif argument:
        session.answer("starttls", reply.NO_PARAMETERS)
    elif session.reader.buffered:
        session.end(reply.TLS_TOO_EAGER, "starttls")
    elif session.is_client_gone:
        session.hang_up()
    elif not _has_place(session):
        session.answer("starttls", reply.TLS_NOT_NOW)
    else:
        session.answer("starttls", reply.TLS_READY)
        _secure(session, session.end_tls)


def is_first(session: "SmtpSession") -> bool:
    """Whether TLS begins before the greeting."""
    return session.policy.tls is TlsMode.IMPLICIT


def begin(session: "SmtpSession", then: Callable[["SmtpSession"], None]) -> None:
    """Begin TLS without being asked, and do `then` under it."""

    def secured(found: Secured | None) -> None:
        if session.end_tls(found):
            then(session)

    if _has_place(session):
        _secure(session, secured)
    else:
        session.hang_up()


def _has_place(session: "SmtpSession") -> bool:
    assert session.handshakes is not None, "a listener with TLS has no certificate"
    return session.handshakes.enter(session.client)


def _secure(session: "SmtpSession", then: Callable[[Secured | None], object]) -> None:
    """Do the handshake, for which a place was taken."""
    assert session.handshakes is not None
    # Until all that arrives belongs to TLS, the loop does not turn.
    connection = session.handshakes.begin(session.begin_tls(), session)
    session.wait_for(partial(session.handshakes.finish, connection, session.client), then)
