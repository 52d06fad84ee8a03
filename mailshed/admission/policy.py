"""What may a message do now? The ladder of answers, from the class and the state of the backend.

Clinical mail (rank 0) and everything else follow the same rule here and differ by their numbers: a
class that has room is relayed, one that has none waits as long as its class and client allow, then
it is spooled. A class that is kept back, since more of it comes than fits or since an operator said
so, is spooled at once. A backend that is away is not waited for. The places to wait are few, as
nobody gains from a long line of connected clients; clinical mail always has one.

The spool is the answer to load. Only where it fills, or where a hard quota is exceeded while the
backend is under pressure, does a class that allows it get a 4xx instead, and only from a sender
that is known to try again: a 4xx is a second upload, and comes back in waves. Clinical mail is
never told to come back.
"""

from typing import NamedTuple

from mailshed.admission.decision import Defer, Reject, Relay, Spool, Wait
from mailshed.admission.quota import Level
from mailshed.config.policy import RelayPolicy
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.mail.reply import Reply
from mailshed.terms import ClientKind, Reason, TrafficClass

_IN_TERMS_OF_PRIORITY = {
    Reason.SPOOL_FILLING: reply.PRIORITY_TOO_LOW,
    Reason.OVER_QUOTA: reply.PRIORITY_TOO_LOW,
    Reason.SPOOL_FULL: reply.TOO_BIG_FOR_PRIORITY,
}


class BackendState(NamedTuple):
    """What one message of one class would meet at the backend, at one instant."""

    may_start: bool
    """There is a slot for it, and nobody before it."""
    is_away: bool = False
    is_pressed: bool = False
    """Most of the slots are in use, or somebody waits for one."""
    has_place_to_wait: bool = True
    """Not as many live messages wait as may."""
    kept_back: Reason | None = None
    """Why new mail of the class is to be spooled at once, whatever room there is; None: it is
    not."""


class Sender(NamedTuple):
    """Whoever sends a message: what it does with a 4xx, and whether it sends too much."""

    kind: ClientKind
    """`MTA` only for one that tries again, as far as is known."""
    level: Level | None = None
    """The quota that this message exceeds."""


def decide(
    traffic_class: TrafficClass, sender: Sender, backend: BackendState, spool_fill: float
) -> Relay | Wait | Spool | Defer:
    """Decide for one message whose class is final; `spool_fill` is 0 (empty) to 1 (full)."""
    if backend.is_away:
        return shed(traffic_class, sender, spool_fill, Reason.BACKEND_AWAY)
    is_first = traffic_class.rank == 0
    if sender.level is Level.HARD and backend.is_pressed and not is_first:
        return shed(traffic_class, sender, spool_fill, Reason.OVER_QUOTA)
    if backend.kept_back is not None and not is_first:
        return shed(traffic_class, sender, spool_fill, backend.kept_back)
    if backend.may_start:
        return Relay()
    wait = traffic_class.wait_max(sender.kind)
    if wait > 0 and (is_first or backend.has_place_to_wait):
        return Wait(wait)
    return shed(traffic_class, sender, spool_fill, Reason.SATURATED)


def shed(
    traffic_class: TrafficClass, sender: Sender, spool_fill: float, reason: Reason
) -> Spool | Defer:
    """Decide where a message goes that cannot be relayed for `reason`.

    A device over its hard quota gets a 4xx only where the spool fills as well: it forgets the
    message, but one that has gone mad would take the room of all others.
    """
    if traffic_class.rank == 0:
        return Spool(reason)
    mark = traffic_class.defer_fill
    is_filling = mark is not None and spool_fill >= mark
    is_excess = reason is Reason.OVER_QUOTA and traffic_class.defers_over_quota
    match sender.kind:
        case ClientKind.MTA if is_excess:
            return Defer(Reason.OVER_QUOTA, reply.OVER_QUOTA)
        case ClientKind.MTA if is_filling:
            return Defer(Reason.SPOOL_FILLING, reply.SPOOL_FILLING)
        case ClientKind.DEVICE if is_excess and is_filling:
            return Defer(Reason.OVER_QUOTA, reply.OVER_QUOTA)
        case _:
            return Spool(reason)


def in_terms_of(priority: int | None, reason: Reason, answer: Reply) -> Reply:
    """What a message with this MT-PRIORITY (RFC 6710; None: without) is told instead of `answer`.

    If it stays with its sender for load, its level is too low for now; or, where the spool has no
    room left for so many octets at its level, its size is too big for that.
    """
    if priority is None:
        return answer
    return _IN_TERMS_OF_PRIORITY.get(reason, answer)


def decide_recipient(mailbox: Mailbox, *, is_trusted: bool, policy: RelayPolicy) -> Reject | None:
    """Decide whether a client may send to `mailbox` at all; None means that it may.

    Trusted clients may send anywhere. Others reach our domains only, by addresses that do not ask
    the backend to route on (RFC 5321, 3.6.2 and appendix F.2).
    """
    if is_trusted:
        return None
    if mailbox.is_routed:
        return Reject(Reason.RELAY_DENIED, reply.ROUTED_ADDRESS)
    if mailbox.domain and mailbox.domain not in policy.domains:
        return Reject(Reason.RELAY_DENIED, reply.RELAY_DENIED)
    return None
