"""`SmtpBackend`: a mail server behind us, reached over pooled connections.

The pool gives a connection, `transaction.run` speaks on it, and the connection goes back if its
dialog came to an end. What is added here is one rule: a pooled connection may have died while
nobody looked (the server's idle timeout, its restart), and the first command finds out. Then the
message is tried once more on a new connection, as nothing of it has been judged.

Where the backend is told whose message it gets (XCLIENT), a connection on which somebody was named
is no longer ours, so mail of our own goes over another one.

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
from mailshed.relay.introduction import suits
from mailshed.relay.manner import PLAIN, Identity, Manner
from mailshed.relay.pool import Pool, PoolPolicy


def _ignore(_message: OutboundMessage, _result: TransactionResult) -> None:
    """Nobody wants to know."""


def _ignore_trouble(_detail: str) -> None:
    """Nobody wants to know that either."""


class SmtpBackend:
    """A mail server. Implements `mailshed.relay.backend.Backend`.

    `on_result` is told of every dialog about a message, live or from the spool; `on_crowded`, as of
    the pool, that the server greets no more than so many connections; `on_trouble`, when it begins,
    what keeps the server from being told whose message it gets, and with an empty text when that
    works again.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        connect_timeout: float,
        command_timeout: float,
        dot_timeout: float,
        idle_timeout: float,
        messages_per_connection: int,
        clock: Clock,
        on_result: Callable[[OutboundMessage, TransactionResult], None] = _ignore,
        on_crowded: Callable[[int], None] = lambda _connections: None,
        manner: Manner = PLAIN,
        on_trouble: Callable[[str], None] = _ignore_trouble,
    ) -> None:
        self._name = name
        self._clock = clock
        self._on_result = on_result
        self._manner = manner
        self._on_trouble = on_trouble
        self._trouble = ""
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

    @property
    def answers_each_recipient(self) -> bool:
        """See `Backend.answers_each_recipient`."""
        return self._manner.is_lmtp

    async def deliver(self, message: OutboundMessage) -> TransactionResult:
        """Run one mail transaction to its end; see `Backend.deliver`."""
        found: Connection | Deferred | None = self._pool.take_idle()
        began, is_new = 0.0, False
        while True:
            if found is None:
                began = self._clock.monotonic()
                found = await self._pool.open()
                is_new = isinstance(found, Connection) and not found.messages
            if isinstance(found, Deferred):
                break
            if self._manner.identity is Identity.XCLIENT and not suits(found, message.origin):
                self._pool.retire(found)
                found = None
                continue
            try:
                result = await transaction.run(found, message, self._clock, self._manner)
            except BaseException:
                self._pool.drop(found)
                raise
            if self._settle(found, message, result) or is_new:
                return result
            found = None
        return TransactionResult(
            recipients=everyone(found, len(message.recipients)),
            times=StageTimes(connect=self._clock.monotonic() - began),
            is_backend_away=True,
        )

    def _settle(
        self, connection: Connection, message: OutboundMessage, result: TransactionResult
    ) -> bool:
        """Give the connection back and tell of the result; False if it was dead before."""
        self._pool.give_back(connection)
        if connection.trouble is not None and connection.trouble != self._trouble:
            self._trouble = connection.trouble
            self._on_trouble(self._trouble)
        if transaction.is_stale(connection):
            return False
        self._on_result(message, result)
        return True

    def connections(self) -> BackendConnections:
        """How the connections stand now."""
        return self._pool.connections()

    def abandon(self) -> None:
        """End all dialogs now; see `Backend.abandon`."""
        self._pool.abandon()

    async def close(self) -> None:
        """Close idle connections politely (QUIT) and stop; safe to call twice."""
        await self._pool.close()
