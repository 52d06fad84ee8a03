"""The extensions of SMTP that a session knows: what EHLO offers, and the commands they add.

Each extension with a command of its own is a module beside this one; here they are listed.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession

Command = Callable[["SmtpSession", bytes], Awaitable[None]]
"""Runs one command; it is given what follows the verb."""

COMMANDS: Mapping[str, Command] = {}
"""By verb, in upper case."""


def keywords(session: "SmtpSession") -> Iterator[str]:
    """What the reply to EHLO offers this client now, line by line."""
    yield "PIPELINING"
    yield f"SIZE {session.limits.message_size_max}"
    yield "8BITMIME"
