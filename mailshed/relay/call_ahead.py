"""Asking the backend whether it takes mail for an address, without sending any.

MAIL, RCPT and RSET leave in one write, and the answer to RCPT is the answer. All addresses that
wait share one connection, one after the other; a question that is already on its way is not asked
again, its askers share the answer. A second connection is opened only when the first has its
greeting and an address has waited for a second all the same (servers hold back the refusal of an
unknown user, Exchange for five seconds): where the first gets no process of the server, another
one would not either.

A server may have few processes, and the mail needs them. So these connections are not part of the
pool of deliveries; one is closed after a second without a question, or at once while the backend is
short of room (`is_pressed`). It is also closed before the server loses patience: Postfix slows a
session down after ten errors (`smtpd_soft_error_limit`), and counts a RSET without mail as junk
after a hundred (`smtpd_junk_command_limit`).

Every question ends: with an answer, or with `Unsure` without a reply when the backend is silent.
Then all that wait end in the same way, since they would wait for the same silence.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mailshed.admission.recipients import Finding, Unsure, finding_of
from mailshed.clock import Clock
from mailshed.errors import ConnectionLost
from mailshed.mail.delivery import Deferred
from mailshed.mail.reply import Reply
from mailshed.relay.connection import Connection, Timeouts
from mailshed.supervisor import Supervisor
from mailshed.terms import Stage

ANSWER_TIMEOUT = 10.0
"""Seconds for the greeting and for each reply; nobody waits so long, but the answer is kept."""
IDLE_SECONDS = 1.0
"""How long a connection waits for the next question."""
PATIENCE = 1.0
"""Seconds after which a question that has not begun may open the second connection."""
CONNECTIONS_MAX = 2
QUESTIONS_PER_CONNECTION = 50
REFUSALS_PER_CONNECTION = 9
QUESTIONS_MAX = 1000
"""Questions that may wait; further ones are not asked."""

CLOSE_SECONDS = 1.0
"""Seconds for dialogs and farewells when the service stops."""

_GIVEN_UP = Unsure(None, "the backend gives no answers")
# RSET has no stage of a message: nothing of one depends on it.
_STAGES = (Stage.MAIL, Stage.RCPT, Stage.QUIT)


@dataclass(slots=True)
class _Line:
    """One connection, and how much it has been used."""

    connection: Connection
    questions: int = 0
    refusals: int = 0

    @property
    def is_worn(self) -> bool:
        return (
            self.questions >= QUESTIONS_PER_CONNECTION or self.refusals >= REFUSALS_PER_CONNECTION
        )

    @property
    def is_stale(self) -> bool:
        """Whether it had died before the last question, which only found that out."""
        fault = self.connection.wire.fault
        is_lost = isinstance(fault, ConnectionLost) and fault.stage is Stage.MAIL
        return is_lost and self.questions > 1

    async def ask(self, sender: bytes, path: bytes) -> Finding:
        """Run the dialog about one address; afterwards the wire may have a fault."""
        self.questions += 1
        commands = (b"MAIL FROM:<%b>" % sender, b"RCPT TO:<%b>" % path, b"RSET")
        replies = await self._exchange(commands)
        wire = self.connection.wire
        if not replies:
            return Unsure(None, str(wire.fault))
        if not replies[0].is_success:
            said = replies[0].text[:80]
            return Unsure(None, f"MAIL FROM:<{sender.decode()}> was answered: {said}")
        if len(replies) < 2 or replies[1].code == 421:  # a 421 is about the connection
            return Unsure(None, str(wire.fault))
        if wire.fault is None and not replies[2].is_success:
            wire.abort()
        self.refusals += replies[1].code >= 400
        return finding_of(replies[1])

    async def _exchange(self, commands: tuple[bytes, ...]) -> list[Reply]:
        wire, timeout = self.connection.wire, self.connection.timeouts.command
        if self.connection.offers.pipelining:
            return await wire.exchange(commands, _STAGES, timeout)
        replies: list[Reply] = []
        for command, stage in zip(commands, _STAGES, strict=True):
            replies += await wire.exchange((command,), (stage,), timeout)
            if wire.fault is not None:
                break
        return replies


def question_timeouts(command_timeout: float) -> Timeouts:
    """How long a question may take, of a backend whose replies may take `command_timeout`."""
    seconds = min(command_timeout, ANSWER_TIMEOUT)
    return Timeouts(connect=seconds, command=seconds, dot=seconds)


class CallAhead:
    """Asks one backend. `connect` opens a connection that has been greeted."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection | Deferred]],
        *,
        is_pressed: Callable[[], bool],
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.sender = b""
        """The reverse-path of questions from now on."""
        self._connect = connect
        self._is_pressed = is_pressed
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._tasks = Supervisor(on_failure)
        self._answers: dict[bytes, asyncio.Future[Finding]] = {}
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._arrived = asyncio.Event()
        self._workers = 0
        self._connected = 0
        self._helper: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def ask(self, path: bytes) -> "asyncio.Future[Finding]":
        """Ask whether the backend takes `path`. The answer may be waited for by many: shield it.

        The future never holds an exception and is never cancelled by us.
        """
        answer = self._answers.get(path)
        if answer is not None:
            return answer
        answer = asyncio.get_running_loop().create_future()
        count = max(len(self._answers), len(self._waiting))
        if self._is_stopped or count >= QUESTIONS_MAX:
            answer.set_result(Unsure(None, "too many questions, or the service is stopping"))
            return answer
        self._answers[path] = answer
        self._waiting.append((path, self._clock.monotonic()))
        self._arrived.set()
        if not self._workers:
            self._hire()
        elif self._helper is None:
            self._watch()
        return answer

    def settle(self, path: bytes, found: Finding) -> None:
        """Answer a question from elsewhere; if it has not been asked yet, it is not any more."""
        answer = self._answers.pop(path, None)
        if answer is not None and not answer.done():
            answer.set_result(found)

    def stop(self) -> None:
        """Ask nothing more; whoever waits is told so."""
        self._is_stopped = True
        if self._helper is not None:
            self._helper.cancel()
            self._helper = None
        for path in list(self._answers):
            self.settle(path, Unsure(None, "the service is stopping"))
        self._waiting.clear()
        self._arrived.set()

    async def close(self) -> None:
        """Stop, and close the connections; those that are in a dialog are cut off."""
        self.stop()
        await self._tasks.join(CLOSE_SECONDS)
        await self._tasks.cancel_all()

    # Workers: each has at most one connection.

    def _hire(self) -> None:
        self._workers += 1
        self._tasks.spawn(self._work(), "call-ahead")

    def _watch(self) -> None:
        """Look in a moment whether the questions go through."""
        self._helper = asyncio.get_running_loop().call_later(PATIENCE, self._help)

    def _help(self) -> None:
        self._helper = None
        self._skip_settled()
        if not self._waiting or not self._workers:
            return
        is_slow = self._clock.monotonic() - self._waiting[0][1] >= PATIENCE
        has_room = self._connected == self._workers < CONNECTIONS_MAX
        if is_slow and has_room and not self._is_pressed():
            self._hire()
        self._watch()

    async def _work(self) -> None:
        """Answer questions until none has come for a while, or the backend is silent."""
        line: _Line | None = None
        path: bytes | None = None
        try:
            while (path := await self._next(line)) is not None:
                found, line = await self._serve(path, line)
                if isinstance(found, Deferred):
                    if self._workers > 1:  # the other one has or had a connection: its turn
                        self._waiting.appendleft((path, self._clock.monotonic()))
                        self._arrived.set()
                        path = None
                        break
                    found = Unsure(None, _reason(found))
                self.settle(path, found)
                if _is_silent(found):
                    break
        finally:
            self._workers -= 1
            if line is not None:
                self._hang_up(line)
            if path is not None:
                self.settle(path, _GIVEN_UP)
            if not self._workers:
                self._settle_all(_GIVEN_UP)

    async def _next(self, line: _Line | None) -> bytes | None:
        """The address to ask about next; None if there is none, and none comes soon."""
        self._skip_settled()
        if not self._waiting and line is not None and not (self._is_pressed() or self._is_stopped):
            self._arrived.clear()
            try:
                async with asyncio.timeout(self._idle_seconds):
                    await self._arrived.wait()
            except TimeoutError:
                pass
            self._skip_settled()
        return self._waiting.popleft()[0] if self._waiting else None

    def _skip_settled(self) -> None:
        while self._waiting and self._waiting[0][0] not in self._answers:
            self._waiting.popleft()

    async def _serve(
        self, path: bytes, line: _Line | None
    ) -> tuple[Finding | Deferred, _Line | None]:
        """Ask about `path`, over `line` if it is still good; return the line that still is."""
        if line is not None and line.connection.wire.fault is not None:
            self._forget(line)  # the server has closed it meanwhile, or said 421
            line = None
        if line is not None and line.is_worn:
            self._hang_up(line)
            line = None
        while True:
            if line is None:
                opened = await self._connect()
                if isinstance(opened, Deferred):
                    return opened, None
                line = _Line(opened)
                self._connected += 1
            try:
                found = await line.ask(self.sender, path)
            except BaseException:
                self._forget(line)
                raise
            if line.connection.wire.fault is None:
                return found, line
            self._forget(line)
            if not line.is_stale:
                return found, None
            line = None

    def _hang_up(self, line: _Line) -> None:
        """Say QUIT, in the background."""
        self._connected -= 1
        self._tasks.spawn(line.connection.quit(), "quit")

    def _forget(self, line: _Line) -> None:
        self._connected -= 1
        line.connection.wire.abort()

    def _settle_all(self, found: Finding) -> None:
        while self._waiting:
            self.settle(self._waiting.popleft()[0], found)


def _is_silent(found: Finding) -> bool:
    return isinstance(found, Unsure) and found.reply is None


def _reason(failed: Deferred) -> str:
    return failed.reply.text if failed.reply is not None else failed.detail
