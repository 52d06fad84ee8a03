"""Hand over later what was kept: spool -> gate -> backend -> settle.

The drain is a client of the gate like any live message: it offers due messages of each class, waits
without bound, and transmits when it is given a slot. So clinical mail leaves the spool before bulk,
live mail of a better class goes first, the limit paces the whole, and a backend that is away is
probed by one message at a time. There are no timers per message: one sleeper waits for the earliest
next attempt of them all.

Which messages are in hand is known here and nowhere else (one process owns the spool). A slot is
free at the backend's reply, a message's place among the unsettled ones when its mark is written.
There are as many places as slots: that is the bound on duplicates after a crash. Who is given a
slot and finds no place gives it back at once, so that slow marks never keep live mail waiting. If a
mark cannot be written, draining stops until the spool is well again; to go on would be to duplicate
without bound.

A fault of our own in the middle of an attempt counts as one more ending that we know nothing about:
the message is tried again after its pause, and held the second time.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from mailshed.clock import Clock
from mailshed.config.policy import ClassificationPolicy
from mailshed.drain.notify import ReportPolicy
from mailshed.drain.retry import ReportContext, RetryPolicy, expire, is_expired, settle_attempt
from mailshed.errors import SpoolCorrupt, SpoolError, SpoolSick
from mailshed.journal import Journal
from mailshed.mail.delivery import Bounced, Delivered, InDoubt, TransactionResult, everyone
from mailshed.mail.envelope import RANDOM_BITS, make_queue_id
from mailshed.mail.header import OCTETS_MAX as HEADER_OCTETS
from mailshed.relay.backend import Backend, OutboundMessage
from mailshed.relay.gate import Gate, Slot
from mailshed.spool.store import Settlement, SpoolRecord, SpoolStore
from mailshed.supervisor import Supervisor
from mailshed.terms import QueueId, TrafficClass

# Messages of one class that are offered to the gate at a time, beyond the slots that there are;
# more would only make the waiting room longer.
OFFERS_BEYOND_LIMIT = 2
# Seconds between two attempts to write to, or look into, a spool that failed.
SICK_PAUSE = 1.0
# All classes are looked at this often (seconds) without any sign that it is worth it; and this
# often while a message that is in hand, as the earliest, hides when the next one is due.
LOOK_INTERVAL = 60.0
HIDDEN_INTERVAL = 5.0
# Messages whose time is up are looked for this often (seconds), so many at a time.
EXPIRY_INTERVAL = 60.0
EXPIRY_BATCH = 100
# Content up to this size is read before a slot is asked for, so that a slow disk keeps no slot from
# live mail; larger is streamed while the slot is held, each piece within this many seconds.
READ_AHEAD_OCTETS = 64 * 1024
READ_PATIENCE = 10.0
# A message whose time is up is given up without a further attempt only after so many seconds of a
# backend that is away: also mail that is found too old at the start has its last attempt.
LAST_CHANCE = 60.0
# A well spool that refuses the same mark so often will refuse it for ever.
MARK_REFUSALS_MAX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPolicy:
    """What a reload replaces."""

    classification: ClassificationPolicy
    retry: RetryPolicy
    reports: ReportPolicy
    remote_mta: str = ""
    """The backend's host name, for reports."""


