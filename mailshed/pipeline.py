"""The path of one message, in order: the picture of the architecture as code.

::

    MAIL, RCPT   may this client send there, does it exist?      screening
    on_content   loop?  what is it?  may it enter now?           trace, classification, admission
                   where to?  (several routes: Spool)            admission.routing
                   |- Relay -------> a slot now                  relay.gate
                   |- Wait --------> a slot within the wait      relay.gate
                   |- Spool -------> durable commit, then 250    outcome, spool
                   |- Defer -------> 4xx: the sender keeps it    outcome
                 with a slot: one transaction with the backend,  relay.backend
                   whose reply is our reply                      outcome

A client does not wait for ever. If the backend has not got as far as our final dot when its
patience ends, the transaction is broken off and the message spooled; after our dot it is adopted
(`adoption`), and the client is answered while the transaction goes on.

A backend that answers for each recipient (LMTP) may take a message for some and not for others,
when it is too late to tell the client. So what has several recipients is spooled and acknowledged
first, and drained at once.

Where the backend gave no answer, or one that would lose mail, the message is spooled and
acknowledged (`outcome`). Before our final dot a client that has left ends the matter, since nothing
was promised; after it the outcome is settled without the client.

Steps here call the core and act; the journal logs and counts. There is no policy in this file.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from mailshed.admission.decision import Defer, Relay, Spool, Wait
from mailshed.admission.entrance import Entrance
from mailshed.admission.policy import BackendState
from mailshed.admission.quota import Sending
from mailshed.admission.routing import Share
from mailshed.adoption import Adopter, Adoption, Custody
from mailshed.classification.senders import SenderHistory
from mailshed.classification.subject import subject_of
from mailshed.clock import Clock
from mailshed.control.patience import Patience
from mailshed.errors import ClientGone
from mailshed.journal import Journal
from mailshed.livepolicies import LivePolicies
from mailshed.mail import reply
from mailshed.mail.content import Content
from mailshed.mail.delivery import (
    Deferred,
    TransactionResult,
    everyone,
)
from mailshed.mail.envelope import Client, Envelope
from mailshed.mail.header import HeaderView, priority_in
from mailshed.mail.reply import Reply
from mailshed.mail.trace import is_loop, received_line
from mailshed.message import Message
from mailshed.outcome import Answered, Kept, Outcomes
from mailshed.relay.backend import Backend
from mailshed.relay.destination import Destination, Destinations, as_of_neighbour
from mailshed.spool.store import SpoolStore
from mailshed.supervisor import Supervisor
from mailshed.terms import ClientKind, Reason, Stage, TrafficClass
from mailshed.work import Slot, Work


class Pipeline:
    """The path of messages to the backends.

    `count` is told of each message that has its class: client, class, octets and recipients.
    """

    def __init__(
        self,
        *,
        policies: LivePolicies,
        entrance: Entrance,
        destinations: Destinations,
        spool: SpoolStore,
        on_spooled: Callable[[TrafficClass, str], None],
        custody: Custody,
        supervisor: Supervisor,
        journal: Journal,
        clock: Clock,
        count: Callable[[Client, str, int, int], None] = lambda *_: None,
    ) -> None:
        self.policies = policies
        self._entrance = entrance
        self._patience = Patience()
        self._senders = SenderHistory()
        self._destinations = destinations
        self._outcomes = Outcomes(
            entrance=entrance, spool=spool, on_spooled=on_spooled, journal=journal, clock=clock
        )
        self._custody = custody
        self._adopter = Adopter(
            spool=spool, custody=custody, supervisor=supervisor, journal=journal
        )
        self._journal = journal
        self._clock = clock
        self._count = count

    async def on_content(
        self,
        envelope: Envelope,
        content: Content,
        *,
        is_client_gone: Callable[[], bool],
        answer: Callable[[Reply], None],
    ) -> None:
        """Take a complete message to its outcome.

        `answer` gets the reply to the final dot, once; the outcome, and with it the return of this
        call, may come later. Raises ClientGone, without an answer, if the client left before
        anything was promised.
        """
        policies = self.policies
        header = HeaderView(await content.read_head())
        if policies.may_be_told_later(envelope.client, envelope.priority):
            envelope = replace(envelope, priority=priority_in(header))
        classifier = policies.classifier
        sent = self._senders.note(classifier.windows, envelope, self._clock.monotonic())
        subject = subject_of(envelope, header, size=content.size, sent=sent)
        verdict = classifier.classify(subject)
        self._journal.classified(classifier, subject, envelope, verdict)
        self._count(
            envelope.client, verdict.traffic_class.name, content.size, len(envelope.recipients)
        )
        prefix = received_line(envelope, policies.hostname)
        shares = self._destinations.routes.split(
            [each.mailbox.domain for each in envelope.recipients]
        )
        route = shares[0].backend
        message = Message(envelope, content, prefix, verdict, is_client_gone, route)
        if is_loop(header, policies.hostname):
            answer(self._outcomes.turn_away(message, reply.LOOP, Reason.LOOP, None).reply)
            return
        destination = self._destinations.taker(route)
        entered = await self._enter(message, destination, shares)
        self._journal.waited(message)
        outcome: Answered | Kept | None
        if isinstance(entered, Slot):
            outcome = await self._relay(message, destination, entered, answer)
        else:
            outcome = entered
        if isinstance(outcome, Kept):
            outcome = await self._outcomes.keep(message, outcome, self.policies)
        if outcome is not None:
            answer(outcome.reply)
            if outcome.success is not None:  # the client has its reply and does not wait for this
                await self._custody.tell_of_success(message, outcome.success)

    def on_failure(self, envelope: Envelope, error: BaseException) -> None:
        """Note that handling a message failed by our own fault; its client hears 451."""
        self._journal.failed(envelope, error)

    async def _enter(
        self, message: Message, destination: Destination, shares: Sequence[Share]
    ) -> Slot | Kept | Answered:
        """Get a slot if the message may enter, now or soon; else say what becomes of it."""
        terms, traffic_class = self.policies.admission, message.traffic_class
        envelope, sender, gate = message.envelope, message.reverse_path, destination.gate
        recipients = len(envelope.recipients)
        work = Work(traffic_class, message.size, recipients, sender, envelope.received_wall)
        state = gate.arrive(work)
        sending = Sending(envelope.client, sender, traffic_class, recipients)
        ruling = self._entrance.decide(sending, state, terms, self._clock.monotonic())
        if ruling.excess is not None:
            self._journal.over_quota(traffic_class.name, ruling.excess)
        decision = ruling.decision
        if terms.is_observing:
            decision = self._observe(message, decision, state)
        if len(shares) > 1 and not isinstance(decision, Defer):
            return Kept(Reason.SEVERAL_ROUTES, shares=shares)
        is_for_many = recipients > 1 and destination.backend.answers_each_recipient
        match decision:
            case Relay() | Wait() if is_for_many:
                return Kept(gate.why_not(traffic_class, Reason.PER_RECIPIENT))
            case Relay():
                slot, reason = gate.try_acquire(work), Reason.SATURATED
            case Wait(seconds, reason):
                if ruling.penalty != 1.0:
                    work = replace(work, penalty=ruling.penalty)
                slot = await gate.acquire(work, seconds)
            case Spool(reason):
                return Kept(gate.why_not(traffic_class, reason))
            case Defer(reason, answer):
                return self._outcomes.turn_away(message, answer, reason, None)
            case _:
                assert_never(decision)
        return slot if slot is not None else Kept(gate.why_not(traffic_class, reason))

    def _observe(
        self, message: Message, decision: Relay | Wait | Spool | Defer, state: BackendState
    ) -> Wait | Spool:
        """Count what would be done with it, and say what is done instead.

        It is relayed as soon as the backend has a slot, in half the time that its client has; only
        what would be refused otherwise, or get no slot at all, goes to the spool.
        """
        client, terms = message.envelope.client, self.policies.admission
        action, reason = decision.action, decision.reason
        if message.content.is_normalised and client.address not in terms.normalize_networks:
            action, reason = "reject", Reason.CONTENT
        self._journal.would(message.traffic_class.name, action, reason)
        if state.is_away:
            return Spool(Reason.BACKEND_AWAY)
        return Wait(self._respond_by(client.kind) / 2)

    async def _relay(
        self,
        message: Message,
        destination: Destination,
        slot: Slot,
        answer: Callable[[Reply], None],
    ) -> Answered | Kept | None:
        """Run the transaction with the backend, holding `slot`; None if all is done."""
        name, envelope = destination.name, message.envelope
        waited = self._clock.monotonic() - envelope.received_at
        patience = self._respond_by(envelope.client.kind) - waited
        adoption = Adoption(
            self._adopter,
            message,
            taker=name,
            lifetime=self.policies.lifetime,
            respond_at=asyncio.get_running_loop().time() + patience,
            answer=answer,
        )
        result: TransactionResult | None = None
        try:
            result = await self._transmit(message, destination.backend, adoption)
        except ClientGone:
            self._journal.aborted(message)
            raise
        finally:
            destination.gate.release(slot, result)
            if result is not None and name != message.route:
                result = as_of_neighbour(result, name)
            is_adopted = await adoption.end(result)
        self._journal.transaction(message, name, result)
        return None if is_adopted else self._outcomes.judge(message, name, result, waited)

    async def _transmit(
        self, message: Message, backend: Backend, adoption: Adoption
    ) -> TransactionResult:
        """Speak with the backend: up to our final dot while the client has patience, then on."""
        try:
            result = await backend.deliver(message.outbound(adoption.may_send_dot))
        except asyncio.CancelledError:
            if not adoption.was_broken_off():
                raise
            late = Deferred(Stage.DATA, None, "too slow for the client, before our final dot")
            return TransactionResult(recipients=everyone(late, len(message.envelope.recipients)))
        self._patience.note(result.times.service)
        return result

    def _respond_by(self, kind: ClientKind) -> float:
        policies, is_mta = self.policies, kind is ClientKind.MTA
        configured = policies.respond_by if is_mta else policies.respond_by_user_agent
        return self._patience.respond_by(kind, configured)
