"""One SMTP session: the single subclass of aiosmtpd's SMTP. It moves bytes and keeps the sequence.

What it decides is only syntax, sequence and bounds; what mail is and where it goes is asked of the
`MailHandler`. Overridden of aiosmtpd 1.4.6, each for a reason that its own code gives:

- the command loop: bare LF ends a command there, and each line is logged twice through a regex;
- MAIL, RCPT, EHLO: addresses are rewritten there, every parameter of DSN is refused, PIPELINING is
  not offered, and one session's EHLO changes the line limits of all others;
- DATA: lines are collected one by one there, and an endless line without bound;
- RCPT waits when it has to be asked whether the mailbox exists, and MAIL when mail is to come more
  slowly: what came before is answered first, and what comes after it waits;
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
from mailshed.listener import auth, extensions, reception, starttls
from mailshed.listener.conduct import Conduct
from mailshed.listener.deadlines import Phase, SessionTimer
from mailshed.listener.handshakes import Handshakes
from mailshed.listener.interface import Later, MailHandler
from mailshed.listener.reader import WireReader
from mailshed.listener.transaction import PendingTransaction
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.mail.envelope import Client, TlsState
from mailshed.mail.proxy_protocol import Endpoint
from mailshed.mail.reply import Reply
from mailshed.terms import Stage

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
        self._was_asked = False
        self._last: Reply | None = None
        # Under the name by which aiosmtpd cancels it when the connection is lost.
        self.timer = SessionTimer(self.loop, self._overdue)
        self._timeout_handle = self.timer  # type: ignore[assignment]
        self.closed: asyncio.Future[None] = self.loop.create_future()

    # Connection and deadlines.

    def _create_envelope(self) -> PendingTransaction:
        return PendingTransaction()

    def _set_rset_state(self) -> None:
        """Forget the transaction; aiosmtpd does the same, untyped, in two methods."""
        self._abandon()
        self.envelope = self._create_envelope()

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
                is_old_address=self._was_asked and self.client.is_trusted,
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
        self._set_rset_state()
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
            command = _COMMANDS.get(name)
            if command is not None:
                self._reset_timeout()
                await command(self, argument.strip(b" \t").decode("ascii", "surrogateescape"))
            elif (extension := extensions.COMMANDS.get(name)) is not None:
                self._reset_timeout()
                await extension(self, argument.strip(b" \t"))
            elif name in _OF_HTTP:
                self.end(reply.NOT_HTTP)
            else:
                is_known = name in _REFUSED
                refusal = reply.NOT_IMPLEMENTED if is_known else reply.UNKNOWN_COMMAND
                self.answer(name.lower() if is_known else "other", refusal)

    def count_idle_command(self) -> None:
        """Count a command that leads to no message; too many are errors."""
        self._conduct.note_idle_command()

    async def smtp_HELO(self, hostname: str) -> None:  # noqa: N802 - aiosmtpd finds it by name
        """RFC 5321, 4.1.1.1."""
        if self._greet("helo", hostname, is_extended=False):
            self.answer("helo", reply.make(250, self.hostname))

    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802
        """RFC 5321, 4.1.1.1."""
        if self._greet("ehlo", hostname, is_extended=True):
            self.answer("ehlo", reply.make(250, self.hostname, *extensions.keywords(self)))

    def _greet(self, verb: str, hostname: str, *, is_extended: bool) -> bool:
        self.count_idle_command()
        if not hostname or not hostname.isascii() or not hostname.isprintable() or " " in hostname:
            self.answer(verb, reply.make(501, f"5.5.4 Syntax: {verb.upper()} hostname"))
            return False
        self._set_rset_state()
        assert self.session is not None
        self.session.extended_smtp = is_extended
        self.has_utf8 = is_extended and self.handler.is_offered_behind("SMTPUTF8")
        self.session.host_name = hostname
        return True

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321, 4.1.1.2."""
        assert self.session is not None
        if not self.session.host_name:
            self.answer("mail", reply.HELO_FIRST)
        elif self.envelope.mail is not None:
            self.answer("mail", reply.NESTED_MAIL)
        elif refused := starttls.refusal(self) or auth.refusal_of_mail(self):
            self.answer("mail", refused)
        elif self.is_stopping:
            self.end(reply.SHUTTING_DOWN)
        else:
            begun = self.envelope.begin(
                _octets(arg),
                self.limits,
                self.loop.time(),
                is_trusted=self.client.is_trusted,
                has_utf8=self.has_utf8,
            )
            if not begun.is_success:
                self.handler.rejected(self, Stage.MAIL, _octets(arg), begun)
            elif refused := auth.refusal_of_sender(self, _octets(arg)):
                begun = refused
                self._set_rset_state()
            elif rest := self.handler.mail(self):
                await self.busy(rest)
            self.answer("mail", begun)

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

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321, 4.1.1.3."""
        if self.envelope.mail is None:
            self.answer("rcpt", reply.MAIL_FIRST)
            return
        if self.envelope.reception is not None:
            self.answer("rcpt", reply.CHUNKS_BEFORE)
            return
        answer = self._add_recipient(_octets(arg))
        if not isinstance(answer, Reply):
            answer = await self._wait_for(answer)
        if answer.code == 421:
            self.end(answer, "rcpt")
        else:
            self.answer("rcpt", answer)

    def _add_recipient(self, argument: bytes) -> Reply | Callable[[], Awaitable[Reply]]:
        """Take a recipient, and tell the handler of a refusal that is not its own."""
        self._was_asked = False

        def refuse(mailbox: Mailbox) -> Reply | Later | None:
            self._was_asked = True
            return self.handler.recipient(self, mailbox)

        answer = self.envelope.add_recipient(argument, self.limits, refuse)
        is_repeated = answer is reply.TOO_MANY_RECIPIENTS and self.envelope.recipients_excess > 1
        if isinstance(answer, Reply) and not (answer.is_success or self._was_asked or is_repeated):
            self.handler.rejected(self, Stage.RCPT, argument, answer)
        return answer

    async def _wait_for(self, later: Callable[[], Awaitable[Reply]]) -> Reply:
        """Wait for an answer, and note for how long."""
        await self.flush()
        began = self.loop.time()
        answer = await self.busy(later)
        self.envelope.waited += self.loop.time() - began
        return answer

    async def smtp_RSET(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321, 4.1.1.5."""
        self.count_idle_command()
        if arg:
            self.answer("rset", reply.NO_PARAMETERS)
        else:
            self._set_rset_state()
            self.answer("rset", reply.OK)

    async def smtp_NOOP(self, arg: str | None) -> None:  # noqa: ARG002, N802
        """RFC 5321, 4.1.1.9."""
        self.count_idle_command()
        self.answer("noop", reply.OK)

    async def smtp_VRFY(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321, 3.5.3: we do not tell."""
        self.count_idle_command()
        self.answer("vrfy", reply.CANNOT_VERIFY if arg else reply.make(501, "5.5.4 Syntax: VRFY"))

    async def smtp_QUIT(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321, 4.1.1.10."""
        if arg:
            self.answer("quit", reply.NO_PARAMETERS)
            return
        self.answer("quit", reply.BYE)
        await self.flush()
        self._close()

    # Mail data.

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321, 4.1.1.4."""
        if arg:
            self.answer("data", reply.NO_PARAMETERS)
        elif self.envelope.mail is None:
            self.answer("data", reply.MAIL_FIRST)
        elif self.envelope.reception is not None:
            self.answer("data", reply.CHUNKS_BEFORE)
        elif not self.envelope.recipients:
            self.answer("data", reply.NO_VALID_RECIPIENTS)
        else:
            self.answer("data", reply.START_INPUT)
            await self.flush()
            await reception.take_data(self)

    def end_transaction(self, answer: Reply | None) -> None:
        """Answer the end of the mail data; None: the client has left, and the session ends."""
        if answer is None:
            # No reply at all from here on: the client would take it for one to its dot.
            self._close()
            return
        self._set_rset_state()
        self.answer("dot", answer)
        self._reset_timeout()


_COMMANDS = {
    "HELO": SmtpSession.smtp_HELO,
    "EHLO": SmtpSession.smtp_EHLO,
    "MAIL": SmtpSession.smtp_MAIL,
    "RCPT": SmtpSession.smtp_RCPT,
    "DATA": SmtpSession.smtp_DATA,
    "RSET": SmtpSession.smtp_RSET,
    "NOOP": SmtpSession.smtp_NOOP,
    "VRFY": SmtpSession.smtp_VRFY,
    "QUIT": SmtpSession.smtp_QUIT,
}
_REFUSED = frozenset({"EXPN", "HELP", "STARTTLS", "ETRN", "TURN"})
# A web page can make a browser of our own network post commands here, which that network's trust
# would then count for. So nothing behind a request is read (Postfix: smtpd_forbidden_commands).
_OF_HTTP = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PUT", "TRACE"}
)


def _octets(arg: str | None) -> bytes:
    return (arg or "").encode("ascii", "surrogateescape")
