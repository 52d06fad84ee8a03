"""Hand over later what was kept: spool -> gate -> backend -> settle.

The drain is a client of the gate like any live message: it offers due messages of each class, waits
without bound, and transmits when it is given a slot. So clinical mail leaves the spool before bulk,
live mail of a better class goes first, the limit paces the whole, and a backend that is away is
probed by one message at a time. There are no timers per message: one sleeper waits for the earliest
next attempt of them all.

Here is what is taken in hand and when; `attempt` is what happens then, `marks` when it must not.
Who is given a slot and finds no place for one more missing mark gives it back at once.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from mailshed.clock import Clock
from mailshed.drain import reading
from mailshed.drain.amend import Amendments
from mailshed.drain.attempt import Attempts
from mailshed.drain.hand import Grip, Hand
from mailshed.drain.marks import SICK_PAUSE, Marks
from mailshed.drain.overdue import Overdue
from mailshed.drain.policy import DrainPolicy
from mailshed.errors import SpoolError
from mailshed.journal import Journal
from mailshed.mail.delivery import Delivered, TransactionResult
from mailshed.relay.backend import Backend
from mailshed.relay.gate import Gate, Slot
from mailshed.spool.store import AmendResult, Settlement, SpoolRecord, SpoolStore
from mailshed.supervisor import Supervisor
from mailshed.terms import QueueAction, QueueId, TrafficClass

# Messages of one class that are offered to the gate at a time, beyond the slots that there are;
# more would only make the waiting room longer.
OFFERS_BEYOND_LIMIT = 2
# All classes are looked at this often (seconds) without any sign that it is worth it; and this
# often while a message that is in hand, as the earliest, hides when the next one is due.
LOOK_INTERVAL = 60.0
HIDDEN_INTERVAL = 5.0
# Messages whose time is up are looked for this often (seconds).
EXPIRY_INTERVAL = 60.0
# A message whose time is up is given up without a further attempt only after so many seconds of a
# backend that is away: also mail that is found too old at the start has its last attempt.
LAST_CHANCE = 60.0


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
        self._spool = spool
        self._supervisor = supervisor
        self._journal = journal
        self._clock = clock
        self._hand = Hand()
        self._marks = Marks(spool, journal)
        self._attempts = Attempts(
            policy=lambda: self.policy,
            gate=gate,
            backend=backend,
            spool=spool,
            marks=self._marks,
            journal=journal,
            clock=clock,
            rng=rng,
            on_settled=self._settled,
        )
        self._overdue = Overdue(
            spool=spool,
            hand=self._hand,
            journal=journal,
            clock=clock,
            report_context=self._attempts.report_context,
            on_report=self._note_reports,
        )
        self._amendments = Amendments(
            spool=spool,
            hand=self._hand,
            supervisor=supervisor,
            clock=clock,
            on_amended=self._look_at_all,
        )
        self._stale: set[str] = set()
        """Classes of which the spool may hold due messages that are not in hand."""
        self._wakeup = asyncio.Event()
        self._next_look = 0.0
        self._next_expiry = 0.0
        self._is_stopping = False
        self.delivered: Counter[str] = Counter()
        """Messages delivered from the spool since the start, by class."""

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

    def stop(self) -> None:
        """Take no more messages in hand; those that are with the backend go on."""
        self._is_stopping = True
        self._marks.stop()
        self._wakeup.set()

    # What others have to say.

    def on_spooled(self, traffic_class: TrafficClass) -> None:
        """Note that a message of this class has entered the spool."""
        self._look_at(traffic_class.name)

    def adopt(self, queue_id: QueueId, traffic_class: str) -> None:
        """Take in hand a message that the backend has and that is about to be committed.

        To be called before the commit, or the drain might send it once more. `settle_adopted` or
        `disown` ends it; until then it counts among the messages without a mark.
        """
        self._hand.adopt(queue_id, traffic_class)
        self._marks.unsettled += 1

    async def settle_adopted(self, record: SpoolRecord, result: TransactionResult) -> None:
        """Settle an adopted message, which has been committed as `record`, by the backend's word.

        The transaction itself is the caller's to count. Raises SpoolError only at the end of the
        service, when the mark is lost.
        """
        passed = self._clock.wall() - record.received_wall
        waited = max(0.0, passed - result.times.connect - result.times.service)
        try:
            await self._attempts.settle(record, result, waited)
        finally:
            self.disown(record.queue_id)

    def disown(self, queue_id: QueueId) -> None:
        """Let go of an adopted message, as when it was not committed after all."""
        grip = self._hand.grip(queue_id)
        assert grip is not None, "only what was adopted can be disowned"
        self._marks.unsettled -= 1
        self._let_go(grip)

    async def amend(self, action: QueueAction, queue_ids: Sequence[QueueId]) -> AmendResult:
        """Do what an operator asks for; raises SpoolError if the spool could not do all of it."""
        return await self._amendments.amend(action, queue_ids)

    # What to take in hand.

    async def _look(self) -> None:
        """Give up what has expired, and take in hand what is due."""
        now = self._clock.monotonic()
        if now >= self._next_expiry:
            self._next_expiry = now + EXPIRY_INTERVAL
            # While the backend is up each has its last attempt, and that decides.
            if not self._gate.is_up and not await self._overdue.expire():
                self._next_expiry = self._clock.monotonic()  # the rest after a turn of others
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

    def _look_at(self, traffic_class: str) -> None:
        """Look at this class now."""
        self._stale.add(traffic_class)
        self._wakeup.set()

    def _look_at_all(self) -> None:
        """Look at all classes now."""
        self._look_within(0.0)
        self._wakeup.set()

    @property
    def _has_place(self) -> bool:
        """Whether one more transaction may begin."""
        return self._marks.are_written and self._marks.unsettled < self._gate.limit

    async def _fill(self) -> None:
        """Take due messages in hand, class by class, the best first."""
        wall = self._clock.wall()
        for name in sorted(self._stale, key=self._rank_of):
            in_hand = self._hand.ids_of(name)
            wanted = self._gate.limit + OFFERS_BEYOND_LIMIT - len(in_hand)
            self._stale.discard(name)
            if wanted > 0:
                with self._hand.query():
                    for record in await self._spool.due(wall, name, wanted, in_hand):
                        self._take(record)
        due = await self._spool.next_due()
        if due is not None:
            self._look_within(due - wall if due > wall else HIDDEN_INTERVAL)

    def _rank_of(self, name: str) -> int:
        return self.policy.classification.by_name(name).rank

    def _take(self, record: SpoolRecord) -> None:
        if self._is_stopping:
            return
        grip = self._hand.take(record.queue_id, record.traffic_class)
        if grip is not None:
            work = self._handle(record, grip)
            grip.task = self._supervisor.spawn(work, name=f"drain {record.queue_id}")

    async def _handle(self, record: SpoolRecord, grip: Grip) -> None:
        """Bring one message to the end of one attempt."""
        try:
            try:
                message = await reading.outbound(self._spool, record)
            except SpoolError as error:
                await self._attempts.cannot_read(record, error)
                return
            slot = await self._wait_for_slot(record)
            if slot is None:
                return
            if self._is_stopping or not self._has_place:
                self._gate.release(slot, None)
                return
            grip.is_firm = True
            await self._attempts.make(record, message, slot)
        finally:
            self._let_go(grip)

    def _let_go(self, grip: Grip) -> None:
        self._hand.let_go(grip)
        self._look_at(grip.traffic_class)

    async def _wait_for_slot(self, record: SpoolRecord) -> Slot | None:
        """Wait as long as the message lives; None if its time is up, or at a stop."""
        traffic_class = self.policy.classification.by_name(record.traffic_class)
        try:
            left = record.expires_wall - self._clock.wall()
            async with asyncio.timeout(left if left > 0 else LAST_CHANCE):
                return await self._gate.acquire(
                    traffic_class,
                    record.received_wall,
                    timeout=None,
                    sender=record.reverse_path,
                    size=record.size,
                    recipients=len(record.recipients),
                )
        except TimeoutError:
            self._next_expiry = self._clock.monotonic()
            return None

    # What came of it.

    def _settled(
        self, record: SpoolRecord, result: TransactionResult, settlement: Settlement
    ) -> None:
        if all(isinstance(each, Delivered) for each in result.recipients):
            self.delivered[record.traffic_class] += 1
        self._note_reports(settlement)

    def _note_reports(self, settlement: Settlement) -> None:
        for report in settlement.reports:
            self._look_at(report.record.traffic_class)
