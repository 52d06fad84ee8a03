"""Deciding about a message that wants in, with what there is to remember: quotas, who tries again.

`policy` says what the ladder is; here its questions are answered from the past. Two moments count.

At RCPT the message is not known yet, but a sender that will be told 4xx after its upload may as
well be told before. So it is asked which classes the message can still turn out to be, and only if
every one of them would be deferred is the recipient. A message that may be clinical never is.

When the message is there its class is final: it is charged to its quotas and decided about. If it
is to wait or to be relayed and that comes to nothing, `shed` decides where it goes instead.

Pure: `now` is monotonic seconds.
"""

from collections.abc import Callable, Collection, Hashable
from typing import NamedTuple

from mailshed.admission import policy
from mailshed.admission.decision import Defer, Relay, Spool, Wait
from mailshed.admission.learned import RetryMemory
from mailshed.admission.policy import BackendState, Sender
from mailshed.admission.quota import Excess, Quotas, Sending, network_of
from mailshed.config.policy import AdmissionPolicy
from mailshed.mail.envelope import Client
from mailshed.terms import ClientKind, Reason, TrafficClass

EXCESS_PENALTY = 2.0
"""What exceeds a soft quota costs its sender so many times what it would: half the share."""


class Ruling(NamedTuple):
    """What was decided about a message."""

    decision: Relay | Wait | Spool | Defer
    excess: Excess | None = None
    """The quota that it exceeds, whether or not that made a difference."""
    penalty: float = 1.0
    """What a wait costs the sender, in parts of what it would cost."""


class Entrance:
    """The entrance to one backend. `spool_fill` says how full the spool is, 0 to 1."""

    def __init__(self, spool_fill: Callable[[], float]) -> None:
        self._spool_fill = spool_fill
        self.quotas = Quotas()
        self.retries = RetryMemory()

    def at_rcpt(
        self,
        client: Client,
        sender: bytes,
        recipient: bytes,
        *,
        terms: AdmissionPolicy,
        reachable: Callable[[], Collection[TrafficClass]],
        is_pressed: bool,
        state_of: Callable[[TrafficClass], BackendState],
        now: float,
    ) -> Defer | None:
        """Decide whether a recipient is told 4xx now, as the message would be in any case.

        `reachable` names all classes that the message may still turn out to be of, and `state_of`
        says what a class would meet at the backend; both are asked only if it may matter.
        """
        self.retries.note_attempt(_who(client), sender, recipient, now)
        if client.kind is not ClientKind.MTA or terms.is_observing:
            return None
        fill = self._spool_fill()
        if fill < terms.lowest_defer_fill and not (
            is_pressed and self.quotas.is_any_exhausted(terms.quotas, client, sender, now)
        ):
            return None
        kind = self.kind(client, now)
        answer: Defer | None = None
        for traffic_class in reachable():
            if traffic_class.rank == 0:
                return None
            sending = Sending(client, sender, traffic_class)
            excess = self.quotas.look(terms.quotas, sending, now)
            who = Sender(kind, None if excess is None else excess.level)
            decision = policy.decide(traffic_class, who, state_of(traffic_class), fill)
            if not isinstance(decision, Defer):
                return None
            answer = decision
        if answer is not None:
            self.note_deferral(client, sender, recipient, now)
        return answer

    def decide(
        self, sending: Sending, state: BackendState, terms: AdmissionPolicy, now: float
    ) -> Ruling:
        """Charge a message whose class is final to its quotas, and decide about it."""
        traffic_class = sending.traffic_class
        excess = self.quotas.charge(terms.quotas, sending, now)
        who = Sender(self.kind(sending.client, now), None if excess is None else excess.level)
        decision = policy.decide(traffic_class, who, state, self._spool_fill())
        if excess is None:
            return Ruling(decision)
        is_held_back = state.is_pressed and traffic_class.rank > 0
        return Ruling(decision, excess, EXCESS_PENALTY if is_held_back else 1.0)

    def shed(
        self, client: Client, traffic_class: TrafficClass, reason: Reason, now: float
    ) -> Spool | Defer:
        """Decide where a message goes that was not relayed after all, for `reason`."""
        who = Sender(self.kind(client, now))
        return policy.shed(traffic_class, who, self._spool_fill(), reason)

    def kind(self, client: Client, now: float) -> ClientKind:
        """What the client does with a 4xx, as far as is known: one that forgets is no server."""
        if client.kind is ClientKind.MTA and not self.retries.does_retry(_who(client), now):
            return ClientKind.USER_AGENT
        return client.kind

    def note_deferral(self, client: Client, sender: bytes, recipient: bytes, now: float) -> None:
        """A mail server was told 4xx about this; others are not expected to come again."""
        if client.kind is ClientKind.MTA:
            self.retries.note_deferral(_who(client), sender, recipient, now)


def _who(client: Client) -> Hashable:
    """What a client is known by that may try again from elsewhere."""
    return client.address_text if client.is_trusted else network_of(client)
