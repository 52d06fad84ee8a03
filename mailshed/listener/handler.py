"""Between the sessions and the pipeline: values are built here, and exceptions end here.

The session speaks bytes and syntax, the pipeline speaks envelopes and decisions. This adapter
turns the one into the other, gives each message its queue id, and spawns the work on a message as
a task that no lost connection cancels. Whatever goes wrong in there, the client hears 451.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import count

from mailshed.clock import Clock
from mailshed.errors import ClientGone
from mailshed.listener.interface import Later
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.slow import SlowReplies
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.mail.content import Content, ContentStore
from mailshed.mail.envelope import RANDOM_BITS, Client, Envelope, make_queue_id
from mailshed.mail.reply import Reply
from mailshed.metrics.recorder import Metrics
from mailshed.pipeline import Pipeline
from mailshed.supervisor import Supervisor
from mailshed.terms import ClientKind, QueueId, Stage

# A path in an argument that could not be parsed, as far as it looks like one.
_CLAIMED_PATH = re.compile(rb"<([^>]*)>?")


class Handler:
    """Adapter of one process: all listeners share it."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        contents: ContentStore,
        supervisor: Supervisor,
        metrics: Metrics,
        clock: Clock,
        rng: random.Random,
        client_kinds: dict[str, ClientKind],
        slow_replies: SlowReplies | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._contents = contents
        self._supervisor = supervisor
        self._metrics = metrics
        self._clock = clock
        self.slow_replies = slow_replies or SlowReplies(0)
        self._rng = rng
        self._client_kinds = client_kinds
        self.open_sessions: set[SmtpSession] = set()
        """Sessions of all listeners, since their number is bounded together."""
        # A restart must not give out the same ids again: they begin with the time of the start, as
        # queue ids do with theirs, but of its ten digits only the six from decades to seconds.
        self._run = make_queue_id(clock.wall(), 0)[2:8]
        self._session_numbers = count(1)

    def connected(self, session: SmtpSession) -> Reply | None:
        """Note who speaks."""
        transport = session.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        if not peer:
            return reply.SHUTTING_DOWN  # gone before we looked; nobody hears this
        address = _normal_address(peer[0])
        session.client = Client(
            session_id=f"s{self._run}-{next(self._session_numbers):x}",
            listener=session.listener,
            address=address,
            port=peer[1],
            is_trusted=address in self._pipeline.policies.relay.trusted_networks,
            kind=self._client_kinds[session.listener],
        )
        self._metrics.connection(session.listener, "accepted")
        return None

    def disconnected(self, session: SmtpSession) -> None:
        """Forget the session."""
        self.open_sessions.discard(session)

    def refused(self, listener: str) -> None:
        """Count a connection that was over the limit."""
        self._metrics.connection(listener, "refused")
        self._metrics.reply(listener, "connect", reply.TOO_MANY_SESSIONS.code)

    def may_use_reserve(self, host: str) -> bool:
        """Whether this peer is in a network whose mail is clinical."""
        return _normal_address(host) in self._pipeline.policies.clinical_networks

    def replied(self, session: SmtpSession, verb: str, sent: Reply) -> None:
        """Count a reply."""
        self._metrics.reply(session.listener, verb, sent.code)

    def mail(self, session: SmtpSession) -> Callable[[], Awaitable[None]] | None:
        """Be slow if this client's mail can wait, and there is a place to sleep."""
        if not self.slow_replies.has_place:
            return None
        seconds = self._pipeline.on_mail(session.client, sender=_sender(session))
        return partial(self.slow_replies.sleep, seconds) if seconds > 0.0 else None

    def recipient(self, session: SmtpSession, mailbox: Mailbox) -> Reply | Later | None:
        """Ask whether this client may send there."""
        return self._pipeline.on_rcpt(
            session.client, mailbox, sender=_sender(session), waited=session.envelope.waited
        )

    def rejected(self, session: SmtpSession, stage: Stage, argument: bytes, answer: Reply) -> None:
        """Have it noted, with the addresses as far as they are known."""
        claimed = _claimed_path(argument)
        is_mail = stage is Stage.MAIL
        self._pipeline.on_rejected(
            session.client,
            stage,
            answer,
            sender=claimed if is_mail else _sender(session),
            recipient=None if is_mail else claimed,
        )

    def discarded(self, session: SmtpSession, octets: int, answer: Reply | None) -> None:
        """Have it noted under the session id: it never became a message with a queue id."""
        envelope = self._envelope(session, QueueId(session.client.session_id))
        self._pipeline.on_discarded(envelope, octets, answer)

    def new_content(self, session: SmtpSession) -> Content:
        """Start the mail data of a message; clinical networks may use the reserved room."""
        is_privileged = self._pipeline.policies.is_clinical(session.client)
        return self._contents.new(is_privileged=is_privileged)

    async def content(self, session: SmtpSession, content: Content) -> Reply | None:
        """Decide and act on a complete message, whatever becomes of the session meanwhile.

        The reply may be known before the work is done, which then goes on by itself.
        """
        bits = self._rng.getrandbits(RANDOM_BITS)
        envelope = self._envelope(session, make_queue_id(self._clock.wall(), bits))
        answered: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._supervisor.spawn(
            self._settle(session, envelope, content, answered), name=f"message {envelope.queue_id}"
        )
        return await answered

    async def _settle(
        self,
        session: SmtpSession,
        envelope: Envelope,
        content: Content,
        answered: "asyncio.Future[Reply | None]",
    ) -> None:
        def answer(said: Reply | None) -> None:
            if not answered.done():  # else nobody listens: the session is over, or has its reply
                answered.set_result(said)

        try:
            await self._pipeline.on_content(
                envelope, content, is_client_gone=lambda: session.is_client_gone, answer=answer
            )
        except ClientGone:
            answer(None)
        except Exception as error:  # noqa: BLE001 - the boundary: the client hears 451, never 5xx
            self._pipeline.on_failure(envelope, error)
            answer(reply.INTERNAL)
        finally:
            answer(None)
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


def _normal_address(text: str) -> IPv4Address | IPv6Address:
    """The peer's address; an IPv4 client on an IPv6 socket counts as IPv4."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
