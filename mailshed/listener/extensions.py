"""The extensions of SMTP that a session knows: what EHLO offers, and the commands they add.

Each extension with a command of its own is a module beside this one; here they are listed.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from mailshed.listener import auth, bdat, starttls, xclient
from mailshed.listener.transaction import DELIVER_BY_MIN
from mailshed.mail import reply
from mailshed.mail.reply import Reply

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


def offer(session: "SmtpSession") -> Reply:
    """The reply to EHLO: what this client is offered now."""
    limits = session.limits
    return _offer(
        session.hostname,
        limits.message_size_max,
        limits.recipients_max,
        session.has_utf8,
        starttls.is_offered(session),
        auth.keyword(session),
        xclient.keyword(session),
    )


@lru_cache(maxsize=64)  # there are as many as listeners and sizes, each a dozen strings to join
def _offer(
    hostname: str,
    size_max: int,
    recipients_max: int,
    has_utf8: bool,
    has_starttls: bool,
    *others: str | None,
) -> Reply:
    """The same, line by line; it depends on nothing but what it is given."""
    keywords = [
        "PIPELINING",
        f"SIZE {size_max}",
        "8BITMIME",
        "SMTPUTF8" if has_utf8 else None,
        "ENHANCEDSTATUSCODES",
        "CHUNKING",
        "DSN",
        "MT-PRIORITY",
        f"DELIVERBY {DELIVER_BY_MIN}",
        f"LIMITS RCPTMAX={recipients_max}",
        "STARTTLS" if has_starttls else None,
        *others,
    ]
    return reply.make(250, hostname, *filter(None, keywords))
