"""Adoption: the client cannot wait for the backend's answer any longer, and we cannot send again.

Our final dot is out, so the backend may have the message, and whoever sends it once more makes a
second copy. What can be done is to keep a durable copy, tell the client 250, and let the backend's
late answer settle the copy: 2xx removes it, 4xx leaves it to the drain, 5xx returns it, and no
answer at all puts it in doubt. A second copy is possible only if the process dies between the
backend's 250 and our mark; each adopted message counts among the unsettled ones, whose number is
the bound on that.

From before its commit until it is settled the copy is in the hands of the drain, so that nobody
takes it from the spool. If nothing can be stored the client keeps waiting, and the commit is tried
again: as long as neither the backend nor the spool has answered, there is nothing to say.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from mailshed.errors import SpoolError
from mailshed.journal import Journal
from mailshed.mail import reply
from mailshed.mail.delivery import InDoubt, TransactionResult, everyone
from mailshed.mail.reply import Reply
from mailshed.message import Message
from mailshed.spool.store import SpoolRecord, SpoolStore
from mailshed.supervisor import Supervisor
from mailshed.terms import QueueId, Reason

COMMIT_PAUSE = 5.0
"""Seconds after which a commit that failed is tried again."""


class Custody(Protocol):
    """Who keeps the drain from a message, and reports its success: the drain itself."""

    def adopt(self, queue_id: QueueId, traffic_class: str, route: str, taker: str) -> None:
        """Take the message in hand, before there is a copy of it.

        `route` is what the copy will be for, `taker` the backend that has the message.
        """
        ...

    def disown(self, queue_id: QueueId) -> None:
        """Let go of a message of which no copy was made."""
        ...

    def tell_of_success(self, message: Message, result: TransactionResult) -> Awaitable[None]:
        """Report a message that the backend took, as its sender asked; it was never in hand."""
        ...

    def settle_adopted(self, record: SpoolRecord, result: TransactionResult) -> Awaitable[None]:
        """Write down what became of the copy, and let go of it."""
        ...


class Adoption:
    """The adoption of one message that the backend `taker` has, should it come to that.

    `lifetime` is in seconds.
    """

    def __init__(
        self,
        message: Message,
        *,
        taker: str,
        lifetime: float,
        answer: Callable[[Reply], None],
        spool: SpoolStore,
        custody: Custody,
        supervisor: Supervisor,
        journal: Journal,
    ) -> None:
        self._message = message
        self._taker = taker
        self._lifetime = lifetime
        self._answer = answer
        self._spool = spool
        self._custody = custody
        self._supervisor = supervisor
        self._journal = journal
        self._timer: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[None] | None = None
        self._is_over = asyncio.Event()
        self._copy: SpoolRecord | None = None

    def begin_at(self, when: float) -> None:
        """Adopt the message at `when` (the event loop's time) unless it has ended before."""
        self._timer = asyncio.get_running_loop().call_at(when, self._begin)

    async def end(self, result: TransactionResult | None) -> bool:
        """The transaction with the backend has ended; False if the message was not adopted.

        If it was, the client has its reply, and the copy is settled by `result` (None: a fault of
        ours, so nobody knows).
        """
        if self._timer is not None:
            self._timer.cancel()
        if self._work is None:
            return False
        self._is_over.set()
        with suppress(Exception):  # the supervisor has reported it; what counts is the copy
            await self._work
        envelope = self._message.envelope
        if self._copy is None:
            self._custody.disown(envelope.queue_id)
            return False
        if result is None:
            doubt = everyone(InDoubt("internal error"), len(envelope.recipients))
            result = TransactionResult(recipients=doubt)
        await self._custody.settle_adopted(self._copy, result)
        return True

    def _begin(self) -> None:
        self._work = self._supervisor.spawn(
            self._adopt(), name=f"adopt {self._message.envelope.queue_id}"
        )

    async def _adopt(self) -> None:
        """Commit a copy and answer the client, unless the backend is faster or the client gone."""
        message = self._message
        queue_id = message.envelope.queue_id
        self._custody.adopt(queue_id, message.traffic_class.name, message.route, self._taker)
        record = message.record(reason=Reason.ADOPTED, in_doubt=0, lifetime=self._lifetime)
        while not self._is_over.is_set() and not message.is_client_gone():
            try:
                await self._spool.add(record, message.chunks())
            except SpoolError:
                with suppress(TimeoutError):
                    async with asyncio.timeout(COMMIT_PAUSE):
                        await self._is_over.wait()
                continue
            self._copy = record
            self._journal.spooled(message, Reason.ADOPTED)
            self._answer(reply.queued(queue_id))
            return
