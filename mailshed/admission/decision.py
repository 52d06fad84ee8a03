"""The five things that can happen to a message, as values: decide first, act afterwards."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from mailshed.mail.reply import Reply
from mailshed.terms import Reason

Action = Literal["relay", "wait", "spool", "defer", "reject"]
"""A decision by its name. Label of metrics."""


@dataclass(frozen=True, slots=True)
class Relay:
    """Hand it to the backend now: a slot is free for its class."""

    action: ClassVar[Action] = "relay"

    reason: Reason = Reason.ROOM


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a slot for at most `seconds`; then spool."""

    action: ClassVar[Action] = "wait"

    seconds: float
    reason: Reason = Reason.SATURATED


@dataclass(frozen=True, slots=True)
class Spool:
    """Keep it durably, say 250, deliver later."""

    action: ClassVar[Action] = "spool"

    reason: Reason


@dataclass(frozen=True, slots=True)
class Defer:
    """4xx: the sender keeps it."""

    action: ClassVar[Action] = "defer"

    reason: Reason
    reply: Reply


@dataclass(frozen=True, slots=True)
class Reject:
    """5xx: policy or the backend's own word, never load."""

    action: ClassVar[Action] = "reject"

    reason: Reason
    reply: Reply


Decision = Relay | Wait | Spool | Defer | Reject
