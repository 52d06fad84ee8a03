"""The path of one message, in order: the picture of the architecture as code.

::

    on_mail      is its mail to come more slowly?                admission.entrance
    on_rcpt      may this client send there?                     admission.policy
                 does the mailbox exist?                         relay.verify
                 would it be told 4xx in any case?               admission.entrance
    on_content   loop?  what is it?  may it enter now?           trace, classification, admission
                   where to?  (several routes: Spool)            admission.routing
                   |- Relay -------> a slot now                  relay.gate
                   |- Wait --------> a slot within the wait      relay.gate
                   |- Spool -------> durable commit, then 250    spool
                   |- Defer -------> 4xx: the sender keeps it
                 with a slot: one transaction with the backend, whose reply is our reply

A client does not wait for ever. If the backend has not got as far as our final dot when its
patience ends, the transaction is broken off and the message spooled; after our dot it is adopted
(`adoption`), and the client is answered while the transaction goes on.

A backend that answers for each recipient (LMTP) may take a message for some and not for others, when
it is too late to tell the client. So what has several recipients is spooled and acknowledged first,
and drained at once.

After the backend's answer: a 2xx or 5xx goes to the client as it came. A 4xx goes to a client that
will come back by itself; for one that will not, and wherever the backend gave no answer, the
message is spooled and acknowledged. If even that is impossible the client hears 451 or 452 and
keeps the message. Before our final dot a client that has left ends the matter, since nothing was
promised; after it the outcome is settled without the client.

Steps here call the core and act; the journal logs and counts. There is no policy in this file.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import assert_never

from mailshed.admission import policy
from mailshed.admission.decision import Defer, Reject, Relay, Spool, Wait
from mailshed.admission.entrance import Entrance
from mailshed.admission.policy import BackendState
from mailshed.admission.quota import Sending
from mailshed.admission.routing import Share
from mailshed.adoption import Adoption, Custody
from mailshed.classification.classifier import Classifier
from mailshed.classification.senders import SenderHistory
from mailshed.classification.subject import Known, Subject, subject_of
from mailshed.clock import Clock
from mailshed.config.policy import AdmissionPolicy, RelayPolicy
from mailshed.control.patience import Patience
from mailshed.drain.notify import success_kind
from mailshed.errors import ClientGone, SpoolError, SpoolFull
from mailshed.journal import Journal
from mailshed.mail import reply
from mailshed.mail.address import Mailbox, mailbox_of
from mailshed.mail.content import Content
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    InDoubt,
    NoReply,
    TransactionResult,
    everyone,
)
from mailshed.mail.envelope import Client, Envelope, Recipient
from mailshed.mail.header import HeaderView, priority_in
from mailshed.mail.networks import NetworkSet
from mailshed.mail.reply import Reply
from mailshed.mail.trace import is_loop, received_line
from mailshed.message import Message, copies_of
from mailshed.relay.backend import Backend
from mailshed.relay.destination import Destination, Destinations, as_of_neighbour
from mailshed.relay.gate import Gate
from mailshed.relay.verifiers import Later, Verifier
from mailshed.spool.store import SpoolStore
from mailshed.supervisor import Supervisor
from mailshed.terms import ClientKind, Reason, Stage, TrafficClass
from mailshed.work import Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What a reload replaces: read once per message, so a message sees one configuration."""

    hostname: str
    classifier: Classifier
    relay: RelayPolicy
    clinical_networks: NetworkSet
    """Clients for whose mail data there is always room."""
    lifetime: float
    """Seconds that a spooled message may live."""
    retry_pause: float
    """Seconds before a message that the backend did not take, or may have, is tried again."""
    respond_by: float
    """Seconds after its final dot at which a mail server gets its reply, if not before."""
    respond_by_user_agent: float
    """The same for clients that do not try again."""
    reads_priority_header: bool = False
    """Whether `MT-Priority:` counts in mail of trusted clients that have no such parameter."""
    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)

    def is_clinical(self, client: Client) -> bool:
        """Whether `client` is in a network whose mail is clinical."""
        return client.address in self.clinical_networks


