"""What the end of a message's way means for its client: a reply, or a promise and then a reply.

After a transaction with the backend (RFC 5321, 4.2.5)::

    2xx, 5xx                   the client hears the same
    4xx                        the same, if the client comes back by itself; else we keep it
    421, or no reply before    we keep it: the backend ended its session, and that is not ours
    our final dot
    no reply to our dot        we keep it: the backend may have it or not (in doubt)
    recipients fared unalike   we keep it, and the spool sorts them out one by one

To keep a message is to commit it durably, and to promise it only then: `250 2.0.0 Ok: queued as`.
A spool that fills leaves it with a client that can keep it, the least urgent classes first. If the
commit fails the client hears 4xx and has the message still. Nothing is promised to a client that
has left.
"""

from collections.abc import Callable, Sequence
from typing import assert_never

from mailshed.admission import policy
from mailshed.admission.decision import Defer, Spool
from mailshed.admission.entrance import Entrance
from mailshed.admission.routing import Share
from mailshed.clock import Clock
from mailshed.drain.notify import success_kind
from mailshed.errors import ClientGone, SpoolError, SpoolFull
from mailshed.journal import Journal
from mailshed.livepolicies import LivePolicies
from mailshed.mail import reply
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    InDoubt,
    NoReply,
    TransactionResult,
)
from mailshed.mail.reply import Reply
from mailshed.message import Message, copies_of
from mailshed.spool.store import SpoolStore
from mailshed.terms import ClientKind, Reason, TrafficClass
from mailshed.values import value


@value()
class Answered:
    """The matter is settled; this goes to the client."""

    reply: Reply
    success: TransactionResult | None = None
    """The backend took it, and the sender is to hear of that from us."""


@value()
class Kept:
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


class Outcomes:
    """Judges, keeps and turns away; `on_spooled` is told of each copy that was committed."""

    def __init__(
        self,
        *,
        entrance: Entrance,
        spool: SpoolStore,
        on_spooled: Callable[[TrafficClass, str], None],
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._entrance = entrance
        self._spool = spool
        self._on_spooled = on_spooled
        self._journal = journal
        self._clock = clock

    def judge(
        self, message: Message, backend: str, result: TransactionResult, waited: float
    ) -> Answered | Kept:
        """What the end of the transaction means for the client."""
        match result.uniform:
            case Delivered(answer):
                self._journal.delivered(message, backend, answer, result.times, waited)
                is_told = success_kind(result) is not None and message.wants_success
                return Answered(answer, result if is_told else None)
            case Bounced(_, answer):
                return self.turn_away(message, answer, Reason.BACKEND_REFUSED, result)
            case Deferred(_, _, _, NoReply.UNSUPPORTED):
                return Kept(Reason.UNSUPPORTED, result=result)
            case Deferred(_, answer):
                return self._judge_deferred(message, answer, result)
            case InDoubt(detail):
                self._journal.in_doubt(message, backend, detail)
                return Kept(Reason.IN_DOUBT, in_doubt=1, result=result)
            case None:
                return self._judge_mixed(message, result)
            case other:
                assert_never(other)

    def _judge_deferred(
        self, message: Message, answer: Reply | None, result: TransactionResult
    ) -> Answered | Kept:
        """Not now: the client keeps the message if it can, else we do."""
        if answer is None or answer.code == 421:  # a 421 ends the backend's session, not ours
            return Kept(Reason.BACKEND_AWAY, result=result)
        kind = self._entrance.kind(message.envelope.client, self._clock.monotonic())
        if kind is ClientKind.MTA:
            return self.turn_away(message, answer, Reason.BACKEND_DEFERRED, result)
        return Kept(Reason.BACKEND_DEFERRED, result=result)

    def _judge_mixed(self, message: Message, result: TransactionResult) -> Answered | Kept:
        """Some recipients were taken and some not, and nothing was sent.

        The spool sorts them out one by one, and reports those that failed for good. A client that
        may not be sent a report must not lose a recipient in silence, so it keeps the message.
        """
        has_failed = any(isinstance(each, Bounced) for each in result.recipients)
        if has_failed and not message.envelope.client.is_trusted:
            return self.turn_away(message, reply.MIXED_RECIPIENTS, Reason.MIXED_RECIPIENTS, result)
        return Kept(Reason.MIXED_RECIPIENTS, result=result)

    async def keep(self, message: Message, kept: Kept, policies: LivePolicies) -> Answered:
        """Commit the message durably, then promise it; 4xx if that cannot be done.

        The look at the client comes right before the commit. A message in doubt is kept for its own
        sake: the backend may have it, and the client may never hear from us.
        """
        if kept.reason is not Reason.IN_DOUBT and message.is_client_gone():
            self._journal.aborted(message)
            raise ClientGone
        if kept.reason in _SHEDDABLE and not policies.admission.is_observing:
            ruling = self._shed(message, kept.reason)
            if isinstance(ruling, Defer):
                return self.turn_away(message, ruling.reply, ruling.reason, kept.result)
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
            return self.turn_away(message, reply.SPOOL_FULL, Reason.SPOOL_FULL, kept.result)
        except SpoolError:
            answer = _NOT_KEPT.get(kept.reason, reply.INTERNAL)
            return self.turn_away(message, answer, Reason.SPOOL_SICK, kept.result)
        if kept.shares:
            self._journal.split(message, copies, kept.reason)
        else:
            self._journal.spooled(message, kept.reason, kept.result)
        for each in copies:
            self._on_spooled(message.traffic_class, each.backend)
        return Answered(reply.queued(message.envelope.queue_id))

    def _shed(self, message: Message, reason: Reason) -> Spool | Defer:
        """Whether the spool takes it, or fills so much that the sender is to keep it."""
        client, now = message.envelope.client, self._clock.monotonic()
        return self._entrance.shed(client, message.traffic_class, reason, now)

    def turn_away(
        self, message: Message, answer: Reply, reason: Reason, result: TransactionResult | None
    ) -> Answered:
        """Leave the message with the client: 4xx, or 5xx; `result` if the backend was tried."""
        envelope = message.envelope
        answer = policy.in_terms_of(envelope.priority, reason, answer)
        if answer.is_transient:
            self._entrance.note_deferral(
                envelope.client,
                message.reverse_path,
                envelope.recipients[0].mailbox.raw,
                self._clock.monotonic(),
            )
        self._journal.turned_away(message, answer, reason, result)
        return Answered(answer)
