"""The path of one message, in order: the picture of the architecture as code.

::

    on_rcpt      may this client send there?                     admission.policy
    on_content   loop?  what is it?  may it enter now?           mail.trace, classification, admission
                   |- Relay -------> a slot now                  relay.gate
                   |- Wait --------> a slot within the wait      relay.gate
                   |- Spool -------> durable commit, then 250    spool
                 with a slot: one transaction with the backend, whose reply is our reply

After the backend's answer: a 2xx or 5xx goes to the client as it came. A 4xx goes to a client that
will come back by itself; for one that will not, and wherever the backend gave no answer, the
message is spooled and acknowledged. If even that is impossible the client hears 451 or 452 and
keeps the message. Before our final dot a client that has left ends the matter, since nothing was
promised; after it the outcome is settled without the client.

Steps here call the core, act, log and count; they contain no policy of their own.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import assert_never

from mailshed.admission import policy
from mailshed.admission.decision import Relay, Spool, Wait
from mailshed.classification.classifier import Classifier, Verdict
from mailshed.clock import Clock
from mailshed.config.policy import RelayPolicy
from mailshed.errors import ClientGone, SpoolError, SpoolFull
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.mail.content import Content
from mailshed.mail.delivery import Bounced, Deferred, Delivered, InDoubt, TransactionResult
from mailshed.mail.envelope import Client, Envelope
from mailshed.mail.header import HeaderView
from mailshed.mail.reply import Reply
from mailshed.mail.trace import is_loop, received_line
from mailshed.maillog import MailLog
from mailshed.metrics.catalog import Metrics
from mailshed.relay.backend import Backend, OutboundMessage
from mailshed.relay.gate import Gate, Slot
from mailshed.spool.store import SpoolRecipient, SpoolRecord, SpoolStore
from mailshed.terms import ClientKind, Reason, TrafficClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What a reload replaces: read once per message, so a message sees one configuration."""

    hostname: str
    classifier: Classifier
    relay: RelayPolicy
    lifetime: float
    """Seconds that a spooled message may live."""


@dataclass(slots=True)
class _Message:
    """One message on its way, with what the steps so far have found out."""

    envelope: Envelope
    content: Content
    prefix: bytes
    verdict: Verdict
    is_client_gone: Callable[[], bool]

    @property
    def traffic_class(self) -> TrafficClass:
        return self.verdict.traffic_class

    @property
    def size(self) -> int:
        return len(self.prefix) + self.content.size

    async def chunks(self) -> AsyncIterator[bytes]:
        """Trace line and content, for the spool."""
        yield self.prefix
        async for chunk in self.content.chunks():
            yield chunk


