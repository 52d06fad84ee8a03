"""The extensions of SMTP that a session knows: what EHLO offers, and the commands they add.

Each extension with a command of its own is a module beside this one; here they are listed.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from mailshed.listener import auth, bdat, starttls, xclient
from mailshed.listener.transaction import DELIVER_BY_MIN

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession

Command = Callable[["SmtpSession", bytes], None]
"""Runs one command; it is given what follows the verb."""

COMMANDS: Mapping[bytes, Command] = {
    b"BDAT": bdat.run,
    b"AUTH": auth.run,
    b"STARTTLS": starttls.run,
    b"XCLIENT": xclient.run,
}
"""By verb, in upper case; `commands` has all others."""


def keywords(session: "SmtpSession") -> Iterator[str]:
    """What the reply to EHLO offers this client now, line by line."""
    yield "PIPELINING"
    yield f"SIZE {session.limits.message_size_max}"
    yield "8BITMIME"
    if session.has_utf8:
        yield "SMTPUTF8"
    yield "ENHANCEDSTATUSCODES"
    yield "CHUNKING"
    yield "DSN"
    yield "MT-PRIORITY"
    yield f"DELIVERBY {DELIVER_BY_MIN}"
    yield f"LIMITS RCPTMAX={session.limits.recipients_max}"
    if starttls.is_offered(session):
        yield "STARTTLS"
    if offered := auth.keyword(session):
        yield offered
    if offered := xclient.keyword(session):
        yield offered
