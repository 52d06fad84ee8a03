"""One SMTP session: the single subclass of aiosmtpd's SMTP. It moves bytes, replies and deadlines.

Lines are cut out of what the client sends, one command is run at a time (`commands`), and replies
leave together. What mail is and where it goes is asked of the `MailHandler`. Overridden of aiosmtpd
1.4.6, each for a reason that its own code gives:

- the command loop: bare LF ends a command there, and each line is logged twice through a regex;
- all commands: addresses are rewritten there, every parameter of DSN is refused, PIPELINING is not
  offered, one session's EHLO changes the line limits of all others, and after DATA lines are
  collected one by one, an endless one without bound; none of its methods can be reached;
- `push`: replies are collected while more commands are buffered, so a pipelined group is answered
  in one segment (RFC 2920, 3.2);
- the timer: it is per command there and runs while the backend works; here each phase has a
  deadline of its own, and while we work there is none (`deadlines`);
- end of input: it cancels the session there; here what was sent before is still answered.

The work on a message is not ours: `MailHandler.content` shields it, so a session that is cancelled
(connection lost) leaves it running to its outcome.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar, cast

from aiosmtpd.smtp import SMTP

from mailshed.admission.sessions import Visitor
from mailshed.admission.stress import hurried
from mailshed.config.policy import ListenerPolicy, SessionLimits
from mailshed.listener import commands, starttls
from mailshed.listener.conduct import Conduct
from mailshed.listener.deadlines import Phase, SessionTimer
from mailshed.listener.handshakes import Handshakes
from mailshed.listener.interface import MailHandler
from mailshed.listener.reader import WireReader
from mailshed.listener.transaction import PendingTransaction
from mailshed.mail import reply
from mailshed.mail.envelope import Client, TlsState
from mailshed.mail.proxy_protocol import Endpoint
from mailshed.mail.reply import Reply

T = TypeVar("T")

# RFC 5321, 4.5.3.1.4 asks for 512 octets and more for extensions; DSN alone adds 500 to RCPT
# (RFC 3461, 4.2). Postfix takes 2048.
COMMAND_OCTETS_MAX = 2048

# A line that passes this without an end is no mistake but an attack.
LINE_OCTETS_MAX = 64 * 1024

# Replies that are collected while more commands are buffered: those to one pipelined group of
# usual size leave in one segment. More of them would cost memory, and the event loop would not turn
# while hundreds of thousands of buffered commands are answered.
REPLIES_HELD_MAX = 128

# Seconds for our last words to reach a client that reads slowly or not at all.
CLOSE_TIMEOUT = 10.0


class SmtpSession(SMTP):
    """The server side of one connection. Made by `SessionFactory`, never directly."""

    handler: MailHandler
    limits: SessionLimits
    policy: ListenerPolicy
    client: Client
    arrived: Client
    """The client as it was when it connected, before it said anything about itself."""
    _reader: WireReader
    envelope: PendingTransaction

    def begin(
        self,
        handler: MailHandler,
        limits: SessionLimits,
        policy: ListenerPolicy,
        handshakes: Handshakes | None,
    ) -> None:
        """Set what differs from session to session; `SessionFactory` calls it before connecting."""
        self.handler = handler
        self.handshakes = handshakes
        self.limits = limits
        self.policy = policy
        self._patient = limits
        self.visitor: Visitor | None = None
        """What it was let in as; the place is given back at the end."""
        self.peer: Endpoint | None = None
        """Where the client is: the other end of the connection, or who a proxy says it is."""
        self.is_stopping = self.has_utf8 = False
        self._out: list[bytes] = []
        self._conduct = Conduct()
        self.auth_failures = 0
        self._is_closing = False
        self._is_lost = False
        self.was_asked = False
        """Whether the handler was asked about the recipient of the last RCPT."""
        self._last: Reply | None = None
        # Under the name by which aiosmtpd cancels it when the connection is lost.
        self.timer = SessionTimer(self.loop, self._overdue)
        self._timeout_handle = self.timer  # type: ignore[assignment]
        self.closed: asyncio.Future[None] = self.loop.create_future()

    # Connection and deadlines.

    def _create_envelope(self) -> PendingTransaction:
        return PendingTransaction()

    def forget_transaction(self) -> None:
        """Begin anew, as after RSET."""
        self._abandon()
        self.envelope = self._create_envelope()

    def _set_rset_state(self) -> None:
        self.forget_transaction()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the session; work on a message that is under way goes on without it."""
        self._is_lost = True
        super().connection_lost(error)
        # Cycles would keep the session and its buffers until the garbage collector comes by.
        self._client_connected_cb = self._handler_coroutine = None
        del self._writer
        if not self.closed.done():
            self.closed.set_result(None)
        self.handler.disconnected(self)

    def eof_received(self) -> bool:
        """Note the end of input; commands that came before it are still answered."""
        self._reader.feed_eof()
        return True

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
        return self._is_lost or (self._reader.is_eof_seen and not self._reader.ends_with_quit)

    @property
    def is_idle(self) -> bool:
        """Whether no mail transaction is under way."""
        return self.envelope.mail is None and not self.timer.is_paused

    @property
    def reader(self) -> WireReader:
        """What the client sends."""
        return self._reader

    def expect_data(self, seconds: float) -> None:
        """Expect mail data within `seconds`."""
        self.timer.expect(seconds, Phase.DATA)

    def hang_up(self, last: Reply | None) -> None:
        """End the session with these last words, or without any."""
        if last is None:
            self._close()
        else:
            self.end(last)

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Expect mail data within `duration` seconds, or else the next command in its time."""
        if duration:
            self.timer.expect(duration, Phase.DATA)
        else:
            self.timer.expect(self.limits.command_timeout)

    def _overdue(self, phase: Phase) -> None:
        """The client was too slow; one that does not read what we say hears nothing more."""
        if phase is not Phase.CLOSE:
            self.handler.overdue(self, phase)
        if self._is_closing or phase is Phase.REPLY:
            self._transport_for_writing().abort()
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

    def pause_writing(self) -> None:
        """Replies wait until the client reads; there is a bound for how long."""
        super().pause_writing()
        self.timer.begin_reply(self.limits.reply_timeout)

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        self.timer.end_reply()

    def end(self, last: Reply, verb: str = "other") -> None:
        """Say `last` (4xx) without being asked, and close the connection."""
        if self.transport is None or self._is_closing:
            return
        self._last = last
        self.handler.replied(self, verb, last)
        self._transport_for_writing().write(b"".join([*self._out, last.wire]))
        self._out.clear()
        self._close()

    def _close(self) -> None:
        """Close the connection when the client has read what was said, or has had time to."""
        self._is_closing = True
        if self.transport is None:
            return
        if self._transport_for_writing().get_write_buffer_size() > 0:
            self.timer.close(CLOSE_TIMEOUT)
        self.transport.close()

    def _transport_for_writing(self) -> asyncio.WriteTransport:
        # uvloop's transports have the methods, but are no subclasses.
        return cast("asyncio.WriteTransport", self.transport)

    def stop(self) -> None:
        """The service is stopping: end now if idle, else after the transaction under way."""
        self.is_stopping = True
        if self.transport is None:
            return  # accepted a moment ago, and told by its command loop; or gone
        if self.is_idle and self._reader.buffered == 0:
            self.end(reply.SHUTTING_DOWN)

    # Replies.

    def answer(self, verb: str, answer: Reply) -> None:
        """Queue `answer` to `verb` (lower case); it leaves when no further command is buffered."""
        self._out.append(answer.wire)
        self.handler.replied(self, verb, answer)
        if answer.code >= 400:
            self._conduct.note_refusal(
                verb,
                answer,
                is_overrun=self.envelope.is_overrun,
                is_old_address=self.was_asked and self.client.is_trusted,
            )
        elif verb == "dot":
            self._conduct.forget()
            self.timer.note_mail(self.limits.session_idle_max)

    async def push(self, status: bytes | str) -> None:
        """Queue a reply line; aiosmtpd's inherited commands answer through this."""
        line = status.encode("ascii", "replace") if isinstance(status, str) else status
        self._out.append(line + b"\r\n")

    async def flush(self) -> None:
        """Send the queued replies and wait while the client does not read them."""
        if self._out and not self._is_closing and not self._is_lost:
            data = b"".join(self._out)
            self._out.clear()
            self._writer.write(data)
            await self._writer.drain()

    def start_over(self) -> None:
        """Forget what the client has said, as if it had just connected."""
        self.forget_transaction()
        self.session = self._create_session()
        self.has_utf8 = False
        self._conduct.forget()

    # TLS.

    def begin_tls(self) -> asyncio.BaseTransport:
        """Forget what was said in clear, send what is queued, and leave the rest to the handshake.

        Nothing is expected of the client meanwhile: the handshake has a deadline of its own.
        """
        assert self.transport is not None
        self.start_over()
        self.client = self.arrived
        self._writer.write(b"".join(self._out))
        self._out.clear()
        self.timer.is_paused = True
        return self.transport

    def end_tls(self, secured: tuple[asyncio.Transport, TlsState] | None) -> bool:
        """Speak through what the handshake made of the connection; False if that is lost."""
        self.timer.is_paused = False
        if secured is None:
            self._is_closing = True
            self.loop.call_soon(self.connection_lost, None)
            return False
        self.transport, state = secured
        self.client = replace(self.client, tls=state)
        # Both keep what they hold; the first command may have come with the handshake's last octet.
        self._writer._transport = self.transport  # type: ignore[attr-defined]  # noqa: SLF001
        self._reader._transport = self.transport  # type: ignore[attr-defined]  # noqa: SLF001
        self._reset_timeout()
        return True

    # The command loop.

    async def _handle_client(self) -> None:
        try:
            refused = self.handler.connected(self)
            if refused is not None:
                self.end(refused, "connect")
                return
            self.arrived = self.client
            if not await starttls.is_begun(self):
                return
            self.timer.note_mail(self.limits.session_idle_max)
            self.answer("connect", self.greeting)
            while not self._is_closing:
                line = await self.next_line()
                if line is None:
                    break
                await self._dispatch(line)
        except Exception as error:  # noqa: BLE001 - the boundary: the client hears 451, never 5xx
            if not self._is_lost:  # else connection_lost has been told
                self._fail(error)
        finally:
            self._abandon(self._last)
            if not self._is_closing:
                self._close()

    def _abandon(self, answer: Reply | None = None) -> None:
        """Forget the mail data that came, if any; `answer` is why."""
        under_way = getattr(self.envelope, "reception", None)
        if under_way is not None:
            under_way.abandon(self, answer)

    def _fail(self, error: Exception) -> None:
        """Report a fault of our own; the session's state is not to be trusted, so it ends."""
        self.loop.call_exception_handler(
            {"message": "SMTP session failed", "exception": error, "protocol": self}
        )
        self.end(reply.INTERNAL)

    async def next_line(self) -> bytes | None:
        """The next command line, or None when the session is over."""
        while (line := await self.read_line(COMMAND_OCTETS_MAX)) == b"":
            self.answer("other", reply.LINE_TOO_LONG)
        return line

    async def read_line(self, octets_max: int) -> bytes | None:
        """The next line; empty if it was longer than that, None when the session is over."""
        reader = self._reader
        discarded = 0
        while self._conduct.errors < self.limits.errors_max:
            if len(self._out) >= REPLIES_HELD_MAX:
                await self.flush()
                await asyncio.sleep(0)
                if self._is_closing:
                    return None
            line = reader.take_line()
            if line is not None:
                self.timer.end_line()
                return line if not discarded and len(line) <= octets_max else b""
            if reader.buffered > octets_max:
                discarded += len(reader.take_all())
                if discarded > LINE_OCTETS_MAX:
                    break
            await self.flush()
            if self.is_stopping and self.is_idle and reader.buffered == 0:
                self.end(reply.SHUTTING_DOWN)
                return None
            if reader.buffered or discarded:
                self.timer.begin_line(self.limits.line_timeout)
            if self._is_closing or not await reader.more():
                return None
        self.end(reply.TOO_MANY_ERRORS)
        return None

    async def _dispatch(self, line: bytes) -> None:
        """Run one command; replies stay queued."""
        if not line.endswith(b"\r\n"):
            self.answer("other", reply.BARE_LF_IN_COMMAND)
        else:
            verb, _, argument = line[:-2].partition(b" ")
            name = verb.upper().decode("latin-1")
            command = commands.COMMANDS.get(name)
            if command is not None:
                self._reset_timeout()
                await command(self, argument.strip(b" \t"))
            elif name in commands.OF_HTTP:
                self.end(reply.NOT_HTTP)
            else:
                is_known = name in commands.NOT_IMPLEMENTED
                refusal = reply.NOT_IMPLEMENTED if is_known else reply.UNKNOWN_COMMAND
                self.answer(name.lower() if is_known else "other", refusal)

    # What commands use.

    def count_idle_command(self) -> None:
        """Count a command that leads to no message; too many are errors."""
        self._conduct.note_idle_command()

    async def busy(self, work: Callable[[], Awaitable[T]]) -> T:
        """Answer what came before, then do `work`; the time is ours and not the client's."""
        await self.flush()
        self.timer.is_paused = True
        try:
            done = await work()
        finally:
            self.timer.is_paused = False
        self._reset_timeout()
        return done

    def end_transaction(self, answer: Reply | None) -> None:
        """Answer the end of the mail data; None: the client has left, and the session ends."""
        if answer is None:
            # No reply at all from here on: the client would take it for one to its dot.
            self._close()
            return
        self.forget_transaction()
        self.answer("dot", answer)
        self._reset_timeout()
