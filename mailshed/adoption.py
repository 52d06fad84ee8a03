"""The end of a client's patience while the backend has its message: break off, or adopt.

Before our final dot the transaction is broken off, since nothing was handed over.

After it the backend may have the message, and whoever sends it once more makes a second copy. What
can be done is to adopt it: keep a durable copy, tell the client 250, and let the backend's late
answer settle the copy: 2xx removes it, 4xx leaves it to the drain, 5xx returns it, and no answer at
all puts it in doubt. A second copy is possible only if the process dies between the backend's 250
and our mark; each adopted message counts among the unsettled ones, whose number is the bound on
that.

From before its commit until it is settled the copy is in the hands of the drain, so that nobody
takes it from the spool. If nothing can be stored the client keeps waiting, and the commit is tried
again: as long as neither the backend nor the spool has answered, there is nothing to say.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from mailshed.alarms import Alarms
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


class Adopter:
    """What all adoptions of one service have in common."""

    def __init__(
        self, *, spool: SpoolStore, custody: Custody, supervisor: Supervisor, journal: Journal
    ) -> None:
        self.spool = spool
        self.custody = custody
        self.supervisor = supervisor
        self.journal = journal
        self.alarms = Alarms()


class Adoption:
    """One message whose transaction with the backend `taker` begins now, in the current task.

    The client is to have its answer at `respond_at`, by the event loop's time. `lifetime` of a copy
    is in seconds.
    """

    __slots__ = (
        *("rings_at", "_adopter", "_answer", "_cancelling", "_copy", "_is_broken_off", "_is_over"),
        *("_lifetime", "_message", "_taker", "_task", "_work"),
    )

    def __init__(
        self,
        adopter: Adopter,
        message: Message,
        *,
        taker: str,
        lifetime: float,
        respond_at: float,
        answer: Callable[[Reply], None],
    ) -> None:
        self._adopter = adopter
        self._message = message
        self._taker = taker
        self._lifetime = lifetime
        self._answer = answer
        task = asyncio.current_task()
        assert task is not None, "the transaction of a message is a task"
        self._task: asyncio.Task[object] | None = task
        """Whom to break off; None once our final dot is out."""
        self._cancelling = task.cancelling()
        self._is_broken_off = False
        self._work: asyncio.Task[None] | None = None
        self._is_over: asyncio.Event | None = None
        self._copy: SpoolRecord | None = None
        self.rings_at = respond_at
        adopter.alarms.set(self)

    def may_send_dot(self) -> bool:
        """Asked right before our final dot: whether the client is there. From then on we adopt."""
        if self._message.is_client_gone():
            return False
        self._task = None
        return True

    def was_broken_off(self) -> bool:
        """Whether it was us, and nobody besides, who cancelled the transaction."""
        task = self._task
        return self._is_broken_off and task is not None and task.uncancel() <= self._cancelling

    def ring(self) -> None:
        """The client's patience has ended."""
        if self._task is not None:
            self._is_broken_off = True
            self._task.cancel()
            return
        self._is_over = asyncio.Event()
        queue_id = self._message.envelope.queue_id
        self._work = self._adopter.supervisor.spawn(
            self._adopt(self._is_over), name=f"adopt {queue_id}"
        )

    async def end(self, result: TransactionResult | None) -> bool:
        """The transaction with the backend has ended; False if the message was not adopted.

        If it was, the client has its reply, and the copy is settled by `result` (None: a fault of
        ours, so nobody knows).
        """
        self._adopter.alarms.clear(self)
        if self._work is None or self._is_over is None:
            return False
        self._is_over.set()
        with suppress(Exception):  # the supervisor has reported it; what counts is the copy
            await self._work
        envelope = self._message.envelope
        custody = self._adopter.custody
        if self._copy is None:
            custody.disown(envelope.queue_id)
            return False
        if result is None:
            doubt = everyone(InDoubt("internal error"), len(envelope.recipients))
            result = TransactionResult(recipients=doubt)
        await custody.settle_adopted(self._copy, result)
        return True

    async def _adopt(self, is_over: asyncio.Event) -> None:
        """Commit a copy and answer the client, unless the backend is faster or the client gone."""
        message, adopter = self._message, self._adopter
        queue_id = message.envelope.queue_id
        adopter.custody.adopt(queue_id, message.traffic_class.name, message.route, self._taker)
        record = message.record(reason=Reason.ADOPTED, in_doubt=0, lifetime=self._lifetime)
        while not is_over.is_set() and not message.is_client_gone():
            try:
                await adopter.spool.add(record, message.chunks())
            except SpoolError:
                with suppress(TimeoutError):
                    async with asyncio.timeout(COMMIT_PAUSE):
                        await is_over.wait()
                continue
            self._copy = record
            adopter.journal.spooled(message, Reason.ADOPTED)
            self._answer(reply.queued(queue_id))
            return
