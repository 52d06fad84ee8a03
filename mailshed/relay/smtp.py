"""`SmtpBackend`: a mail server behind us, reached over pooled connections.

The pool gives a connection, `transaction.run` speaks on it, and the connection goes back if its
dialog came to an end. What is added here is one rule: a pooled connection may have died while
nobody looked (the server's idle timeout, its restart), and the first command finds out. Then the
message is tried once more on a new connection, as nothing of it has been judged.

Whoever is cancelled in the middle loses the connection: a reply that is still on its way would
answer the next message's command.
"""

from collections.abc import Callable
from functools import partial

from mailshed.clock import Clock
from mailshed.mail.delivery import Deferred, StageTimes, TransactionResult, everyone
from mailshed.relay import transaction
from mailshed.relay.backend import BackendConnections, OutboundMessage
from mailshed.relay.connection import Address, Connection, Timeouts, open_connection
from mailshed.relay.pool import Pool, PoolPolicy


def _ignore(_message: OutboundMessage, _result: TransactionResult) -> None:
    """Nobody wants to know."""


class SmtpBackend:
    """A mail server. Implements `mailshed.relay.backend.Backend`.

    `on_result` is told of every dialog about a message, live or from the spool; `on_crowded`, as of
    the pool, that the server greets no more than so many connections.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        hostname: str,
        connect_timeout: float,
        command_timeout: float,
        dot_timeout: float,
        idle_timeout: float,
        messages_per_connection: int,
        clock: Clock,
        on_result: Callable[[OutboundMessage, TransactionResult], None] = _ignore,
        on_crowded: Callable[[int], None] = lambda _connections: None,
    ) -> None:
        self._name = name
        self._clock = clock
        self._on_result = on_result
        address = Address(host=host, port=port, hostname=hostname)
        timeouts = Timeouts(connect=connect_timeout, command=command_timeout, dot=dot_timeout)
        policy = PoolPolicy(
            idle_timeout=idle_timeout, messages_per_connection=messages_per_connection
        )
        self._pool = Pool(
            partial(open_connection, address, timeouts), policy, clock, on_crowded=on_crowded
        )

    @property
    def name(self) -> str:
        """Name in logs and metrics."""
        return self._name

    async def deliver(self, message: OutboundMessage) -> TransactionResult:
        """Run one mail transaction to its end; see `Backend.deliver`."""
        found: Connection | Deferred | None = self._pool.take_idle()
        began, is_new = self._clock.monotonic(), False
        while True:
            if found is None:
                found = await self._pool.open()
                is_new = isinstance(found, Connection) and not found.messages
            if isinstance(found, Deferred):
                break
            result = await self._run(found, message)
            if is_new or not transaction.is_stale(found):
                return result
            found, began = None, self._clock.monotonic()
        return TransactionResult(
            recipients=everyone(found, len(message.recipients)),
            times=StageTimes(connect=self._clock.monotonic() - began),
            is_backend_away=True,
        )

    async def _run(self, connection: Connection, message: OutboundMessage) -> TransactionResult:
        try:
            result = await transaction.run(connection, message, self._clock)
        except BaseException:
            self._pool.drop(connection)
            raise
        self._pool.give_back(connection)
        if not transaction.is_stale(connection):
            self._on_result(message, result)
        return result

    def connections(self) -> BackendConnections:
        """How the connections stand now."""
        return self._pool.connections()

    def abandon(self) -> None:
        """End all dialogs now; see `Backend.abandon`."""
        self._pool.abandon()

    async def close(self) -> None:
        """Close idle connections politely (QUIT) and stop; safe to call twice."""
        await self._pool.close()
