"""The five things that can happen to a message, as values: decide first, act afterwards."""

from typing import ClassVar, Literal

from mailshed.mail.reply import Reply
from mailshed.terms import Reason
from mailshed.values import value

Action = Literal["relay", "wait", "spool", "defer", "reject"]
"""A decision by its name. Label of metrics."""


@value()
class Relay:
    """Hand it to the backend now: a slot is free for its class."""

    action: ClassVar[Action] = "relay"

    reason: Reason = Reason.ROOM


@value()
class Wait:
    """Wait for a slot for at most `seconds`; then spool."""

    action: ClassVar[Action] = "wait"

    seconds: float
    reason: Reason = Reason.SATURATED


@value()
class Spool:
    """Keep it durably, say 250, deliver later."""

    action: ClassVar[Action] = "spool"

    reason: Reason


@value()
class Defer:
    """4xx: the sender keeps it."""

    action: ClassVar[Action] = "defer"

    reason: Reason
    reply: Reply


@value()
class Reject:
    """5xx: policy or the backend's own word, never load."""

    action: ClassVar[Action] = "reject"

    reason: Reason
    reply: Reply


Decision = Relay | Wait | Spool | Defer | Reject