@dataclass(frozen=True, slots=True)
class _Answered:
    """The matter is settled; this goes to the client."""

    reply: Reply
    success: TransactionResult | None = None
    """The backend took it, and the sender is to hear of that from us."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The backend did not settle it; it is to be spooled for this reason."""

    reason: Reason
    in_doubt: int = 0
    result: TransactionResult | None = None
    """How the backend failed it, if it was tried."""
    shares: Sequence[Share] = ()
    """The recipients of each backend, if they are served by several."""

    @property
    def is_to_rest(self) -> bool:
        """Whether it should not be tried again at once."""
        return self.reason in (Reason.IN_DOUBT, Reason.BACKEND_DEFERRED, Reason.UNSUPPORTED)


# What a client hears of the backend when the spool cannot keep its message; else 451 4.3.0.
_NOT_KEPT = {Reason.BACKEND_AWAY: reply.BACKEND_AWAY, Reason.IN_DOUBT: reply.NO_ANSWER}


# Why a message that could go to the spool may be left with its sender instead, if that fills.
_SHEDDABLE = frozenset(
    {
        Reason.SATURATED,
        Reason.DIVERTED,
        Reason.OVERRIDE,
        Reason.BACKEND_AWAY,
        Reason.OVER_QUOTA,
        Reason.SEVERAL_ROUTES,
    }
)


