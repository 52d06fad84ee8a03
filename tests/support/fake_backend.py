"""A backend in the process that answers as a test tells it, without sockets.

Left alone it takes every message. `once` and `always` put other answers in their place; an answer
is a function from the message to the end of its transaction, of which this module has the usual
ones. It keeps to the contract of `mailshed.relay.backend.Backend`: it asks `may_send_dot` right
before the dot, sends no message that some recipients refused unless `partial_ok`, and says nothing
about what it did not do.

`before_dot` and `after_dot` are doors: clear them and messages stand there until they are set
again. `seconds` is how long a transaction takes.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from mailshed.errors import ClientGone
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    StageTimes,
    TransactionResult,
    everyone,
)
from mailshed.mail.reply import Reply
from mailshed.relay.backend import BackendConnections, OutboundMessage
from mailshed.terms import QueueId, Stage
from tests.support.builders import BUSY, OK, REFUSED, away

Answer = Callable[[OutboundMessage], TransactionResult]
_MIXED = Deferred(Stage.RCPT, None, "other recipients were refused")


@dataclass(frozen=True, slots=True)
class Handed:
    """What the backend took responsibility for."""

    queue_id: QueueId
    recipients: tuple[bytes, ...]
    """Those it said 2xx for, and those whom it may have taken without a word."""
    content: bytes
    is_answered: bool = True


def take(message: OutboundMessage) -> TransactionResult:
    """2xx to the dot."""
    return TransactionResult(recipients=everyone(Delivered(OK), len(message.recipients)))


def refuse(answer: Reply = REFUSED, stage: Stage = Stage.RCPT) -> Answer:
    """5xx for everyone."""
    return lambda m: TransactionResult(
        recipients=everyone(Bounced(stage, answer), len(m.recipients))
    )


def defer(answer: Reply | None = BUSY, stage: Stage = Stage.RCPT) -> Answer:
    """4xx for everyone; without `answer`, the connection broke at `stage`."""
    return lambda m: TransactionResult(
        recipients=everyone(Deferred(stage, answer), len(m.recipients))
    )


def be_away(message: OutboundMessage) -> TransactionResult:
    """Refuse the connection."""
    return away(len(message.recipients))


def vanish(message: OutboundMessage) -> TransactionResult:
    """Break off after the dot without a word."""
    return TransactionResult(
        recipients=everyone(InDoubt("connection lost"), len(message.recipients))
    )


def sort_out(verdicts: dict[bytes, DeliveryResult]) -> Answer:
    """Judge recipients one by one; those not in `verdicts` are taken."""

    def answer(message: OutboundMessage) -> TransactionResult:
        found = [verdicts.get(path) for path, _ in message.recipients]
        rest: DeliveryResult = Delivered(OK)
        if any(found) and not message.partial_ok:
            rest = _MIXED
        return TransactionResult(recipients=tuple(each or rest for each in found))

    return answer


def fail(error: Exception) -> Answer:
    """Raise, which a backend never does."""

    def answer(message: OutboundMessage) -> TransactionResult:
        raise error

    return answer


def _is_after_dot(result: DeliveryResult) -> bool:
    """Whether this can only be said once the message has been sent."""
    return isinstance(result, Delivered | InDoubt) or result.stage is Stage.DOT


class FakeBackend:
    """The backend; see the module."""

    def __init__(self, name: str = "fake") -> None:
        self._name = name
        self.answers_each_recipient = False
        self.seconds = 0.0
        self.before_dot, self.after_dot = asyncio.Event(), asyncio.Event()
        self.before_dot.set()
        self.after_dot.set()
        self.asked: list[OutboundMessage] = []
        """Every message, in the order in which its transaction began."""
        self.handed: list[Handed] = []
        self.in_flight = 0
        self.in_flight_max = 0
        self.on_answer: Callable[[OutboundMessage, TransactionResult], None] = lambda _m, _r: None
        """Called with the end of each transaction, right before it is returned."""
        self._plain: Answer = take
        self._once: deque[Answer] = deque()
        self.is_closed = False
        self.is_abandoned = False

    @property
    def name(self) -> str:
        return self._name

    def once(self, *answers: Answer) -> None:
        """Give each of `answers` once, in order, to the next messages."""
        self._once.extend(answers)

    def always(self, answer: Answer) -> None:
        """Give `answer` from now on."""
        self._plain = answer

    @property
    def asked_ids(self) -> list[QueueId]:
        """Queue ids in the order in which transactions began."""
        return [message.queue_id for message in self.asked]

    @property
    def handed_ids(self) -> list[QueueId]:
        """Queue ids of what was handed over, in order; an id twice is a duplicate."""
        return [each.queue_id for each in self.handed]

    async def deliver(self, message: OutboundMessage) -> TransactionResult:
        self.asked.append(message)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            return await self._deliver(message)
        finally:
            self.in_flight -= 1

    async def _deliver(self, message: OutboundMessage) -> TransactionResult:
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = self._once.popleft() if self._once else self._plain
        content = b"".join([chunk async for chunk in message.stream()])
        assert len(content) == message.size
        await self.before_dot.wait()
        if self.seconds:
            await asyncio.sleep(self.seconds)
        result = answer(message)
        if any(_is_after_dot(each) for each in result.recipients):
            if not message.may_send_dot():
                raise ClientGone("the client left before the dot")
            if any(isinstance(each, Delivered | InDoubt) for each in result.recipients):
                self._hand(message, result, content)
            await self.after_dot.wait()
            if self.is_abandoned:
                result = replace(result, recipients=vanish(message).recipients)
        result = replace(result, times=StageTimes(service=loop.time() - began))
        self.on_answer(message, result)
        return result

    def _hand(self, message: OutboundMessage, result: TransactionResult, content: bytes) -> None:
        taken = tuple(
            path
            for (path, _), each in zip(message.recipients, result.recipients, strict=True)
            if isinstance(each, Delivered | InDoubt)
        )
        if not taken:
            return
        is_answered = any(isinstance(each, Delivered) for each in result.recipients)
        self.handed.append(Handed(message.queue_id, taken, content, is_answered))

    def abandon(self) -> None:
        self.is_abandoned = True
        self.after_dot.set()

    def connections(self) -> BackendConnections:
        return BackendConnections(busy=self.in_flight, idle=1, opened_total=7, failed_total=2)

    async def close(self) -> None:
        self.is_closed = True
