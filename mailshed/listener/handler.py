"""Between the sessions and the pipeline: values are built here, and exceptions end here.

The session speaks bytes and syntax, the pipeline speaks envelopes and decisions. This adapter
turns the one into the other, gives each message its queue id, and spawns the work on a message as
a task that no lost connection cancels. Whatever goes wrong in there, the client hears 451.
"""

import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from itertools import count

from mailshed.admission.sessions import Standing, Visitor
from mailshed.authentication.authenticator import Authenticator
from mailshed.authentication.sasl import Credentials
from mailshed.clock import Clock
from mailshed.config.policy import ListenerPolicy, ProxyMode
from mailshed.errors import ClientGone, CredentialsError
from mailshed.listener.caps import SessionCaps
from mailshed.listener.deadlines import Phase
from mailshed.listener.interface import Later
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.slow import SlowReplies
from mailshed.listener.sweep import Sweep
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.mail.content import Content, ContentStore
from mailshed.mail.envelope import RANDOM_BITS, Client, Envelope, make_queue_id
from mailshed.mail.networks import Address, as_told, normal_address
from mailshed.mail.proxy_protocol import Endpoint
from mailshed.mail.reply import Reply
from mailshed.mail.xclient import Introduction
from mailshed.maillog import MailLog
from mailshed.metrics.recorder import Metrics
from mailshed.pipeline import Pipeline
from mailshed.screening import Screening
from mailshed.supervisor import Supervisor
from mailshed.terms import ClientKind, QueueId, Stage
from mailshed.turnstile import Turnstile

# How many messages that are complete are begun with in one turn of the loop: each takes some 0.1 ms
# until it is with the backend or the spool.
MESSAGES_PER_TURN = 32

# A path in an argument that could not be parsed, as far as it looks like one.
_CLAIMED_PATH = re.compile(rb"<([^>]*)>?")