class Drainer:
    """The drain of one backend."""

    def __init__(
        self,
        *,
        policy: DrainPolicy,
        gate: Gate,
        backend: Backend,
        spool: SpoolStore,
        supervisor: Supervisor,
        journal: Journal,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.policy = policy
        self._gate = gate
        self._backend = backend
        self._spool = spool
        self._supervisor = supervisor
        self._journal = journal
        self._clock = clock
        self._rng = rng
        self._in_hand: dict[QueueId, str] = {}
        self._stale: set[str] = set()
        """Classes of which the spool may hold due messages that are not in hand."""
        self._wakeup = asyncio.Event()
        self._next_look = 0.0
        self._next_expiry = 0.0
        self._unsettled = 0
        """Transactions that have begun and whose mark is not written."""
        self._failing_marks = 0
        self._is_stopping = False
        self.delivered: Counter[str] = Counter()
        """Messages delivered from the spool since the start, by class."""

    def on_spooled(self, traffic_class: TrafficClass) -> None:
        """Note that a message of this class has entered the spool."""
        self._stale.add(traffic_class.name)
        self._wakeup.set()

    def stop(self) -> None:
        """Take no more messages in hand; those that are with the backend go on."""
        self._is_stopping = True
        self._wakeup.set()

    async def run(self) -> None:
        """Drain until `stop`."""
        self._next_expiry = self._clock.monotonic() + LAST_CHANCE
        while not self._is_stopping:
            self._wakeup.clear()
            try:
                await self._look()
            except SpoolError:  # the control loop reports it and sees to its recovery
                self._look_within(SICK_PAUSE)
            except Exception as error:  # noqa: BLE001 - mail goes on whatever is wrong here
                self._journal.drain_failed(error)
                self._look_within(SICK_PAUSE)
            pause = min(self._next_look, self._next_expiry) - self._clock.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, pause)):
                    await self._wakeup.wait()

    # What to take in hand.

    async def _look(self) -> None:
        """Give up what has expired, and take in hand what is due."""
        now = self._clock.monotonic()
        if now >= self._next_expiry:
            self._next_expiry = now + EXPIRY_INTERVAL
            if not self._gate.is_up:  # else each has its last attempt, and that decides
                await self._expire()
        if now >= self._next_look:
            # Whatever else wakes us meanwhile, this comes: it is what finds mail whose pause is
            # over, and mail of classes that this configuration does not know.
            self._next_look = now + LOOK_INTERVAL
            totals = await self._spool.totals()
            self._stale.update(each.traffic_class for each in totals.by_class if each.messages)
        if self._has_place:
            await self._fill()

    def _look_within(self, seconds: float) -> None:
        """Look at all classes after `seconds` at the latest."""
        self._next_look = min(self._next_look, self._clock.monotonic() + seconds)

    @property
    def _has_place(self) -> bool:
        """Whether one more transaction may begin: its mark could be written, as far as we know."""
        is_well = not self._failing_marks and self._spool.unhealthy_reason() is None
        return is_well and self._unsettled < self._gate.limit

    async def _fill(self) -> None:
        """Take due messages in hand, class by class, the best first."""
        wall = self._clock.wall()
        for name in sorted(self._stale, key=self._rank_of):
            in_hand = [queue_id for queue_id, held in self._in_hand.items() if held == name]
            wanted = self._gate.limit + OFFERS_BEYOND_LIMIT - len(in_hand)
            self._stale.discard(name)
            if wanted > 0:
                for record in await self._spool.due(wall, name, wanted, in_hand):
                    self._take(record)
        due = await self._spool.next_due()
        if due is not None:
            self._look_within(due - wall if due > wall else HIDDEN_INTERVAL)

    def _rank_of(self, name: str) -> int:
        return self.policy.classification.by_name(name).rank

    def _take(self, record: SpoolRecord) -> None:
        if record.queue_id in self._in_hand or self._is_stopping:
            return
        self._in_hand[record.queue_id] = record.traffic_class
        self._supervisor.spawn(self._handle(record), name=f"drain {record.queue_id}")

    async def _handle(self, record: SpoolRecord) -> None:
        """Bring one message to the end of one attempt."""
        try:
            try:
                message = await self._outbound(record)
            except SpoolError as error:
                await self._cannot_read(record, error)
                return
            slot = await self._wait_for_slot(record)
            if slot is not None:
                await self._attempt(record, message, slot)
        finally:
            del self._in_hand[record.queue_id]
            self._stale.add(record.traffic_class)
            self._wakeup.set()

    async def _wait_for_slot(self, record: SpoolRecord) -> Slot | None:
        """Wait as long as the message lives; None if its time is up, or at a stop."""
        traffic_class = self.policy.classification.by_name(record.traffic_class)
        try:
            left = record.expires_wall - self._clock.wall()
            async with asyncio.timeout(left if left > 0 else LAST_CHANCE):
                return await self._gate.acquire(traffic_class, record.received_wall, timeout=None)
        except TimeoutError:
            self._next_expiry = self._clock.monotonic()
            return None

    # One attempt.

    async def _attempt(self, record: SpoolRecord, message: OutboundMessage, slot: Slot) -> None:
        """Use `slot` for one transaction and write its mark, or give it back."""
        if self._is_stopping or not self._has_place:
            self._gate.release(slot, None)
            return
        waited = self._clock.wall() - record.received_wall
        self._unsettled += 1
        try:
            result = await self._transmit(record, message, slot)
            if result is not None:
                self._journal.transaction(record.traffic_class, "spool", result)
                await self._settle(record, result, waited)
        except SpoolError:
            raise  # the end of the service, and the mark is lost
        except Exception as error:  # noqa: BLE001 - the boundary: nobody else sees to this message
            self._journal.attempt_failed(record, error)
            doubt = everyone(InDoubt(f"internal error: {error!r}"), len(record.recipients))
            await self._settle(record, TransactionResult(recipients=doubt), waited)
        finally:
            self._unsettled -= 1

    async def _transmit(
        self, record: SpoolRecord, message: OutboundMessage, slot: Slot
    ) -> TransactionResult | None:
        """Run the transaction with the backend; the slot is free when it ends.

        None if the content could not be read to its end; then nothing was handed over.
        """
        result: TransactionResult | None = None
        unread: SpoolError | None = None
        try:
            result = await self._backend.deliver(message)
        except SpoolError as error:
            unread = error
        finally:
            self._gate.release(slot, result, record.size)
        if unread is not None:
            await self._cannot_read(record, unread)
        return result

    async def _cannot_read(self, record: SpoolRecord, error: SpoolError) -> None:
        """Put a damaged message aside; one that cannot be read now stays where it is."""
        if isinstance(error, SpoolCorrupt):
            self._journal.spool_corrupt(record, str(error))
            await self._write_mark(record, lambda: self._spool.quarantine(record.queue_id))
        else:
            self._look_within(SICK_PAUSE)
            await asyncio.sleep(SICK_PAUSE)  # still in hand, so that it is not tried in a circle

    async def _outbound(self, record: SpoolRecord) -> OutboundMessage:
        """The message as the backend is to get it. Raises SpoolError if it cannot be read."""
        in_memory = None
        if record.size <= READ_AHEAD_OCTETS:
            in_memory = [chunk async for chunk in self._content(record.queue_id)]
        return OutboundMessage(
            queue_id=record.queue_id,
            reverse_path=record.reverse_path,
            parameters=record.parameters,
            recipients=tuple((each.address, each.parameters) for each in record.recipients),
            size=record.size,
            in_memory=in_memory,
            chunks=lambda: self._content(record.queue_id),
            partial_ok=True,
        )

    async def _content(self, queue_id: QueueId) -> AsyncGenerator[bytes]:
        """The stored content; SpoolError if the disk takes too long over a piece of it."""
        content = self._spool.content(queue_id)
        try:
            while True:
                async with asyncio.timeout(READ_PATIENCE):
                    chunk = await anext(content, None)
                if chunk is None:
                    return
                yield chunk
        except TimeoutError:
            raise SpoolError("the spool takes too long to read") from None
        finally:
            if isinstance(content, AsyncGenerator):
                await content.aclose()

    async def _settle(self, record: SpoolRecord, result: TransactionResult, waited: float) -> None:
        wall = self._clock.wall()
        may_fail = is_expired(record, wall) or any(
            isinstance(each, Bounced) for each in result.recipients
        )
        settlement = settle_attempt(
            record,
            result.recipients,
            wall=wall,
            random_unit=self._rng.random(),
            retry=self.policy.retry,
            report=self._report_context(await self._header(record) if may_fail else b""),
        )
        if result.is_backend_away and not settlement.endings:
            return  # the breaker paces the attempts, and the message stays due as it was
        await self._write_mark(record, lambda: self._spool.settle(settlement))
        self._journal.attempted(record, result, settlement, waited)
        if all(isinstance(each, Delivered) for each in result.recipients):
            self.delivered[record.traffic_class] += 1
        self._note_reports(settlement)

    async def _expire(self) -> None:
        """Give up messages whose time is up and that nobody is working on."""
        wall = self._clock.wall()
        expired = await self._spool.expired(wall, EXPIRY_BATCH, tuple(self._in_hand))
        for record in expired:
            await self._give_up(record, wall)
        if len(expired) == EXPIRY_BATCH:
            self._next_expiry = self._clock.monotonic()  # there may be more, after a turn of others

    async def _give_up(self, record: SpoolRecord, wall: float) -> None:
        report = self._report_context(await self._header(record))
        settlement = expire(record, wall=wall, report=report)
        try:
            await self._spool.settle(settlement)
        except SpoolError as error:
            if self._spool.unhealthy_reason() is not None:
                raise
            self._journal.drain_failed(error)  # this one; the others go on
            return
        self._journal.expired(record, settlement, wall - record.received_wall)
        self._note_reports(settlement)

    def _note_reports(self, settlement: Settlement) -> None:
        for report in settlement.reports:
            self._stale.add(report.record.traffic_class)
            self._wakeup.set()

    def _report_context(self, header: bytes) -> ReportContext:
        return ReportContext(
            policy=self.policy.reports,
            report_id=make_queue_id(self._clock.wall(), self._rng.getrandbits(RANDOM_BITS)),
            header=header,
            remote_mta=self.policy.remote_mta,
        )

    async def _header(self, record: SpoolRecord) -> bytes:
        """The beginning of the content, for a report; empty if it cannot be read."""
        head = b""
        with suppress(SpoolError):
            async with aclosing(self._content(record.queue_id)) as content:
                async for chunk in content:
                    head += chunk
                    if len(head) >= HEADER_OCTETS:
                        break
        return head

    async def _write_mark(self, record: SpoolRecord, write: Callable[[], Awaitable[None]]) -> None:
        """Write a mark, however long the spool takes to be well again; nothing drains meanwhile.

        Only the end of the service ends the attempts; then the mark is lost, and the message is
        sent once more after the start. A mark that a well spool refuses again and again would end
        all draining for ever; its message is put aside instead.
        """
        try:
            await write()
        except SpoolError:
            if self._is_stopping:
                raise
            self._failing_marks += 1
            try:
                await self._repeat_mark(record, write)
            finally:
                self._failing_marks -= 1

    async def _repeat_mark(self, record: SpoolRecord, write: Callable[[], Awaitable[None]]) -> None:
        refusals = 0
        while True:
            await asyncio.sleep(SICK_PAUSE)
            try:
                await write()
            except SpoolError as error:
                if self._is_stopping:
                    raise
                refusals = 0 if isinstance(error, SpoolSick) else refusals + 1
                if refusals >= MARK_REFUSALS_MAX:
                    self._journal.attempt_failed(record, error)
                    with suppress(SpoolError):
                        await self._spool.quarantine(record.queue_id)
                    return
            else:
                return
