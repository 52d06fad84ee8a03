"""The bytes between us and one backend: groups of commands out, raw replies back, paired by count.

aiosmtplib connects and reads the greeting; then `WireProtocol` takes its transport over, because a
relay needs four things that its own protocol does not do. Commands go out in one write and their
replies are awaited as one group (RFC 2920). Replies stay the bytes that came. The mail data honours
flow control, so a slow backend does not fill our memory. And nothing is ever guessed about pairing:
the n-th reply answers the n-th command, a reply that nobody asked for ends the connection, and so
does every timeout.

A dialog that breaks is not an exception here. `fault` says what broke and at which stage, and the
replies that came before it stay valid; `transaction` turns both into results. After a fault the
transport is gone and every call returns at once.

Memory is bounded by `reply.LINES_MAX` lines of `reply.LINE_OCTETS_MAX`, and by the write buffer's
high-water mark plus one chunk. Timeouts are seconds; one timer per connection is moved lazily,
since arming one for each message costs more than the message's own bookkeeping.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import cast

from mailshed.clock import Clock
from mailshed.errors import BackendError, ConnectionLost, ProtocolViolation, TimedOut
from mailshed.mail.reply import (
    LINE_OCTETS_MAX,
    LINES_MAX,
    Reply,
    from_backend,
    one_line,
)
from mailshed.terms import Stage

WRITE_BUFFER_OCTETS = 256 * 1024
"""High-water mark of the transport's buffer: over it, `drain` waits."""
SHUTDOWN_TIMEOUT = 5.0
"""Seconds that a server may take to say that it has ended TLS, too; nobody needs that."""

# Everything that could end a command line early or hide in one (RFC 5321, 4.1.1).
_CONTROLS = bytes((*range(32), 127))
# To look a member up in its class takes as long as all else that is done with a usual reply.
_DATA, _DOT = Stage.DATA, Stage.DOT