@dataclass(frozen=True, slots=True)
class _Answered:
    """The backend settled it; this goes to the client."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class _Kept:
    """The backend did not settle it; it is to be spooled for this reason."""

    reason: Reason
    in_doubt: int = 0


class Pipeline:
    """The path of messages through one backend."""

    def __init__(
        self,
        *,
        policies: Policies,
        gate: Gate,
        backend: Backend,
        spool: SpoolStore,
        on_spooled: Callable[[TrafficClass], None],
        maillog: MailLog,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.policies = policies
        self._gate = gate
        self._backend = backend
        self._spool = spool
        self._on_spooled = on_spooled
        self._log = maillog
        self._metrics = metrics
        self._clock = clock

    def on_rcpt(self, client: Client, mailbox: Mailbox) -> Reply | None:
        """Say whether `client` may send to `mailbox`; a reply refuses it."""
        refused = policy.decide_recipient(
            mailbox, is_trusted=client.is_trusted, policy=self.policies.relay
        )
        if refused is None:
            return None
        self._log.rejected(client=client, stage="rcpt", reply=refused.reply, reason=refused.reason)
        self._metrics.decision("none", "reject", refused.reason)
        return refused.reply

    async def on_content(
        self, envelope: Envelope, content: Content, *, is_client_gone: Callable[[], bool]
    ) -> Reply:
        """Take a complete message to its outcome and return the reply to the final dot.

        Raises ClientGone if the client left before anything was promised.
        """
        policies = self.policies
        header = HeaderView(content.head)
        verdict = policies.classifier.classify(envelope, header)
        prefix = received_line(envelope, policies.hostname)
        message = _Message(envelope, content, prefix, verdict, is_client_gone)
        if is_loop(header, policies.hostname):
            return self._refuse(message, reply.LOOP, Reason.LOOP)
        return await self._admit(message)

    def on_failure(self, envelope: Envelope, error: BaseException) -> None:
        """Note that handling a message failed by our own fault; its client hears 451."""
        self._log.task_failed(f"message {envelope.queue_id}", error)
        self._metrics.task_failed()

    async def _admit(self, message: _Message) -> Reply:
        """Relay now, relay after a bounded wait, or spool."""
        traffic_class = message.traffic_class
        client = message.envelope.client
        decision = policy.decide(traffic_class, client.kind, self._gate.state(traffic_class))
        slot: Slot | None
        match decision:
            case Relay():
                slot = self._gate.try_acquire(traffic_class)
                reason = Reason.SATURATED
            case Wait(seconds):
                wall = message.envelope.received_wall
                slot = await self._gate.acquire(traffic_class, wall, seconds)
                reason = Reason.SATURATED
            case Spool(reason):
                slot = None
            case _:
                assert_never(decision)
        if slot is None:
            self._metrics.decision(traffic_class.name, "spool", reason)
            return await self._keep(message, _Kept(reason))
        self._metrics.decision(traffic_class.name, "relay", decision.reason)
        outcome = await self._relay(message, slot)
        if isinstance(outcome, _Answered):
            return outcome.reply
        return await self._keep(message, outcome)

    async def _relay(self, message: _Message, slot: Slot) -> _Answered | _Kept:
        """Run the transaction with the backend, holding `slot`."""
        waited = self._clock.monotonic() - message.envelope.received_at
        result: TransactionResult | None = None
        try:
            if message.is_client_gone():
                raise ClientGone
            result = await self._backend.deliver(_outbound(message))
        except ClientGone:
            self._note_aborted(message)
            raise
        finally:
            self._gate.release(slot, result, message.size)
        self._metrics.transaction(self._backend.name, result, message.traffic_class.name, "live")
        return self._judge(message, result, waited)

    def _judge(
        self, message: _Message, result: TransactionResult, waited: float
    ) -> _Answered | _Kept:
        """What the end of the transaction means for the client."""
        match result.uniform:
            case Delivered(answer):
                self._log.relayed(
                    envelope=message.envelope,
                    verdict=message.verdict,
                    size=message.size,
                    reply=answer,
                    waited=waited,
                    times=result.times,
                    delay=self._delay(message),
                )
                self._note_end(message, "delivered")
                return _Answered(answer)
            case Bounced(_, answer):
                return _Answered(self._refuse(message, answer, Reason.BACKEND_REFUSED))
            case Deferred(_, answer) if (
                answer is not None
                and answer.code != 421  # closes the backend's connection, not our client's
                and message.envelope.client.kind is ClientKind.MTA
            ):
                return _Answered(self._defer(message, answer, Reason.BACKEND_DEFERRED))
            case Deferred(_, answer):
                away = answer is None or answer.code == 421
                return _Kept(Reason.BACKEND_AWAY if away else Reason.BACKEND_DEFERRED)
            case InDoubt(detail):
                self._log.in_doubt(
                    queue_id=message.envelope.queue_id,
                    traffic_class=message.traffic_class.name,
                    detail=detail,
                )
                return _Kept(Reason.IN_DOUBT, in_doubt=1)
            case None:
                return self._judge_mixed(message, result)
            case other:
                assert_never(other)

    def _judge_mixed(self, message: _Message, result: TransactionResult) -> _Answered | _Kept:
        """Some recipients were taken and some not, and nothing was sent.

        The spool sorts them out one by one, and reports those that failed for good. A client that
        may not be sent a report must not lose a recipient in silence, so it keeps the message.
        """
        has_failed = any(isinstance(each, Bounced) for each in result.recipients)
        if has_failed and not message.envelope.client.is_trusted:
            answer = self._defer(message, reply.MIXED_RECIPIENTS, Reason.MIXED_RECIPIENTS)
            return _Answered(answer)
        return _Kept(Reason.MIXED_RECIPIENTS)

    async def _keep(self, message: _Message, kept: _Kept) -> Reply:
        """Commit the message durably, then promise it; 4xx if that cannot be done.

        The look at the client comes right before the commit. A message in doubt is kept for its own
        sake: the backend may have it, and the client may never hear from us.
        """
        if kept.reason is not Reason.IN_DOUBT and message.is_client_gone():
            self._note_aborted(message)
            raise ClientGone
        record = self._record(message, kept)
        try:
            await self._spool.add(record, message.chunks())
        except SpoolFull:
            return self._defer(message, reply.SPOOL_FULL, Reason.SPOOL_FULL)
        except SpoolError:
            return self._defer(message, reply.INTERNAL, Reason.SPOOL_SICK)
        self._log.spooled(
            envelope=message.envelope,
            verdict=message.verdict,
            size=message.size,
            reason=kept.reason,
            delay=self._delay(message),
        )
        self._note_end(message, "spooled")
        self._on_spooled(message.traffic_class)
        return reply.queued(message.envelope.queue_id)

    def _record(self, message: _Message, kept: _Kept) -> SpoolRecord:
        envelope = message.envelope
        recipients = tuple(
            SpoolRecipient(
                index=index,
                address=recipient.mailbox.raw,
                parameters=recipient.parameters,
            )
            for index, recipient in enumerate(envelope.recipients)
        )
        return SpoolRecord(
            queue_id=envelope.queue_id,
            traffic_class=message.traffic_class.name,
            rank=message.traffic_class.rank,
            reverse_path=envelope.reverse_path.raw if envelope.reverse_path else b"",
            parameters=envelope.parameters,
            recipients=recipients,
            received_wall=envelope.received_wall,
            expires_wall=envelope.received_wall + self.policies.lifetime,
            next_attempt_wall=envelope.received_wall,
            reason=kept.reason,
            client_address=str(envelope.client.address),
            helo=envelope.helo,
            is_trusted=envelope.client.is_trusted,
            in_doubt=kept.in_doubt,
        )

    def _refuse(self, message: _Message, answer: Reply, reason: Reason) -> Reply:
        self._log.refused(
            envelope=message.envelope,
            verdict=message.verdict,
            size=message.size,
            reply=answer,
            reason=reason,
            delay=self._delay(message),
        )
        self._metrics.decision(message.traffic_class.name, "reject", reason)
        self._note_end(message, "rejected")
        return answer

    def _defer(self, message: _Message, answer: Reply, reason: Reason) -> Reply:
        self._log.deferred(
            envelope=message.envelope,
            verdict=message.verdict,
            size=message.size,
            reply=answer,
            reason=reason,
            delay=self._delay(message),
        )
        self._metrics.decision(message.traffic_class.name, "defer", reason)
        self._note_end(message, "deferred")
        return answer

    def _note_aborted(self, message: _Message) -> None:
        self._log.aborted(
            envelope=message.envelope, verdict=message.verdict, delay=self._delay(message)
        )
        self._note_end(message, "aborted")

    def _note_end(self, message: _Message, outcome: str) -> None:
        envelope = message.envelope
        self._metrics.message(
            traffic_class=message.traffic_class.name,
            outcome=outcome,
            recipients=len(envelope.recipients),
            size=message.size,
            seconds=self._clock.monotonic() - envelope.started_at,
        )

    def _delay(self, message: _Message) -> float:
        return self._clock.monotonic() - message.envelope.received_at


def _outbound(message: _Message) -> OutboundMessage:
    envelope = message.envelope
    content = message.content
    return OutboundMessage(
        queue_id=envelope.queue_id,
        reverse_path=envelope.reverse_path.raw if envelope.reverse_path else b"",
        parameters=envelope.parameters,
        recipients=tuple(
            (recipient.mailbox.raw, recipient.parameters) for recipient in envelope.recipients
        ),
        size=message.size,
        prefix=message.prefix,
        in_memory=None if content.is_spilled else content.chunks_in_memory,
        chunks=content.chunks,
        may_send_dot=lambda: not message.is_client_gone(),
    )
