"""Connections to one backend that wait for their next message.

`IdleStack` decides, purely: the connection used last is used first, so that a quiet backend keeps
few connections and the others grow old; one that has waited for `idle_timeout` or has carried
`messages_per_connection` messages is closed. `Pool` obeys: it opens, counts, and says QUIT in the
background, so that no delivery ever waits for a farewell.

A message that finds none idle has one opened, and takes one that others are done with if that comes
first: a server that accepts connections without greeting them, since all its processes are busy,
then costs nobody more than the wait for a process. Attempts are not tied to messages: each serves
whoever has waited longest, and failure is told only to one for whom no other attempt is left.

How many connections there are is not decided here: one message holds one connection, and the gate
bounds how many messages are in flight. Only a connection whose last reply was consumed comes back;
anything else is aborted. A server that says something to an idle connection (421 before a
restart) or closes it takes it off the stack at once.

Times are seconds on the monotonic clock.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from mailshed.clock import Clock
from mailshed.mail.delivery import Deferred, NoReply
from mailshed.relay import unready
from mailshed.relay.backend import BackendConnections
from mailshed.relay.connection import QUIT_TIMEOUT, Connection
from mailshed.supervisor import Supervisor
from mailshed.terms import Stage

C = TypeVar("C")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPolicy:
    """When a connection has served long enough."""

    idle_timeout: float
    """Seconds without a message."""
    messages_per_connection: int


class IdleStack(Generic[C]):
    """Idle connections, oldest first. Pure: it chooses, and does nothing with what it chooses."""

    def __init__(self, policy: PoolPolicy) -> None:
        self._policy = policy
        self._stack: deque[tuple[C, float]] = deque()

    def __len__(self) -> int:
        return len(self._stack)

    def put(self, connection: C, messages: int, now: float) -> bool:
        """Keep a connection that has carried `messages`; False if it is to be closed."""
        if messages >= self._policy.messages_per_connection:
            return False
        self._stack.append((connection, now))
        return True

    def take(self, now: float) -> C | None:
        """Take the connection that was used last, or None if there is no young enough one."""
        if not self._stack or self._stack[-1][1] + self._policy.idle_timeout <= now:
            return None
        return self._stack.pop()[0]

    def remove(self, connection: C) -> None:
        """Forget a connection, if it is here. O(idle)."""
        for entry in self._stack:
            if entry[0] is connection:
                self._stack.remove(entry)
                return

    def expire(self, now: float) -> list[C]:
        """Take out all that have waited too long; the caller closes them."""
        expired: list[C] = []
        while self._stack and self._stack[0][1] + self._policy.idle_timeout <= now:
            expired.append(self._stack.popleft()[0])
        return expired

    def next_expiry(self) -> float | None:
        """When `expire` will have something to do; None if nothing is idle."""
        return self._stack[0][1] + self._policy.idle_timeout if self._stack else None

    def clear(self) -> list[C]:
        """Take out all; the caller closes them."""
        everything = [connection for connection, _ in self._stack]
        self._stack.clear()
        return everything


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    """A message that needs a connection."""

    found: "asyncio.Future[Connection | Deferred]"
    since: float


class Pool:
    """The connections of one backend. Each one taken must be given back or dropped.

    `on_crowded` is told when a new connection was not greeted in time while so many others were
    served: the server accepts more than it has processes for.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection | Deferred]],
        policy: PoolPolicy,
        clock: Clock,
        *,
        on_crowded: Callable[[int], None] = lambda _connections: None,
    ) -> None:
        self._connect = connect
        self._policy = policy
        self._clock = clock
        self._on_crowded = on_crowded
        self._idle: IdleStack[Connection] = IdleStack(policy)
        self._waiters: deque[_Waiter] = deque()
        self._dials = 0
        """Connections that are being opened: at least as many as there are waiters."""
        self._given_back_at = float("-inf")
        self._dialing = Supervisor(_report)
        self._farewells = Supervisor(_report)
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._busy: set[Connection] = set()
        self._opened = 0
        self._failed = 0
        self._reused = 0

    def take_idle(self) -> Connection | None:
        """Take an open connection that is known to be good so far; None if there is none."""
        connection = self._idle.take(self._clock.monotonic())
        if connection is not None:
            assert connection.wire.is_idle
            connection.connect_seconds = 0.0
            self._busy.add(connection)
            self._reused += 1
        return connection

    async def open(self) -> Connection | Deferred:
        """Open a new connection, or take one that others are done with before it is there.

        Deferred if the backend is away.
        """
        while True:
            found = await self._wait()
            # It may have been closed since its last message, while it was on its way to us.
            if isinstance(found, Deferred) or found.wire.fault is None or not found.messages:
                return found
            self.give_back(found)

    async def _wait(self) -> Connection | Deferred:
        if self._is_closed:
            return unready.stopping()
        waiter = _Waiter(asyncio.get_running_loop().create_future(), self._clock.monotonic())
        self._waiters.append(waiter)
        if self._dials < len(self._waiters):
            self._dials += 1
            self._dialing.spawn(self._dial(), "connect")
        try:
            return await waiter.found
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.found.done() and not waiter.found.cancelled():
                found = waiter.found.result()
                if isinstance(found, Connection):
                    self.give_back(found)
            raise

    async def _dial(self) -> None:
        """Open one connection, for whoever has waited longest by then."""
        began = self._clock.monotonic()
        try:
            made = await self._connect()
        except Exception as error:
            # As if nobody were there: whoever is told tries again, and something has to pace that.
            self._end_dial(Deferred(Stage.CONNECT, None, f"internal error: {error!r}"))
            raise
        except asyncio.CancelledError:
            self._end_dial(unready.stopping())
            raise
        if isinstance(made, Deferred):
            self._failed += 1
            was_served = self._given_back_at > began
            if made.no_reply is NoReply.TIMED_OUT and was_served and (others := len(self._busy)):
                self._on_crowded(others + len(self._idle))
            self._end_dial(made)
            return
        self._dials -= 1
        self._opened += 1
        made.wire.on_break = partial(self._idle.remove, made)
        if not self._hand_over(made):
            self._put_aside(made, self._clock.monotonic())

    def _end_dial(self, failure: Deferred) -> None:
        """Tell the one who has waited longest, if there is no other attempt for him."""
        self._dials -= 1
        waiting = sum(not waiter.found.done() for waiter in self._waiters)
        if waiting > self._dials and (waiter := self._next_waiter()):
            waiter.found.set_result(failure)

    def _next_waiter(self) -> _Waiter | None:
        """Take out who has waited longest and has not been cancelled a moment ago."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.found.done():
                return waiter
        return None

    def _hand_over(self, connection: Connection) -> bool:
        """Give a connection to whoever has waited longest, if anybody does."""
        waiter = self._next_waiter()
        if waiter is None:
            return False
        self._busy.add(connection)
        connection.connect_seconds = self._clock.monotonic() - waiter.since
        waiter.found.set_result(connection)
        return True

    def give_back(self, connection: Connection) -> None:
        """Return a connection after its mail transaction; one in an unknown state is aborted."""
        self._busy.remove(connection)
        if not connection.wire.is_idle:
            connection.wire.abort()
            return
        now = self._given_back_at = self._clock.monotonic()
        if connection.is_spent or connection.is_used_up:
            self._say_quit(connection)
        elif (
            self._waiters
            and not self._is_closed
            and connection.messages < self._policy.messages_per_connection
            and self._hand_over(connection)
        ):
            self._reused += 1
        else:
            self._put_aside(connection, now)

    def _put_aside(self, connection: Connection, now: float) -> None:
        """Keep a connection that nobody waits for, or close it."""
        if self._is_closed or not self._idle.put(connection, connection.messages, now):
            self._say_quit(connection)
        elif self._sweeper is None:
            self._schedule_sweep()

    def retire(self, connection: Connection) -> None:
        """Close a connection that is good, but not for the message that has taken it."""
        self._busy.remove(connection)
        self._say_quit(connection)

    def drop(self, connection: Connection) -> None:
        """Abort a connection whose mail transaction did not come to its end."""
        self._busy.remove(connection)
        connection.wire.abort()

    def connections(self) -> BackendConnections:
        """How they stand now; those that only wait for the reply to QUIT do not count."""
        return BackendConnections(
            busy=len(self._busy),
            idle=len(self._idle),
            opened_total=self._opened,
            failed_total=self._failed,
            reused_total=self._reused,
        )

    def abandon(self) -> None:
        """Abort every connection that is in use, and open no more."""
        self._is_closed = True
        self._give_up_waiting()
        for connection in list(self._busy):
            connection.wire.abort()

    async def close(self) -> None:
        """Say QUIT on all idle connections, wait for it briefly, and open no more."""
        self._is_closed = True
        self._give_up_waiting()
        await self._dialing.cancel_all()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in self._idle.clear():
            self._say_quit(connection)
        await self._farewells.join(QUIT_TIMEOUT + 1.0)

    def _give_up_waiting(self) -> None:
        while waiter := self._next_waiter():
            waiter.found.set_result(unready.stopping())

    def _say_quit(self, connection: Connection) -> None:
        self._farewells.spawn(connection.quit(), "quit")

    def _schedule_sweep(self) -> None:
        expiry = self._idle.next_expiry()
        if expiry is None:
            self._sweeper = None
            return
        # Never sooner than a second from now: connections that expire together go together.
        delay = max(1.0, expiry - self._clock.monotonic())
        self._sweeper = asyncio.get_running_loop().call_later(delay, self._sweep)

    def _sweep(self) -> None:
        for connection in self._idle.expire(self._clock.monotonic()):
            self._say_quit(connection)
        self._schedule_sweep()


def _report(name: str, error: BaseException) -> None:
    """Tell the loop of a fault of ours; a farewell has nobody else to tell."""
    asyncio.get_running_loop().call_exception_handler(
        {"message": f"{name} failed", "exception": error}
    )
