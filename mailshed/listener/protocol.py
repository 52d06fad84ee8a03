"""One SMTP session: the single subclass of aiosmtpd's SMTP. It moves octets, replies and deadlines.

A session is driven by what arrives: `data_received` adds to the input, `_advance` has *consumers*
take from it what they can use, one step at a time: a command (`dialog`), a block of mail data
(`reception`), a response to a challenge (`auth`). Nearly everything is answered on the spot. What
takes time is handed to `wait_for`, or as mail data to the handler (`hand_over`), which both give
the turn back; meanwhile what arrives is only collected, within bounds, and then the session goes
on. So there is no task for a session, and no future for a command: a task exists while something is
waited for.

- Replies of one turn leave in one write, those to a pipelined group together (RFC 2920, 3.2).
- Who pipelines more than `STEPS_PER_TURN` commands waits for the others' turn.
- Who does not read our replies is not read either.
- Each phase has a deadline of its own, and while we work there is none (`deadlines`).
- What came before the end of input is still answered.
- A fault of ours is 451 and the end of the session, whose state is not to be trusted then.

What mail is and where it goes is asked of the `MailHandler`. The work on a message is not ours:
when the connection is lost, what the session waits for is cancelled, and that work is not.

Of aiosmtpd 1.4.6 nothing is called but what makes a `Session`. Its command loop takes a bare LF for
an end, and logs each line twice through a regex; its commands rewrite addresses, refuse the
parameters of DSN, offer no PIPELINING, and collect the lines of a message one by one without bound;
its timer runs while the backend works; and the end of input cancels the session.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from aiosmtpd.smtp import SMTP

from mailshed.admission.sessions import Visitor
from mailshed.admission.stress import hurried
from mailshed.config.policy import ListenerPolicy, SessionLimits
from mailshed.listener import dialog
from mailshed.listener.conduct import Conduct
from mailshed.listener.deadlines import Phase, SessionTimer
from mailshed.listener.handshakes import Handshakes, Secured
from mailshed.listener.interface import MailHandler
from mailshed.listener.reader import InputBuffer
from mailshed.listener.transaction import PendingTransaction
from mailshed.mail import reply
from mailshed.mail.content import Content
from mailshed.mail.envelope import Client
from mailshed.mail.proxy_protocol import Endpoint
from mailshed.mail.reply import Reply
from mailshed.supervisor import Supervisor
from mailshed.turnstile import Turnstile

T = TypeVar("T")

Consumer = Callable[["SmtpSession"], bool]
"""Takes something from the input of a session; False if what it needs is not all there."""

# Steps for one session before the others have their turn: with a thousand clients that pipeline,
# each waits for 8,000 steps and not for a thousand times what somebody sends at once.
STEPS_PER_TURN = 8

# Replies that are collected while more commands are buffered: those to one pipelined group of
# usual size leave in one segment. More of them would cost memory.
REPLIES_HELD_MAX = 128

# Seconds for our last words to reach a client that reads slowly or not at all.
CLOSE_TIMEOUT = 10.0


class SmtpSession(SMTP):
    """The server side of one connection. Made by `SessionFactory`, never directly."""

    # Of the listener; `SessionFactory` makes a class of its own for each, and sets them there.
    handler: MailHandler
    policy: ListenerPolicy
    handshakes: Handshakes | None
    tasks: Supervisor
    departures: Turnstile

    client: Client
    arrived: Client
    """The client as it was when it connected, before it said anything about itself."""
    envelope: PendingTransaction
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
    _wait: asyncio.Task[None] | None = None
    _is_lost = False
    _last: Reply | None = None
    _closed: asyncio.Future[None] | None = None

    def __init__(self, limits: SessionLimits) -> None:
        # The library's constructor has run, once for all sessions of the listener.
        self.limits = self._patient = limits
        self.reader = InputBuffer()
        """What the client sends."""
        self.conduct = Conduct()
        self.timer = SessionTimer(self.loop, self._overdue)
        self._consumer: Consumer = dialog.begin
        self._then: Callable[[], None] | None = None
        self._is_advancing = self._is_scheduled = False
        self._is_waiting = self._is_stuffed = self._is_closing = False
        self._out: list[bytes] = []

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

    def data_received(self, data: bytes) -> None:
        """Take what has come, or keep it for later."""
        if self._is_closing:
            return
        self.reader.feed(data)
        if not (self._is_waiting or self._is_scheduled):
            self._advance()
        self.reader.hold_back()

    def eof_received(self) -> bool:
        """Note the end of input; commands that came before it are still answered."""
        self.reader.is_eof_seen = True
        self.departures.do(self._advance)
        return True

    def pause_writing(self) -> None:
        """Replies wait until the client reads; there is a bound for how long."""
        self._is_stuffed = True
        self.timer.begin_reply(self.limits.reply_timeout)

    def resume_writing(self) -> None:
        """The client reads."""
        self._is_stuffed = False
        self.timer.end_reply()
        self._schedule()  # a transport may say so while it is written to

    @property
    def closed(self) -> "asyncio.Future[None]":
        """Done when the connection is lost; made for who asks."""
        if self._closed is None:
            self._closed = self.loop.create_future()
            if self._is_lost:
                self._closed.set_result(None)
        return self._closed

    # Turns.

    def take_with(self, consumer: Consumer) -> None:
        """Let what the client sends from now on be taken by this."""
        self._consumer = consumer

    def take_commands(self) -> None:
        """Take commands from now on."""
        self._consumer = dialog.take_command

    def _advance(self) -> None:
        """Take what has come, as far as that is possible now."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            self._take_steps()
        except Exception as error:  # noqa: BLE001 - the boundary: the client hears 451, never 5xx
            self._fail(error)
        finally:
            self._is_advancing = False

    def _take_steps(self) -> None:
        for _ in range(STEPS_PER_TURN):
            if self._then is not None:
                then, self._then = self._then, None
                then()
            if self._is_closing or self._is_waiting or self._is_stuffed:
                break
            if not self._consumer(self):
                if self.reader.is_eof_seen:
                    self.hang_up()
                break
        else:
            self._schedule()
            if len(self._out) < REPLIES_HELD_MAX:
                return
        self.flush()

    def _schedule(self) -> None:
        if not (self._is_scheduled or self._is_lost):
            self._is_scheduled = True
            self.loop.call_soon(self._have_turn)

    def _have_turn(self) -> None:
        self._is_scheduled = False
        self._advance()

    def wait_for(
        self, work: Callable[[], Awaitable[T]], then: Callable[[T], object] | None = None
    ) -> None:
        """Do `work`, and `then` something with its outcome; the time is ours, not the client's.

        What came before is answered now; what comes meanwhile waits. If the connection is lost, the
        work is cancelled.
        """
        self._is_waiting = self.timer.is_paused = True
        self._wait = self.tasks.spawn(self._do(work, then), name="session")

    async def _do(
        self, work: Callable[[], Awaitable[T]], then: Callable[[T], object] | None
    ) -> None:
        try:
            done = await work()
        except Exception as error:  # noqa: BLE001 - the boundary, as in `_advance`
            self._fail(error)
        else:
            self._wait = None
            self.expect_command()
            self._go_on(partial(then, done) if then is not None else None)

    def hand_over(self, content: Content) -> None:
        """Give the mail data to the handler, and wait for its answer, which ends the transaction.

        If the connection is lost, that work goes on.
        """
        self._is_waiting = self.timer.is_paused = True
        try:
            self.handler.content(self, content, self._answered)
        except Exception:
            content.close()
            raise

    def _answered(self, answer: Reply | None) -> None:
        self._go_on(partial(self.end_transaction, answer))

    def _go_on(self, then: Callable[[], Any] | None) -> None:
        """What was waited for is there."""
        if self._is_closing:
            return
        self._is_waiting = self.timer.is_paused = False
        self._then = then
        self._advance()

    # Replies.

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

    def flush(self) -> None:
        """Send the queued replies."""
        if self._out and not self._is_closing:
            assert self.transport is not None
            self.transport.write(b"".join(self._out))
            self._out.clear()

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

    def _fail(self, error: Exception) -> None:
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

    @property
    def greeting(self) -> Reply:
        """What is said first."""
        return reply.make(220, f"{self.hostname} ESMTP mailshed")

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
