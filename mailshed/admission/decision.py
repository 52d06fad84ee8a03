"""The five things that can happen to a message, as values: decide first, act afterwards."""

from dataclasses import dataclass

from mailshed.mail.reply import Reply
from mailshed.terms import Reason


@dataclass(frozen=True, slots=True)
class Relay:
    """Hand it to the backend now: a slot is free for its class."""

    reason: Reason = Reason.ROOM


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a slot for at most `seconds`; then spool."""

    seconds: float
    reason: Reason = Reason.SATURATED


@dataclass(frozen=True, slots=True)
class Spool:
    """Keep it durably, say 250, deliver later."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Defer:
    """4xx: the sender keeps it."""

    reason: Reason
    reply: Reply


@dataclass(frozen=True, slots=True)
class Reject:
    """5xx: policy or the backend's own word, never load."""

    reason: Reason
    reply: Reply


Decision = Relay | Wait | Spool | Defer | Reject
