"""A session held by aiosmtpd's own `SMTP` class, nothing overridden, with our policy in its hooks.

It is what `SmtpSession` is compared with: by the differential tests, and by an operator who wants
to know whether a strange behaviour is our doing (`mailshed serve --engine stock`). The library
reads, parses, keeps time and sequence. `StockSession` stands between the transport and it, and is
what the rest of the service sees of a session; the hooks (`stock_hooks`) are what the library
calls.

What the library does by itself stays as it is, and tests/protocol/differential/ lists it: its own
words for errors of syntax and sequence, parameters of DSN refused, addresses rewritten, one timer
for all, lines of mail data up to 1001 octets, mail data in memory at once, a client that closes its
half cut off. Its sessions count no errors and have no end while commands come: this is for a trial,
and not for a listener that strangers reach. There is no TLS, AUTH, XCLIENT or PROXY here; the start
refuses them (`engine`).
"""

import asyncio
from typing import TYPE_CHECKING, cast

from aiosmtpd.smtp import SMTP, Session

from mailshed.admission.sessions import Visitor
from mailshed.config.policy import ListenerPolicy, SessionLimits
from mailshed.listener.handshakes import Handshakes
from mailshed.listener.interface import MailHandler
from mailshed.listener.stock_hooks import StockHooks
from mailshed.listener.transaction import PendingTransaction
from mailshed.mail import reply
from mailshed.mail.envelope import Client
from mailshed.mail.proxy_protocol import Endpoint
from mailshed.mail.reply import Reply

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession


class StockFactory:
    """Makes sessions; takes what `SessionFactory` takes."""

    def __init__(
        self,
        *,
        policy: ListenerPolicy,
        hostname: str,
        handler: MailHandler,
        limits: SessionLimits,
        handshakes: Handshakes | None = None,  # noqa: ARG002 - there is no TLS here
    ) -> None:
        self.policy = policy
        self.handler = handler
        self.limits = limits
        self._hostname = hostname

    def __call__(self) -> "SmtpSession":
        """Make one session, not connected yet."""
        return StockSession(self.handler, self.limits, self.policy, self._hostname).as_seen


class StockSession(asyncio.Protocol):
    """One connection, between the event loop and aiosmtpd."""

    client: Client
    """Set by the handler when the client connects."""

    def __init__(
        self, handler: MailHandler, limits: SessionLimits, policy: ListenerPolicy, hostname: str
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.policy = policy
        self.loop = asyncio.get_running_loop()
        self.visitor: Visitor | None = None
        self.peer: Endpoint | None = None
        self.envelope = PendingTransaction()
        self.transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self.is_stopping = False
        self.is_client_gone = False
        """Whether nobody waits for our reply: the library takes any end of input for that."""
        self._is_begun = False  # whether the library has the connection
        self._library = SMTP(
            StockHooks(self),
            hostname=hostname,
            ident="ESMTP mailshed",
            data_size_limit=limits.message_size_max,
            # Its timer runs from the last command to the end of our work upon that.
            timeout=max(limits.command_timeout, limits.session_idle_max),
            loop=self.loop,
        )

    @property
    def listener(self) -> str:
        """Name of the listener that the client connected to."""
        return self.policy.name

    @property
    def session(self) -> Session | None:
        """What the library knows of the client."""
        return self._library.session

    @property
    def is_idle(self) -> bool:
        """Whether no mail transaction is under way."""
        return self._library.envelope is None or not self._library.envelope.mail_from

    def hurry(self, *, is_hurried: bool) -> None:
        """Nothing: the library's time is set when a session begins."""

    def stop(self) -> None:
        """The service is stopping: end now if idle, else after the transaction under way."""
        self.is_stopping = True
        if self.is_idle:
            self.end(reply.SHUTTING_DOWN)

    def end(self, last: Reply, verb: str = "other") -> None:
        """Say `last` without being asked, and close the connection."""
        if self.transport is not None and not self.transport.is_closing():
            self.handler.replied(self.as_seen, verb, last)
            self.transport.write(last.wire)
            self.transport.close()

    def end_soon(self) -> None:
        """Close the connection when the library has written the reply that it is about to get."""
        if self.transport is not None:
            self.loop.call_soon(self.transport.close)

    @property
    def as_seen(self) -> "SmtpSession":
        """This session as the handler takes it."""
        return cast("SmtpSession", self)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the library begin, unless the client is refused."""
        # uvloop's transports have the methods, but are no subclasses.
        self.transport = cast("asyncio.Transport", transport)
        refused = self.handler.connected(self.as_seen)
        if refused is not None:
            self.end(refused, "connect")
            return
        self._is_begun = True
        self._library.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self._is_begun:
            self._library.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on; the library gives up whatever is under way."""
        self.is_client_gone = True
        return self._library.eof_received() if self._is_begun else False

    def pause_writing(self) -> None:
        """Pass it on."""
        self._library.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._library.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the session; work on a message that is under way goes on without it."""
        self.is_client_gone = True
        self.transport = None
        if self._is_begun:
            self._library.connection_lost(error)
        if not self.closed.done():
            self.closed.set_result(None)
        self.handler.disconnected(self.as_seen)
