"""What a report is about: values that its writers share, and nothing that writes.

Pure.
"""

import re
from dataclasses import dataclass

from mailshed.terms import QueueId, ReportKind

EXPIRED_STATUS = "4.4.7"
"""Enhanced status code of a message that was tried for too long (RFC 3463, 3.5)."""
DEADLINE_STATUS = "5.4.7"
"""The same of one that its sender wanted back at a time of its own (RFC 2852, 4.1)."""
UNSUPPORTED_STATUS = "5.6.7"
"""Of one that needs SMTPUTF8, for a server that does not have it (RFC 6531, 3.5)."""

_REPLY = re.compile(r"[245][0-9]{2}(?:[ -]|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPolicy:
    """Who reports, for how long a report is tried, and how many there may be.

    `postmaster` is a mail address; `lifetime` is in seconds; `per_minute` is to one address.
    """

    hostname: str
    postmaster: str
    lifetime: float
    per_minute: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRecipient:
    """One forward-path that a report is about.

    `reply` is the backend's last reply or, if there was none, our own words (`is_from_backend`
    tells); `status` is the enhanced status code of RFC 3463. `attempted_wall` is when it was tried
    last, as far as that is known.
    """

    address: bytes
    parameters: tuple[bytes, ...] = ()
    status: str
    reply: str
    is_expired: bool = False
    attempted_wall: float | None = None

    @property
    def is_from_backend(self) -> bool:
        """Whether `reply` is an SMTP reply, which our own words never look like."""
        return _REPLY.match(self.reply) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The message that a report is about.

    `content` is the start of its content, in wire form, and `size` the octets of all of it: a
    report brings back the header section, or everything if that is asked for and short.
    """

    queue_id: QueueId
    reverse_path: bytes
    parameters: tuple[bytes, ...] = ()
    received_wall: float
    expires_wall: float
    """Until when it is tried."""
    deadline_wall: float | None = None
    """By when its sender wanted it delivered; None: at no given time."""
    content: bytes
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Matter:
    """All that one report tells. `is_utf8`: it goes to an address that only SMTPUTF8 can carry."""

    kind: ReportKind
    original: Original
    recipients: tuple[ReportedRecipient, ...]
    policy: ReportPolicy
    wall: float
    """Now."""
    remote_mta: str = ""
    """The backend's host name, if there is one."""

    @property
    def is_utf8(self) -> bool:
        """Whether the report is one of RFC 6533, UTF-8 throughout, rather than ASCII."""
        return not self.original.reverse_path.isascii()
