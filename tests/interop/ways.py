"""How two programs talk: what is encrypted, and who has to log in; and what mailshed does.

The proof that it was so is the trace that a server leaves in the message, by the protocol types of
RFC 3848 and RFC 6531, 4.3 where it keeps to them.
"""

from enum import StrEnum


class Way(StrEnum):
    """From a client to mailshed, or from mailshed to a backend."""

    PLAIN = "plain"
    OPPORTUNISTIC = "opportunistic"
    """What mailshed does to a backend by default: STARTTLS if that works."""
    STARTTLS = "STARTTLS"
    """With a certificate that is verified."""
    AUTH = "AUTH"
    """A login, over STARTTLS."""

    @property
    def domain(self) -> str:
        """Of recipients to whom mailshed goes in this way."""
        return f"{self.lower()}.hospital.example"


CLIENT_WAYS = (Way.PLAIN, Way.STARTTLS, Way.AUTH)
BACKEND_WAYS = tuple(Way)

LOGIN, PASSWORD = "mailshed", "pleurodelinae-9"
"""Of mailshed at a backend."""


class Mode(StrEnum):
    """What mailshed does with a message."""

    PASS = "pass"
    """Passes it on while the client waits for the reply."""
    SPOOL = "spool"
    """Takes it while the backend is away, and delivers it later."""
