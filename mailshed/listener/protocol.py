"""One SMTP session: the single subclass of aiosmtpd's SMTP. It moves octets, replies and deadlines.

A session is driven by what arrives: `turns` has it take commands (`dialog`) or mail data
(`reception`) from its input, and wait where something has to be waited for. Here is what a session
is: its client, its transaction, its replies and its end. Each phase has a deadline of its own, and
while we work there is none (`deadlines`). A fault of ours is 451 and the end of the session, whose
state is not to be trusted then.

What mail is and where it goes is asked of the `MailHandler`. The work on a message is not ours:
when the connection is lost, what the session waits for is cancelled, and that work is not.

Of aiosmtpd 1.4.6 nothing is called but what makes a `Session`. Its command loop takes a bare LF for
an end, and logs each line twice through a regex; its commands rewrite addresses, refuse the
parameters of DSN, offer no PIPELINING, and collect the lines of a message one by one without bound;
its timer runs while the backend works; and the end of input cancels the session.
"""

import asyncio
from dataclasses import replace
from functools import partial

from aiosmtpd.smtp import SMTP

from mailshed.admission.sessions import Visitor
from mailshed.admission.stress import hurried
from mailshed.config.policy import ListenerPolicy, SessionLimits
from mailshed.listener import dialog
from mailshed.listener.conduct import Conduct
from mailshed.listener.deadlines import Phase, SessionTimer
from mailshed.listener.handshakes import Handshakes, Secured
from mailshed.listener.interface import MailHandler
from mailshed.listener.transaction import PendingTransaction
from mailshed.listener.turns import Turns
from mailshed.mail import reply
from mailshed.mail.content import Content
from mailshed.mail.envelope import Client
from mailshed.mail.proxy_protocol import Endpoint
from mailshed.mail.reply import Reply

# Seconds for our last words to reach a client that reads slowly or not at all.
CLOSE_TIMEOUT = 10.0