class Pipeline:
    """The path of messages to the backends.

    `spool_fill` says how full the spool is, 0 to 1. `count` is told of each message that has its
    class: the client, the class, octets and recipients.
    """

    def __init__(
        self,
        *,
        policies: Policies,
        destinations: Destinations,
        spool: SpoolStore,
        on_spooled: Callable[[TrafficClass, str], None],
        custody: Custody,
        supervisor: Supervisor,
        journal: Journal,
        clock: Clock,
        verifier: Verifier | None = None,
        spool_fill: Callable[[], float] = lambda: 0.0,
        count: Callable[[Client, str, int, int], None] = lambda *_: None,
    ) -> None:
        self.policies = policies
        self.entrance = Entrance(spool_fill)
        self._verifier = verifier
        self._patience = Patience()
        self._senders = SenderHistory()
        self._destinations = destinations
        self._spool = spool
        self._on_spooled = on_spooled
        self._custody = custody
        self._supervisor = supervisor
        self._journal = journal
        self._clock = clock
        self._count = count

    def on_mail(self, client: Client, *, sender: bytes, priority: int | None = None) -> float:
        """Seconds by which the reply to MAIL is to be late: under pressure, for bulk mail."""
        policies = self.policies
        shedding = self._destinations.calmest.gate.station.shedding
        delay = shedding.reply_delay
        if delay <= 0.0 or client.kind is not ClientKind.MTA or policies.admission.is_observing:
            return 0.0
        subject = Subject(
            client=client, reverse_path=_mailbox(sender), priority=priority, known=Known.MAIL
        )
        return delay if shedding.can_wait(self._reachable(subject)) else 0.0

    def _reachable(self, subject: Subject) -> tuple[TrafficClass, ...]:
        """The classes that it may still turn out to be of."""
        classifier = self.policies.classifier
        if self._may_be_told_later(subject.client, subject.priority):
            return classifier.policy.classes
        return classifier.reachable(subject)

    def _may_be_told_later(self, client: Client, priority: int | None) -> bool:
        """Whether the header section may still say how urgent the message is (RFC 6758)."""
        return self.policies.reads_priority_header and client.is_trusted and priority is None

    def on_rcpt(
        self,
        client: Client,
        mailbox: Mailbox,
        *,
        sender: bytes,
        waited: float = 0.0,
        priority: int | None = None,
    ) -> Reply | Callable[[], Awaitable[Reply | None]] | None:
        """Say whether `client` may send to `mailbox` (as `sender`); a reply refuses it.

        A function instead says that it takes some time to know, and is to be called for that.
        `waited` is how many seconds that has taken already in this transaction.
        """
        ruling: Reject | Defer | None = policy.decide_recipient(
            mailbox, is_trusted=client.is_trusted, policy=self.policies.relay
        ) or self._defer_early(client, mailbox, sender, priority)
        if ruling is None and self._verifier is not None:
            verified = self._verifier.check(client, mailbox, waited)
            if callable(verified):
                return partial(self._rcpt_later, client, mailbox, sender, verified)
            ruling = verified
        return None if ruling is None else self._refuse(client, mailbox, sender, ruling)

    async def _rcpt_later(
        self, client: Client, mailbox: Mailbox, sender: bytes, later: Later
    ) -> Reply | None:
        ruling = await later()
        return None if ruling is None else self._refuse(client, mailbox, sender, ruling)

    def _refuse(
        self, client: Client, mailbox: Mailbox, sender: bytes, ruling: Reject | Defer
    ) -> Reply:
        self._journal.rejected(
            client,
            Stage.RCPT,
            ruling.reply,
            sender=sender,
            recipient=mailbox.raw,
            reason=ruling.reason,
        )
        return ruling.reply

    def _defer_early(
        self, client: Client, mailbox: Mailbox, sender: bytes, priority: int | None
    ) -> Defer | None:
        """Say 4xx now if the message would hear it in any case; see `Entrance.at_rcpt`."""
        policies = self.policies

        def reachable() -> tuple[TrafficClass, ...]:
            subject = Subject(
                client=client,
                reverse_path=_mailbox(sender),
                recipients=(Recipient(mailbox=mailbox),),
                priority=priority,
                known=Known.RCPT,
            )
            return self._reachable(subject)

        gate = self._destinations.taker_of(mailbox.domain).gate
        ruling = self.entrance.at_rcpt(
            client,
            sender,
            mailbox.raw,
            terms=policies.admission,
            reachable=reachable,
            is_pressed=gate.quotas_bite,
            state_of=gate.state,
            now=self._clock.monotonic(),
        )
        if ruling is None:
            return None
        told = policy.in_terms_of(priority, ruling.reason, ruling.reply)
        return Defer(ruling.reason, told)

    def on_rejected(
        self, client: Client, stage: Stage, answer: Reply, *, sender: bytes, recipient: bytes | None
    ) -> None:
        """Note that MAIL or RCPT was refused before anyone was asked, for what it says."""
        self._journal.rejected(client, stage, answer, sender=sender, recipient=recipient)

    def on_discarded(self, envelope: Envelope, size: int, answer: Reply | None) -> None:
        """Note that no message came of the mail data; `answer` is what the client was told."""
        self._journal.discarded(envelope, size, answer)

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
        if self._may_be_told_later(envelope.client, envelope.priority):
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
            answer(self._turn_away(message, reply.LOOP, Reason.LOOP, None).reply)
            return
        destination = self._destinations.taker(route)
        entered = await self._enter(message, destination, shares)
        self._journal.waited(message)
        outcome: _Answered | _Kept | None
        if isinstance(entered, Slot):
            outcome = await self._relay(message, destination, entered, answer)
        else:
            outcome = entered
        if isinstance(outcome, _Kept):
            outcome = await self._keep(message, outcome)
        if outcome is not None:
            answer(outcome.reply)
            if outcome.success is not None:  # the client has its reply and does not wait for this
                await self._custody.tell_of_success(message, outcome.success)

    def on_failure(self, envelope: Envelope, error: BaseException) -> None:
        """Note that handling a message failed by our own fault; its client hears 451."""
        self._journal.failed(envelope, error)

    async def _enter(
        self, message: Message, destination: Destination, shares: Sequence[Share]
    ) -> Slot | _Kept | _Answered:
        """Get a slot if the message may enter, now or soon; else say what becomes of it."""
        terms, traffic_class = self.policies.admission, message.traffic_class
        recipients, gate = len(message.envelope.recipients), destination.gate
        gate.note_arrival(traffic_class, message.size, recipients)
        state = gate.state(traffic_class, message.size)
        sending = Sending(
            message.envelope.client,
            message.reverse_path,
            traffic_class,
            recipients,
        )
        ruling = self.entrance.decide(sending, state, terms, self._clock.monotonic())
        if ruling.excess is not None:
            self._journal.over_quota(traffic_class.name, ruling.excess)
        decision = ruling.decision
        if terms.is_observing:
            decision = self._observe(message, decision, state)
        if len(shares) > 1 and not isinstance(decision, Defer):
            return _Kept(Reason.SEVERAL_ROUTES, shares=shares)
        is_for_many = recipients > 1 and destination.backend.answers_each_recipient
        match decision:
            case Relay() | Wait() if is_for_many:
                return _Kept(gate.why_not(traffic_class, Reason.PER_RECIPIENT))
            case Relay():
                slot = gate.try_acquire(
                    traffic_class, message.size, recipients, message.reverse_path
                )
                reason = Reason.SATURATED
            case Wait(seconds, reason):
                slot = await self._wait(message, gate, seconds, ruling.penalty)
            case Spool(reason):
                return _Kept(gate.why_not(traffic_class, reason))
            case Defer(reason, answer):
                return self._turn_away(message, answer, reason, None)
            case _:
                assert_never(decision)
        return slot if slot is not None else _Kept(gate.why_not(traffic_class, reason))

    async def _wait(
        self, message: Message, gate: Gate, seconds: float, penalty: float
    ) -> Slot | None:
        return await gate.acquire(
            message.traffic_class,
            message.envelope.received_wall,
            seconds,
            sender=message.reverse_path,
            size=message.size,
            recipients=len(message.envelope.recipients),
            penalty=penalty,
        )

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
    ) -> _Answered | _Kept | None:
        """Run the transaction with the backend, holding `slot`; None if all is done."""
        name = destination.name
        waited = self._clock.monotonic() - message.envelope.received_at
        adoption = Adoption(
            message,
            taker=name,
            lifetime=self.policies.lifetime,
            answer=answer,
            spool=self._spool,
            custody=self._custody,
            supervisor=self._supervisor,
            journal=self._journal,
        )
        result: TransactionResult | None = None
        try:
            result = await self._transmit(message, destination.backend, adoption, waited)
        except ClientGone:
            self._journal.aborted(message)
            raise
        finally:
            destination.gate.release(slot, result)
            if result is not None and name != message.route:
                result = as_of_neighbour(result, name)
            is_adopted = await adoption.end(result)
        self._journal.transaction(
            message.traffic_class.name, name, "live", result, message.envelope.parameters
        )
        return None if is_adopted else self._judge(message, name, result, waited)

    async def _transmit(
        self, message: Message, backend: Backend, adoption: Adoption, waited: float
    ) -> TransactionResult:
        """Speak with the backend: up to our final dot while the client has patience, then on."""
        patience = self._respond_by(message.envelope.client.kind) - waited
        loop = asyncio.get_running_loop()
        respond_at = loop.time() + patience

        def may_send_dot() -> bool:
            if message.is_client_gone():
                return False
            before_dot.reschedule(None)
            adoption.begin_at(respond_at)
            return True

        try:
            async with asyncio.timeout_at(respond_at) as before_dot:
                result = await backend.deliver(message.outbound(may_send_dot))
        except TimeoutError:
            late = Deferred(Stage.DATA, None, "too slow for the client, before our final dot")
            return TransactionResult(recipients=everyone(late, len(message.envelope.recipients)))
        self._patience.note(result.times.service)
        return result

    def _respond_by(self, kind: ClientKind) -> float:
        policies, is_mta = self.policies, kind is ClientKind.MTA
        configured = policies.respond_by if is_mta else policies.respond_by_user_agent
        return self._patience.respond_by(kind, configured)

    def _judge(
        self, message: Message, backend: str, result: TransactionResult, waited: float
    ) -> _Answered | _Kept:
        """What the end of the transaction means for the client."""
        match result.uniform:
            case Delivered(answer):
                self._journal.delivered(message, backend, answer, result.times, waited)
                is_told = success_kind(result) is not None and message.wants_success
                return _Answered(answer, result if is_told else None)
            case Bounced(_, answer):
                return self._turn_away(message, answer, Reason.BACKEND_REFUSED, result)
            case Deferred(_, _, _, NoReply.UNSUPPORTED):
                return _Kept(Reason.UNSUPPORTED, result=result)
            case Deferred(_, answer):
                return self._judge_deferred(message, answer, result)
            case InDoubt(detail):
                self._journal.in_doubt(message, backend, detail)
                return _Kept(Reason.IN_DOUBT, in_doubt=1, result=result)
            case None:
                return self._judge_mixed(message, result)
            case other:
                assert_never(other)

    def _judge_deferred(
        self, message: Message, answer: Reply | None, result: TransactionResult
    ) -> _Answered | _Kept:
        """Not now: the client keeps the message if it can, else we do."""
        if answer is None or answer.code == 421:  # a 421 ends the backend's session, not ours
            return _Kept(Reason.BACKEND_AWAY, result=result)
        kind = self.entrance.kind(message.envelope.client, self._clock.monotonic())
        if kind is ClientKind.MTA:
            return self._turn_away(message, answer, Reason.BACKEND_DEFERRED, result)
        return _Kept(Reason.BACKEND_DEFERRED, result=result)

    def _judge_mixed(self, message: Message, result: TransactionResult) -> _Answered | _Kept:
        """Some recipients were taken and some not, and nothing was sent.

        The spool sorts them out one by one, and reports those that failed for good. A client that
        may not be sent a report must not lose a recipient in silence, so it keeps the message.
        """
        has_failed = any(isinstance(each, Bounced) for each in result.recipients)
        if has_failed and not message.envelope.client.is_trusted:
            return self._turn_away(message, reply.MIXED_RECIPIENTS, Reason.MIXED_RECIPIENTS, result)
        return _Kept(Reason.MIXED_RECIPIENTS, result=result)

    async def _keep(self, message: Message, kept: _Kept) -> _Answered:
        """Commit the message durably, then promise it; 4xx if that cannot be done.

        The look at the client comes right before the commit. A message in doubt is kept for its own
        sake: the backend may have it, and the client may never hear from us.
        """
        if kept.reason is not Reason.IN_DOUBT and message.is_client_gone():
            self._journal.aborted(message)
            raise ClientGone
        policies = self.policies
        if kept.reason in _SHEDDABLE and not policies.admission.is_observing:
            ruling = self._shed(message, kept.reason)
            if isinstance(ruling, Defer):
                return self._turn_away(message, ruling.reply, ruling.reason, kept.result)
        record = message.record(
            reason=kept.reason,
            in_doubt=kept.in_doubt,
            lifetime=policies.lifetime,
            # The backend has just said that it is busy, or may be coming back from a crash.
            pause=policies.retry_pause if kept.is_to_rest else 0.0,
        )
        copies = copies_of(record, kept.shares) if kept.shares else (record,)
        try:
            if kept.shares:
                await self._spool.add_copies(copies, message.chunks())
            else:
                await self._spool.add(record, message.chunks())
        except SpoolFull:
            return self._turn_away(message, reply.SPOOL_FULL, Reason.SPOOL_FULL, kept.result)
        except SpoolError:
            answer = _NOT_KEPT.get(kept.reason, reply.INTERNAL)
            return self._turn_away(message, answer, Reason.SPOOL_SICK, kept.result)
        if kept.shares:
            self._journal.split(message, copies, kept.reason)
        else:
            self._journal.spooled(message, kept.reason, kept.result)
        for each in copies:
            self._on_spooled(message.traffic_class, each.backend)
        return _Answered(reply.queued(message.envelope.queue_id))

    def _shed(self, message: Message, reason: Reason) -> Spool | Defer:
        """Whether the spool takes it, or fills so much that the sender is to keep it."""
        client, now = message.envelope.client, self._clock.monotonic()
        return self.entrance.shed(client, message.traffic_class, reason, now)

    def _turn_away(
        self, message: Message, answer: Reply, reason: Reason, result: TransactionResult | None
    ) -> _Answered:
        envelope = message.envelope
        answer = policy.in_terms_of(envelope.priority, reason, answer)
        if answer.is_transient:
            self.entrance.note_deferral(
                envelope.client,
                message.reverse_path,
                envelope.recipients[0].mailbox.raw,
                self._clock.monotonic(),
            )
        self._journal.turned_away(message, answer, reason, result)
        return _Answered(answer)


def _mailbox(sender: bytes) -> Mailbox | None:
    """A reverse-path as a mailbox; None for the null one."""
    return mailbox_of(sender) if sender else None