class Handler:
    """Adapter of one process: all listeners share it."""

    def __init__(
        self,
        *,
        screening: Screening,
        pipeline: Pipeline,
        contents: ContentStore,
        supervisor: Supervisor,
        metrics: Metrics,
        maillog: MailLog,
        clock: Clock,
        rng: random.Random,
        client_kinds: dict[str, ClientKind],
        slow_replies: SlowReplies | None = None,
        offered_behind: Callable[[str], bool] = lambda _keyword: False,
        authenticator: Authenticator | None = None,
    ) -> None:
        self._screening = screening
        self._pipeline = pipeline
        self._contents = contents
        self._supervisor = supervisor
        self._metrics = metrics
        self._clock = clock
        self.slow_replies = slow_replies or SlowReplies(0)
        self._rng = rng
        self._client_kinds = client_kinds
        self._offered_behind = offered_behind
        self._authenticator = authenticator
        self._complete = Turnstile(MESSAGES_PER_TURN)
        self.open_sessions: set[SmtpSession] = set()
        """Sessions of all listeners, since their number is bounded together."""
        self._sweep = Sweep(self.open_sessions, self._fit_if_known)
        self.caps = SessionCaps(
            metrics=metrics, maillog=maillog, now=clock.monotonic, on_stress=self._sweep.begin
        )
        # A restart must not give out the same ids again: they begin with the time of the start, as
        # queue ids do with theirs, but of its ten digits only the six from decades to seconds.
        self._run = make_queue_id(clock.wall(), 0)[2:8]
        self._session_numbers = count(1)

    def connected(self, session: SmtpSession) -> Reply | None:
        """Note who speaks."""
        peer = session.peer or _peer(session)
        if peer is None:
            return reply.SHUTTING_DOWN  # gone before we looked; nobody hears this
        session.client = Client(
            session_id=f"s{self._run}-{next(self._session_numbers):x}",
            listener=session.listener,
            address=peer.address,
            port=peer.port,
            is_trusted=peer.address in self._screening.policies.relay.trusted_networks,
            kind=self._client_kinds[session.listener],
        )
        self._fit(session)
        self._metrics.connection(session.listener, "accepted")
        return None

    def disconnected(self, session: SmtpSession) -> None:
        """Forget the session, and give its place back."""
        self.open_sessions.discard(session)
        if session.visitor is not None:
            self.caps.leave(session.visitor, session.limits)
            session.visitor = None

    def visitor(self, address: Address, policy: ListenerPolicy, *, is_proxied: bool) -> Visitor:
        """Say what is known of an address: whose word counts, and who may always send."""
        policies = self._screening.policies
        may_speak_for_others = policy.proxy is not ProxyMode.NONE and not is_proxied
        if may_speak_for_others and address in policies.relay.trusted_proxies:
            return Visitor(address, Standing.PROXY)
        if address in policies.clinical_networks:
            return Visitor(address, Standing.CLINICAL)
        if address in policies.relay.trusted_networks:
            return Visitor(address, Standing.TRUSTED)
        return Visitor(address, Standing.STRANGER)

    def is_proxy(self, session: SmtpSession) -> bool:
        """Ask by the other end of the connection, whoever the client is said to be."""
        address = session.arrived.address
        standing = self.visitor(address, session.policy, is_proxied=False).standing
        return standing is Standing.PROXY

    def introduced(self, session: SmtpSession, said: Introduction) -> Reply | None:
        """Judge the client by the caps in its proxy's place, and note who it is.

        A new address is a new client, which has no name but the one that is told with it.
        """
        client = session.client
        address, user = client.address, client.user
        if "ADDR" in said.told:
            address, user = as_told(said.address, session.arrived.address), ""
            if (refusal := self._move(session, address)) is not None:
                return refusal
        if "LOGIN" in said.told:
            user = said.login or ""
        session.client = replace(
            client,
            address=address,
            port=(said.port or 0) if "PORT" in said.told else client.port,
            user=user,
            is_trusted=bool(user) or address in self._screening.policies.relay.trusted_networks,
        )
        self._fit(session)
        return None

    def _move(self, session: SmtpSession, address: Address) -> Reply | None:
        """Give the session's place back, and take one for the client at `address`."""
        if session.visitor is not None:
            self.caps.leave(session.visitor, session.limits)
            session.visitor = None
        visitor = self.visitor(address, session.policy, is_proxied=True)
        refusal = self.caps.enter(visitor, session.listener, session.limits)
        if refusal is None:
            session.visitor = visitor
        return refusal

    def _fit_if_known(self, session: SmtpSession) -> None:
        """Stress has begun or ended."""
        if hasattr(session, "client"):  # else it is told when it is known who speaks
            self._fit(session)

    def _fit(self, session: SmtpSession) -> None:
        """Give the session as much time as its client may have now."""
        is_proxy = session.visitor is not None and session.visitor.standing is Standing.PROXY
        is_vouched_for = (
            is_proxy
            or session.client.is_trusted
            or self._screening.policies.is_clinical(session.client)
        )
        session.hurry(is_hurried=self.caps.is_stressed and not is_vouched_for)

    def replied(self, session: SmtpSession, verb: str, sent: Reply) -> None:
        """Count a reply."""
        self._metrics.reply(session.listener, verb, sent.code)

    def overdue(self, session: SmtpSession, phase: Phase) -> None:  # noqa: ARG002 - an interface
        """Count it."""
        assert phase is not Phase.CLOSE
        self._metrics.session_overdue(phase.value)

    async def authenticate(
        self, session: SmtpSession, said: Credentials | CredentialsError
    ) -> Reply:
        """Have it judged; the client of a session that has authenticated is another one."""
        if self._authenticator is None:
            return reply.AUTH_UNAVAILABLE
        judged = await self._authenticator.authenticate(session.client, said)
        if isinstance(judged, Reply):
            return judged
        session.client = judged
        self._fit(session)
        return reply.AUTHENTICATED

    def sender(self, session: SmtpSession) -> Reply | None:
        """Ask whether the reverse-path is one of the user's."""
        pending = session.envelope.mail
        assert pending is not None
        if self._authenticator is None:
            return None
        is_own = self._authenticator.may_send_as(session.client, pending.mailbox)
        return None if is_own else reply.SENDER_NOT_OWNED

    def mail(self, session: SmtpSession) -> Callable[[], Awaitable[None]] | None:
        """Be slow if this client's mail can wait, and there is a place to sleep."""
        if not self.slow_replies.has_place:
            return None
        priority = session.envelope.meaning.priority
        seconds = self._screening.on_mail(
            session.client, sender=_sender(session), priority=priority
        )
        return partial(self.slow_replies.sleep, seconds) if seconds > 0.0 else None

    def recipient(self, session: SmtpSession, mailbox: Mailbox) -> Reply | Later | None:
        """Ask whether this client may send there."""
        return self._screening.on_rcpt(
            session.client,
            mailbox,
            sender=_sender(session),
            waited=session.envelope.waited,
            priority=session.envelope.meaning.priority,
        )

    def rejected(self, session: SmtpSession, stage: Stage, argument: bytes, answer: Reply) -> None:
        """Have it noted, with the addresses as far as they are known."""
        claimed = _claimed_path(argument)
        is_mail = stage is Stage.MAIL
        self._screening.on_rejected(
            session.client,
            stage,
            answer,
            sender=claimed if is_mail else _sender(session),
            recipient=None if is_mail else claimed,
        )

    def discarded(self, session: SmtpSession, octets: int, answer: Reply | None) -> None:
        """Have it noted under the session id: it never became a message with a queue id."""
        envelope = self._envelope(session, QueueId(session.client.session_id))
        self._screening.on_discarded(envelope, octets, answer)

    def is_offered_behind(self, keyword: str) -> bool:
        """Ask what the mail servers have said of themselves."""
        return self._offered_behind(keyword)

    def new_content(self, session: SmtpSession) -> Content:
        """Start the mail data of a message; clinical networks may use the reserved room."""
        is_privileged = self._screening.policies.is_clinical(session.client)
        return self._contents.new(is_privileged=is_privileged)

    def content(
        self, session: SmtpSession, content: Content, answer: Callable[[Reply | None], None]
    ) -> None:
        """Decide and act on a complete message, whatever becomes of the session meanwhile.

        The reply may be known before the work is done, which then goes on by itself.
        """
        bits = self._rng.getrandbits(RANDOM_BITS)
        envelope = self._envelope(session, make_queue_id(self._clock.wall(), bits))
        self._complete.do(partial(self._begin, session, envelope, content, answer))

    def _begin(
        self,
        session: SmtpSession,
        envelope: Envelope,
        content: Content,
        answer: Callable[[Reply | None], None],
    ) -> None:
        self._supervisor.spawn(
            self._settle(session, envelope, content, answer), name=f"message {envelope.queue_id}"
        )

    async def _settle(
        self,
        session: SmtpSession,
        envelope: Envelope,
        content: Content,
        answer: Callable[[Reply | None], None],
    ) -> None:
        is_answered = False

        def answer_once(said: Reply | None) -> None:
            nonlocal is_answered
            if not is_answered:  # else the session may be at its next message
                is_answered = True
                answer(said)

        try:
            await self._pipeline.on_content(
                envelope, content, is_client_gone=lambda: session.is_client_gone, answer=answer_once
            )
        except ClientGone:
            answer_once(None)
        except Exception as error:  # noqa: BLE001 - the boundary: the client hears 451, never 5xx
            self._pipeline.on_failure(envelope, error)
            answer_once(reply.INTERNAL)
        finally:
            answer_once(None)
            content.close()

    def _envelope(self, session: SmtpSession, queue_id: QueueId) -> Envelope:
        pending = session.envelope
        library = session.session
        assert pending.mail is not None
        assert library is not None
        return Envelope(
            queue_id=queue_id,
            client=session.client,
            helo=library.host_name or "",
            is_extended=library.extended_smtp,
            reverse_path=pending.mail.mailbox,
            parameters=pending.mail.parameters,
            priority=pending.meaning.priority,
            is_utf8=pending.meaning.is_utf8,
            deliver_by=pending.meaning.deliver_by,
            recipients=tuple(pending.recipients),
            received_wall=self._clock.wall(),
            received_at=self._clock.monotonic(),
            started_at=pending.started_at,
        )


def _sender(session: SmtpSession) -> bytes:
    mail = session.envelope.mail
    return mail.mailbox.raw if mail is not None and mail.mailbox is not None else b""


def _claimed_path(argument: bytes) -> bytes:
    """What stands in brackets, else what follows the colon of FROM or TO, else all of it."""
    match = _CLAIMED_PATH.search(argument)
    return match[1] if match else argument.rpartition(b":")[2].strip()


def _peer(session: SmtpSession) -> Endpoint | None:
    """The other end of the connection."""
    transport = session.transport
    name = transport.get_extra_info("peername") if transport is not None else None
    return Endpoint(address=normal_address(name[0]), port=name[1]) if name else None