class SmtpSession(Turns, SMTP):
    """The server side of one connection. Made by `SessionFactory`, never directly."""

    # Of the listener; `SessionFactory` makes a class of its own for each, and sets them there.
    handler: MailHandler
    policy: ListenerPolicy
    handshakes: Handshakes | None
    greeting: Reply
    """What is said first."""

    client: Client
    arrived: Client
    """The client as it was when it connected, before it said anything about itself."""
    envelope: PendingTransaction  # type: ignore[assignment]  # in place of the library's
    transport: asyncio.Transport | None

    # What few sessions ever change. An object of more than 30 attributes costs a dictionary.
    visitor: Visitor | None = None
    """What it was let in as; the place is given back at the end."""
    peer: Endpoint | None = None
    """Where the client is: the other end of the connection, or who a proxy says it is."""
    is_stopping = False
    has_utf8 = False
    auth_failures = 0
    was_asked = False
    """Whether the handler was asked about the recipient of the last RCPT."""
    octets_discarded = 0
    """Of a line that is too long, and has not ended."""
    _last: Reply | None = None
    _closed: asyncio.Future[None] | None = None

    def __init__(self, limits: SessionLimits) -> None:
        # The library's constructor has run, once for all sessions of the listener.
        Turns.__init__(self, dialog.begin)
        self.limits = self._patient = limits
        self.conduct = Conduct()
        self.timer = SessionTimer(self.loop, self._overdue)

    # The connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who it is, and greet."""
        # uvloop's transports have the methods, but are no subclasses.
        self.transport = self.reader.transport = transport  # type: ignore[assignment]
        self.session = self._create_session()
        self.envelope = PendingTransaction()
        self.expect_command()
        self._advance()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """Forget the session; work on a message that is under way goes on without it."""
        self._is_lost = self._is_closing = True
        self.timer.cancel()
        if self._wait is not None:
            self._wait.cancel()
        # Cycles would keep the session and its buffers until the garbage collector comes by.
        self._wait = self._then = None
        self.transport = self.reader.transport = None
        if self._closed is not None:
            self._closed.set_result(None)
        self.handler.disconnected(self)
        self._abandon(self._last)

    @property
    def closed(self) -> "asyncio.Future[None]":
        """Done when the connection is lost; made for who asks."""
        if self._closed is None:
            self._closed = self.loop.create_future()
            if self._is_lost:
                self._closed.set_result(None)
        return self._closed

    # Replies, and the end.

    def answer(self, verb: str, answer: Reply) -> None:
        """Queue `answer` to `verb` (lower case); it leaves when no further command is buffered."""
        self._out.append(answer.wire)
        self.handler.replied(self, verb, answer)
        if answer.code >= 400:
            self.conduct.note_refusal(
                verb,
                answer,
                is_overrun=self.envelope.is_overrun,
                is_old_address=self.was_asked and self.client.is_trusted,
            )
        elif verb == "dot":
            self.conduct.forget()
            self.timer.note_mail(self.limits.session_idle_max)

    def end(self, last: Reply, verb: str = "other") -> None:
        """Say `last` (4xx) without being asked, and close the connection."""
        if self.transport is None or self._is_closing:
            return
        self._last = last
        self.handler.replied(self, verb, last)
        self._out.append(last.wire)
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection when the client has read what was said, or has had time to."""
        if self.transport is None or self._is_closing:
            return
        self.flush()
        self._is_closing = True
        if self.transport.get_write_buffer_size() > 0:
            self.timer.close(CLOSE_TIMEOUT)
        self.transport.close()
        self._abandon(self._last)

    def fail(self, error: Exception) -> None:
        """Report a fault of our own; the session's state is not to be trusted, so it ends."""
        if not self._is_lost:  # else connection_lost has been told
            self.loop.call_exception_handler(
                {"message": "SMTP session failed", "exception": error, "protocol": self}
            )
            self.end(reply.INTERNAL)

    def stop(self) -> None:
        """The service is stopping: end now if idle, else after the transaction under way."""
        self.is_stopping = True
        if self.transport is None:
            return  # accepted a moment ago, and told after its greeting; or gone
        if self.is_idle and not self.reader.buffered:
            self.end(reply.SHUTTING_DOWN)

    # Deadlines.

    def expect_command(self) -> None:
        """Expect the next command in its time."""
        self.timer.expect(self.limits.command_timeout)

    def expect_data(self, seconds: float) -> None:
        """Expect mail data within `seconds`."""
        self.timer.expect(seconds, Phase.DATA)

    def _overdue(self, phase: Phase) -> None:
        """The client was too slow; one that does not read what we say hears nothing more."""
        assert self.transport is not None
        if phase is not Phase.CLOSE:
            self.handler.overdue(self, phase)
        if self._is_closing or phase is Phase.REPLY:
            self.transport.abort()
        else:
            self.end(reply.TIMED_OUT)

    def hurry(self, *, is_hurried: bool) -> None:
        """Let the limits of stress hold from now on, or the usual ones again."""
        limits = hurried(self._patient) if is_hurried else self._patient
        if limits is not self.limits:
            self.limits = limits
            if self.envelope.reception is not None:
                self.envelope.reception.receiver.limits = limits
            self.timer.fit(limits)

    # TLS.

    def begin_tls(self) -> asyncio.Transport:
        """Forget what was said in clear, send what is queued, and leave the rest to the handshake.

        Nothing is expected of the client meanwhile: the handshake has a deadline of its own.
        """
        assert self.transport is not None
        self.start_over()
        self.client = self.arrived
        self.flush()
        return self.transport

    def end_tls(self, secured: Secured | None) -> bool:
        """Speak through what the handshake made of the connection; False if that is lost."""
        if secured is None:
            self._is_closing = True
            self.loop.call_soon(self.connection_lost, None)
            return False
        # The input keeps what it holds; a command may have come with the handshake's last octet.
        self.transport, state = secured
        self.reader.transport = self.transport
        self.client = replace(self.client, tls=state)
        return True

    # What commands use.

    def take_commands(self) -> None:
        """Take commands from now on."""
        self._consumer = dialog.take_command

    def hand_over(self, content: Content) -> None:
        """Give the mail data to the handler, and wait for its answer, which ends the transaction.

        If the connection is lost, that work goes on.
        """
        self.suspend()
        try:
            self.handler.content(self, content, self._answered)
        except Exception:
            content.close()
            raise

    def _answered(self, answer: Reply | None) -> None:
        self.go_on(partial(self.end_transaction, answer))

    @property
    def listener(self) -> str:
        """Name of the listener that the client connected to."""
        return self.policy.name

    @property
    def is_client_gone(self) -> bool:
        """Whether nobody waits for our reply: the connection broke, or input ended without QUIT."""
        return self._is_lost or (self.reader.is_eof_seen and not self.reader.ends_with_quit)

    @property
    def is_idle(self) -> bool:
        """Whether no mail transaction is under way."""
        return self.envelope.mail is None and not self.timer.is_paused

    def count_idle_command(self) -> None:
        """Count a command that leads to no message; too many are errors."""
        self.conduct.note_idle_command()

    def start_over(self) -> None:
        """Forget what the client has said, as if it had just connected."""
        self.forget_transaction()
        self.session = self._create_session()
        self.has_utf8 = False
        self.conduct.forget()

    def forget_transaction(self) -> None:
        """Begin anew, as after RSET."""
        self._abandon()
        self.envelope = PendingTransaction()

    def end_transaction(self, answer: Reply | None) -> None:
        """Answer the end of the mail data; None: the client has left, and the session ends."""
        if answer is None:
            # No reply at all from here on: the client would take it for one to its dot.
            self.hang_up()
            return
        self.forget_transaction()
        self.answer("dot", answer)
        self.expect_command()

    def _abandon(self, answer: Reply | None = None) -> None:
        """Forget the mail data that came, if any; `answer` is why."""
        under_way = self.envelope.reception
        if under_way is not None:
            under_way.abandon(self, answer)
