"""The turns of a session: it takes what has come, answers, and gives the turn back.

A *consumer* is a function of the session that takes from the input what it can use, one step at a
time, and says whether it did: a command, a block of mail data, a response to a challenge. There is
one at a time. A step answers at once, or tells the session what to wait for (`wait_for`,
`go_on`); meanwhile what arrives is only collected, and then the session goes on by itself. So
a session needs no task, and a task exists while something is waited for.

- Replies leave in one write when nothing more can be taken now (RFC 2920, 3.2).
- Whoever pipelines more than `STEPS_PER_TURN` commands waits for the others' turn.
- Whoever does not read our replies is not read either, and whoever sends faster than we take is
  not read for a while (`reader`).
- What came before the end of input is still answered.
- Whatever is ours runs inside one boundary, `_advance`: an exception is reported and ends the
  session.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from mailshed.config.policy import SessionLimits
from mailshed.listener.deadlines import SessionTimer
from mailshed.listener.reader import InputBuffer
from mailshed.mail import reply
from mailshed.mail.reply import Reply
from mailshed.supervisor import Supervisor
from mailshed.turnstile import Turnstile

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession

T = TypeVar("T")

Consumer = Callable[["SmtpSession"], bool]
"""Takes something from the input of a session; False if what it needs is not all there."""

# Steps for one session before the others have their turn: with a thousand clients that pipeline,
# each waits for 8,000 steps and not for a thousand times what somebody sends at once.
STEPS_PER_TURN = 8

# Replies that are collected while more commands are buffered: those to one pipelined group of
# usual size leave in one segment. More of them would cost memory.
REPLIES_HELD_MAX = 128


class Turns(ABC):
    """The part of a session that the event loop drives; `SmtpSession` is the rest of it."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport | None
    limits: SessionLimits
    timer: SessionTimer
    tasks: Supervisor
    """Owner of what sessions wait for."""
    departures: Turnstile
    """Where sessions queue whose client has said that it sends no more."""

    _wait: asyncio.Task[None] | None = None
    _is_lost = False

    def __init__(self, first: Consumer) -> None:
        self.reader = InputBuffer()
        """What the client sends."""
        self._consumer = first
        self._then: Callable[[], Any] | None = None
        self._is_advancing = self._is_scheduled = False
        self._is_waiting = self._is_stuffed = self._is_closing = False
        self._out: list[bytes] = []

    @abstractmethod
    def hang_up(self) -> None:
        """Send what is queued, and close the connection."""

    @abstractmethod
    def end(self, last: Reply, verb: str = "other") -> None:
        """Say `last` without being asked, and close the connection."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """End the session for a fault of our own."""

    @abstractmethod
    def expect_command(self) -> None:
        """Expect the next command in its time."""

    # What the event loop calls.

    def data_received(self, data: bytes) -> None:
        """Take what has come, or keep it for later."""
        if self._is_closing:
            return
        self.reader.feed(data)
        if self._is_waiting or self._is_scheduled:
            self.reader.hold_back()
        else:
            self._advance()

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

    # Taking.

    def take_with(self, consumer: Consumer) -> None:
        """Let what the client sends from now on be taken by this."""
        self._consumer = consumer

    def _advance(self) -> None:
        """Take what has come, as far as that is possible now."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            self._take_steps()
            if self._out and not (self._is_scheduled and len(self._out) < REPLIES_HELD_MAX):
                self.flush()
        except Exception as error:  # noqa: BLE001 - the boundary: the client hears 451, never 5xx
            self.fail(error)
        finally:
            self._is_advancing = False

    def _take_steps(self) -> None:
        """Have the consumer take what it can, for as many steps as one turn has."""
        for _ in range(STEPS_PER_TURN):
            if self._then is not None:
                then, self._then = self._then, None
                then()
            if self._is_waiting or self._is_stuffed or self._is_closing:
                self.reader.hold_back()
                return
            if not self._consumer(self):  # type: ignore[arg-type]  # nothing else is made of this
                if self.reader.is_eof_seen:
                    self.hang_up()
                return
        self._schedule()
        self.reader.hold_back()

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
        self.suspend()
        self._wait = self.tasks.spawn(self._do(work, then), name="session")

    async def _do(
        self, work: Callable[[], Awaitable[T]], then: Callable[[T], object] | None
    ) -> None:
        try:
            done = await work()
        except asyncio.CancelledError:
            # Nearly always since the connection is lost, and then this does nothing. But what the
            # work has waited for may have been cancelled, and nobody else would tell the client.
            self.end(reply.INTERNAL)
            raise
        except Exception as error:  # noqa: BLE001 - the boundary, as in `_advance`
            self.fail(error)
        else:
            self._wait = None
            self.expect_command()
            self.go_on(partial(then, done) if then is not None else None)

    def suspend(self) -> None:
        """Take nothing until `go_on`, which whoever asks for this has to see to."""
        self._is_waiting = self.timer.is_paused = True

    def go_on(self, then: Callable[[], Any] | None) -> None:
        """What was waited for is there: do `then`, and take what has come meanwhile."""
        if self._is_closing:
            return
        self._is_waiting = self.timer.is_paused = False
        self._then = then
        self._advance()

    # Replies.

    def flush(self) -> None:
        """Send the queued replies."""
        if self._out and not self._is_closing:
            assert self.transport is not None
            self.transport.write(b"".join(self._out))
            self._out.clear()