class WireProtocol(asyncio.Protocol):
    """One connection to a backend after EHLO. Used by one mail transaction at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.replies: list[Reply] = []
        """The replies of the group that was sent last, as far as they have come."""
        self.fault: BackendError | None = None
        """What broke the dialog; None as long as the connection is good."""
        self.on_break: Callable[[], None] | None = None
        """Called once, when `fault` is set."""
        self.replied_at: float | None = None
        """When the first reply since `time_reply` came, by the clock given there."""
        self.completed_at: float | None = None
        """The same for the last reply of the group; None while it is not complete."""
        self._clock: Clock | None = None
        self.is_encrypted = False
        self._stages: Sequence[Stage] = ()  # of the replies awaited; len() is the count to pair
        self._intermediate = 0  # a 3xx that is a good answer now, besides 354 to DATA
        self._lines: list[bytes] = []  # of a multi-line reply that is not complete yet
        self._rest = b""  # of a line that is not complete yet
        self._out: asyncio.Transport | None = None
        self._paused = False  # as the transport has enough to send for now
        self._waiter: asyncio.Future[list[Reply]] | None = None  # for the replies of the group
        self._room: asyncio.Future[None] | None = None  # for a transport that takes more
        self._timeout = 0.0
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # What the transaction calls.

    @property
    def is_idle(self) -> bool:
        """Whether the last reply was consumed, nothing is buffered and the connection is good."""
        return self.fault is None and len(self.replies) == len(self._stages)

    @property
    def peer_address(self) -> str | None:
        """The IP address of the other end; empty for a Unix socket, None after the end."""
        if self._out is None:
            return None
        peer = self._out.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else ""

    @property
    def is_confused(self) -> bool:
        """Whether the dialog broke since what came was not what SMTP has there."""
        return isinstance(self.fault, ProtocolViolation)

    @property
    def has_news(self) -> bool:
        """Whether a reply of the current group has come, or the dialog broke."""
        return self.fault is not None or bool(self.replies)

    def exchange(
        self,
        commands: Sequence[bytes],
        stages: Sequence[Stage],
        timeout: float,
        *,
        intermediate: int = 0,
    ) -> asyncio.Future[list[Reply]]:
        """Send `commands` in one write and wait for their replies, one per stage, in order.

        Fewer replies come back only if the dialog broke; then `fault` is set. `timeout` is what
        each reply may take after the one before it. `intermediate` is a 3xx that may be an answer.
        """
        assert len(commands) == len(stages)
        octets = b"\r\n".join(commands) + b"\r\n"
        # One test for all of them: besides the line ends of ours there is no control character.
        printable = len(octets.translate(None, _CONTROLS))
        assert printable == len(octets) - 2 * len(commands), "control character in a command"
        self.expect(stages)
        self._intermediate = intermediate
        self.send(octets)
        return self.receive(timeout)

    def expect(self, stages: Sequence[Stage]) -> None:
        """Begin a group: from now on replies may come, one for each of `stages`."""
        assert self.fault is not None or self.is_idle, "the last group is not complete"
        self.replies = []
        self._stages = stages
        self.completed_at = None

    def time_replies(self, clock: Clock) -> None:
        """Note the times when the next reply comes, and the last one of each group from now on."""
        self._clock = clock
        self.replied_at = None

    def lateness(self, now: float) -> float:
        """For how long the replies of the group have been there."""
        return 0.0 if self.completed_at is None else max(0.0, now - self.completed_at)

    def send(self, data: bytes | memoryview) -> bool:
        """Hand `data` to the transport as it is; False if the connection is gone."""
        out = self._out
        if self.fault is not None or out is None:
            return False
        if not out.is_closing():
            try:
                out.write(data)
            except RuntimeError:  # uvloop, if the handle was closed a moment ago
                pass
            else:
                return True
        self._break(ConnectionLost, "the connection was closed")
        return False

    def receive(self, timeout: float) -> asyncio.Future[list[Reply]]:
        """Wait until the group is complete or the dialog broke, for the replies so far."""
        waiter = self._loop.create_future()
        if self.fault is None and len(self.replies) < len(self._stages):
            self._waiter = waiter
            self._expect_within(timeout)
        else:
            waiter.set_result(self.replies)
        return waiter

    async def drain(self, timeout: float) -> None:
        """Wait until the backend has taken enough of what was sent, or there is news."""
        while self._paused and not self.has_news:
            self._room = self._loop.create_future()
            self._expect_within(timeout)
            await self._room

    async def encrypt(self, context: ssl.SSLContext, server_name: str) -> None:
        """Begin TLS (RFC 3207, 4), right after the 220 to STARTTLS.

        Raises OSError, of which ssl.SSLError is one, if the handshake fails; abort then. There is
        no timeout here. What the server sends between its 220 and its part of the handshake ends
        the connection, whichever of the two parsers meets it: before, it is a reply that nobody
        asked for, and after, it is not TLS.
        """
        assert self.is_idle, "TLS begins between a reply and the next command"
        out = self._out
        if out is None or out.is_closing():
            raise ConnectionResetError("the connection was closed")
        tls = await self._loop.start_tls(
            out,
            self,
            context,
            server_hostname=server_name,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
        )
        if tls is None or not self.is_idle:
            raise ConnectionResetError("the connection was closed")
        self._take_over(tls)

    def abort(self) -> None:
        """End the connection now, without QUIT; for a dialog in an unknown state."""
        self._break(ConnectionLost, "the connection was given up")

    def close(self) -> None:
        """End the connection after everything sent has left."""
        if self._out is not None:
            self._out.close()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport over."""
        self._take_over(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        """Split what came into replies and pair them with the stages, in order."""
        if self.fault is not None:
            return
        if self._rest:
            data = self._rest + data
        # Bare LF ends a line, too: one cannot smuggle anything into a list of lines.
        lines = data.split(b"\n")
        self._rest = lines.pop()
        known = len(self.replies)
        for line in lines:
            if not self._take_line(line):
                return
        if len(self._rest) > LINE_OCTETS_MAX:
            self._break(ProtocolViolation, "a reply line without end")
        elif len(self.replies) < len(self._stages):
            if len(self.replies) > known:
                self._deadline = self._loop.time() + self._timeout
                self._make_room()  # whoever sends mail data wants to know
        elif self._rest or self._lines:
            self._break(ProtocolViolation, f"more than the replies: {_printable(self._rest)}")
        else:
            if self._clock is not None:
                self.completed_at = self._clock.monotonic()
            self._wake()

    def eof_received(self) -> bool:
        """Give up the connection: nobody half-closes an SMTP session that goes on."""
        self._break(ConnectionLost, "the backend closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end, whoever caused it."""
        self._out = None
        self._break(ConnectionLost, f"connection lost: {exc or 'closed'}")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause_writing(self) -> None:
        """Let `drain` wait."""
        self._paused = True

    def resume_writing(self) -> None:
        """Let `drain` return."""
        self._paused = False
        self._make_room()

    # Inside.

    def _take_over(self, transport: asyncio.Transport) -> None:
        self._out = transport
        self.is_encrypted = transport.get_extra_info("ssl_object") is not None
        transport.set_write_buffer_limits(high=WRITE_BUFFER_OCTETS, low=WRITE_BUFFER_OCTETS // 2)

    def _take_line(self, line: bytes) -> bool:
        """Take the next line, with its CR or without; False if the dialog is over."""
        if len(line) > LINE_OCTETS_MAX + 1:  # nothing so long is kept, nor remembered as no reply
            return self._take(None, line)
        if self._lines or line[3:4] == b"-":
            return self._take_one_of_several(line)
        return self._take(one_line(line), line)

    def _take_one_of_several(self, line: bytes) -> bool:
        """Take a line of a reply that has more; the last of them completes it."""
        lines = self._lines
        lines.append(line.removesuffix(b"\r"))
        if line[3:4] == b"-" and line[:3].isdigit() and len(lines) < LINES_MAX:
            return True
        self._lines = []
        return self._take(from_backend(lines), lines[0])

    def _take(self, reply: Reply | None, line: bytes) -> bool:
        """Pair one complete reply, which began with `line`; False if the dialog is over."""
        if reply is None:
            self._break(ProtocolViolation, f"not an SMTP reply: {_printable(line)}")
            return False
        position, stages, code = len(self.replies), self._stages, reply.code
        if position == len(stages):
            self._break(ProtocolViolation, f"a reply to nothing: {reply.text[:80]}")
            return False
        stage = stages[position]
        if code < 400:
            # 354 is the answer to DATA and to nothing else; the other positive answers are 2xx.
            is_positive = code == 354 if stage is _DATA else code < 300
            if not is_positive and code != self._intermediate:
                said = f"{stage.value} was answered: {reply.text[:80]}"
                self._break(ProtocolViolation, said)
                return False
        # RFC 5321, 3.8: the backend closes after it, so no further reply is waited for. But one of
        # several final replies (LMTP) is about one recipient; the others' are on their way.
        elif code == 421 and (stage is not _DOT or position == len(stages) - 1):
            self._break(ConnectionLost, f"the backend said: {reply.text}", reply)
            return False
        self.replies.append(reply)
        if self.replied_at is None and self._clock is not None:
            self.replied_at = self._clock.monotonic()
        return True

    def _break(self, kind: type[BackendError], text: str, last: Reply | None = None) -> None:
        """Set `fault` at the stage that was awaited, drop the transport, wake who waits."""
        if self.fault is not None:
            return
        position = min(len(self.replies), len(self._stages) - 1)
        self.fault = kind(text, self._stages[position] if self._stages else Stage.EHLO)
        if last is not None:
            self.replies.append(last)
        self._rest, self._lines = b"", []
        if self._out is not None:
            self._out.abort()
        self._wake()
        if self.on_break is not None:
            self.on_break()
            self.on_break = None

    def _wake(self) -> None:
        """Tell whoever waits for the replies, or for room, that there is nothing to wait for."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self.replies)
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _expect_within(self, timeout: float) -> None:
        """Break the dialog if there is no event that matters within so many seconds from now."""
        self._timeout = timeout
        self._deadline = deadline = self._loop.time() + timeout
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        """Break the dialog if its deadline has passed; otherwise look again when it will have."""
        self._timer = None
        if (self._waiter is None or self._waiter.done()) and (
            self._room is None or self._room.done()
        ):
            return  # nobody waits; the next one who does sets the timer again
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
        else:
            self._break(TimedOut, f"no progress within {self._timeout:g} s")


def _printable(data: bytes) -> str:
    """The start of what a backend sent, safe for a log line."""
    return repr(data[:80])[2:-1]
