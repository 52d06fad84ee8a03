"""What may a message do now? The ladder of answers, from the class and the state of the backend.

Clinical mail (rank 0) and everything else follow the same rule here and differ by their numbers: a
class whose threshold leaves room is relayed, one that does not waits as long as its class and
client allow, then it is spooled. A backend that is away is not waited for. Load alone never refuses
mail; only a spool that cannot take it does, and then with a 4xx.
"""

from dataclasses import dataclass

from mailshed.admission.decision import Reject, Relay, Spool, Wait
from mailshed.admission.scheduler import has_room
from mailshed.config.policy import RelayPolicy
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.terms import ClientKind, Reason, TrafficClass


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendState:
    """What the decision needs to know of the backend, at one instant."""

    in_flight: int
    limit: int
    waiting: int
    """Messages already waiting for a slot whose rank is this class's or better."""
    is_away: bool


def decide(
    traffic_class: TrafficClass, client_kind: ClientKind, backend: BackendState
) -> Relay | Wait | Spool:
    """Decide for one message whose class is final."""
    if backend.is_away:
        return Spool(Reason.BACKEND_AWAY)
    if backend.waiting == 0 and has_room(traffic_class, backend.in_flight, backend.limit):
        return Relay()
    wait = traffic_class.wait_max(client_kind)
    return Wait(wait) if wait > 0 else Spool(Reason.SATURATED)


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
