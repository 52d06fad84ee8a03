"""Hand over later what was kept: spool -> gate -> backend -> settle.

The drain is a client of the gates like any live message: it offers due messages of each class, for
each backend, waits without bound, and transmits when it is given a slot. So clinical mail leaves
the spool before bulk, live mail of a better class goes first, the limits pace the whole, and a
backend that is away is probed by one message at a time and keeps no other's mail waiting. There are
no timers per message: one sleeper waits for the earliest next attempt of them all.

Mail of a backend whose fallback stands in is offered there; when that begins or ends, what of it
waits for a slot is put back. Mail for a backend that the configuration has not, or of which nobody
has said where it goes, gets a new place by its recipients before it is offered; where there is only
one backend it simply goes there.

A class that an operator holds is not offered, and what of it waits for a slot is put back; when
that ends, all classes are looked at.

Here is what is taken in hand and when; `attempt` is what happens then, `marks` when it must not.
Who is given a slot and finds no place for one more missing mark gives it back at once.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from math import inf

from mailshed.clock import Clock
from mailshed.drain.ages import AgeClock
from mailshed.drain.amend import Amendments
from mailshed.drain.budget import TOKENS_MAX
from mailshed.drain.desk import ReportDesk
from mailshed.drain.hand import Grip, Hand
from mailshed.drain.journal import DrainJournal
from mailshed.drain.mailboxes import LONGEST_WAIT, MAILBOXES_MAX
from mailshed.drain.marks import SICK_PAUSE, Marks
from mailshed.drain.outlets import Outlets
from mailshed.drain.overdue import Overdue
from mailshed.drain.policy import DrainPolicy
from mailshed.drain.restraint import Permit
from mailshed.errors import SpoolError
from mailshed.mail.delivery import Delivered, TransactionResult
from mailshed.message import Message
from mailshed.metrics.snapshot import Usage
from mailshed.relay.destination import Destinations
from mailshed.spool.store import AmendResult, Report, Settlement, SpoolRecord, SpoolStore
from mailshed.supervisor import Supervisor
from mailshed.terms import QueueAction, QueueId, TrafficClass

# Messages of one class that are offered to the gate at a time, beyond the slots that there are;
# more would only make the waiting room longer.
OFFERS_BEYOND_LIMIT = 2
# The spool is asked for more when this part of them has begun, not for each one that has.
OFFERS_SHARE = 4
# All classes are looked at this often (seconds) without any sign that it is worth it; and this
# often while a message that is in hand, as the earliest, hides when the next one is due, and while
# there is no place for one more.
LOOK_INTERVAL = 60.0
HIDDEN_INTERVAL = 5.0
# Messages that are found at a time where a clock that was set back has left them.
STRAY_BATCH = 256
# An operator's wishes that are remembered; more are due like all mail.
WISHES_MAX = 10_000


class Drainer:
    """The drain of one spool to all backends."""

    def __init__(
        self,
        *,
        policy: DrainPolicy,
        destinations: Destinations,
        spool: SpoolStore,
        supervisor: Supervisor,
        journal: DrainJournal,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.policy = policy
        self._destinations = destinations
        self._spool = spool
        self._supervisor = supervisor
        self._journal = journal
        self._clock = clock
        self._hand = Hand()
        self._marks = Marks(spool, journal)
        self._ages = AgeClock(clock, self._clock_stepped)
        self._desk = ReportDesk(
            policy=lambda: self.policy,
            spool=spool,
            journal=journal,
            clock=clock,
            rng=rng,
            on_report=self._reported,
            route_of=lambda path: destinations.route_of((path,)),
        )
        self._outlets = Outlets(
            policy=lambda: self.policy,
            destinations=destinations,
            spool=spool,
            marks=self._marks,
            desk=self._desk,
            journal=journal,
            age_wall=self._age_wall,
            clock=clock,
            rng=rng,
            on_settled=self._settled,
            on_too_old=self._look_for_expired,
        )
        self._overdue = Overdue(
            spool=spool,
            hand=self._hand,
            journal=journal,
            clock=clock,
            ages=self._ages,
            policy=lambda: self.policy,
            desk=self._desk,
            on_report=self._reported,
            host_of=lambda route: destinations.own(route).host,
        )
        self._amendments = Amendments(
            spool=spool,
            hand=self._hand,
            supervisor=supervisor,
            clock=clock,
            on_amended=self._amended,
        )
        self._stale: set[tuple[str, str]] = set()
        """Backends and classes of which the spool may hold due messages that are not in hand."""
        self._rerouted: Counter[str] = Counter()
        """Messages for backends that there are not, which have a new place, until that is told."""
        self._wishes: set[QueueId] = set()
        """What an operator wants to be tried, whatever holds it back."""
        self._wakeup = asyncio.Event()
        self._next_look = 0.0
        self._is_stopping = False
        self.delivered: Counter[str] = Counter()
        """Messages delivered from the spool since the start, by class."""

    async def run(self) -> None:
        """Drain until `stop`."""
        self._overdue.give_time()
        while not self._is_stopping:
            self._wakeup.clear()
            try:
                await self._look()
            except SpoolError:  # the control loop reports it and sees to its recovery
                self._look_within(SICK_PAUSE)
            except Exception as error:  # noqa: BLE001 - mail goes on whatever is wrong here
                self._journal.drain_failed(error)
                self._look_within(SICK_PAUSE)
            next_look = min(self._next_look, self._overdue.next_look)
            pause = next_look - self._clock.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, pause)):
                    await self._wakeup.wait()
        await self._desk.send_summaries(is_last=True)

    def stop(self) -> None:
        """Take no more messages in hand; those that are with the backend go on."""
        self._is_stopping = True
        self._marks.stop()
        self._wakeup.set()

    @property
    def held_mailboxes(self) -> Usage:
        """Mailboxes that are held, of so many that can be."""
        now = self._clock.monotonic()
        held = [each.restraint.mailboxes.held(now) for each in self._outlets]
        return Usage(used=sum(held), limit=MAILBOXES_MAX * len(held))

    @property
    def retry_tokens(self) -> Usage:
        """Retries that might begin now, of so many in calm times."""
        now = self._clock.monotonic()
        tokens = [int(each.restraint.budget.tokens(now)) for each in self._outlets]
        return Usage(used=sum(tokens), limit=int(TOKENS_MAX) * len(tokens))

    # What others have to say.

    def on_spooled(self, traffic_class: TrafficClass, route: str = "") -> None:
        """Note that a message of this class for this backend has entered the spool."""
        self._look_at(route, traffic_class.name)

    def on_fallback(self, route: str) -> None:
        """Note that another backend takes the mail of this one from now on, or it does itself."""
        for grip in self._hand.waiting:
            if grip.task is not None and grip.route == route:
                grip.task.cancel()
        self._look_at_all()

    def on_overrides(self) -> None:
        """Note that other classes are held now than before, or none."""
        for grip in self._hand.waiting:
            if grip.task is not None and self._is_held(grip.traffic_class, grip.rank):
                grip.task.cancel()
        self._look_at_all()

    def adopt(self, queue_id: QueueId, traffic_class: str, route: str, taker: str) -> None:
        """Take in hand a message that the backend `taker` has and that is about to be committed.

        To be called before the commit, or the drain might send it once more. `settle_adopted` or
        `disown` ends it; until then it counts among the messages without a mark.
        """
        self._hand.adopt(queue_id, traffic_class, route, taker)
        self._marks.unsettled += 1

    async def settle_adopted(self, record: SpoolRecord, result: TransactionResult) -> None:
        """Settle an adopted message, which has been committed as `record`, by the backend's word.

        The transaction itself is the caller's to count. Raises SpoolError only at the end of the
        service, when the mark is lost.
        """
        passed = self._clock.wall() - record.received_wall
        waited = max(0.0, passed - result.times.connect - result.times.service)
        grip = self._hand.grip(record.queue_id)
        assert grip is not None, "only what was adopted can be settled"
        attempts = self._outlets[grip.taker].attempts
        try:
            await attempts.settle(record, result, waited, Permit(record=record))
        finally:
            self.disown(record.queue_id)

    def disown(self, queue_id: QueueId) -> None:
        """Let go of an adopted message, as when it was not committed after all."""
        grip = self._hand.grip(queue_id)
        assert grip is not None, "only what was adopted can be disowned"
        self._marks.unsettled -= 1
        self._let_go(grip)

    async def tell_of_success(self, message: Message, result: TransactionResult) -> None:
        """Report a live message that the backend took, if its sender asked for that."""
        host = self._destinations.taker(message.route).host
        await self._desk.tell_of_success(message, result, host)

    async def amend(self, action: QueueAction, queue_ids: Sequence[QueueId]) -> AmendResult:
        """Do what an operator asks for; raises SpoolError if the spool could not do all of it."""
        return await self._amendments.amend(action, queue_ids)

    # What to take in hand.

    async def _look(self) -> None:
        """See to what has become old, and take in hand what is due."""
        now, wall = self._ages.look()
        await self._overdue.look(self._away())
        if now >= self._next_look:
            # Whatever else wakes us meanwhile, this comes: it is what finds mail whose pause is
            # over, and mail of classes that this configuration does not know.
            self._next_look = now + LOOK_INTERVAL
            totals = await self._spool.totals()
            self._stale.update((each.backend, each.traffic_class) for each in totals.by_backend)
            await self._bring_back(wall)
        if not self._destinations.is_single:
            await self._reroute()
        if self._outlets.has_place():
            if self._stale:
                await self._fill()
        else:
            self._look_within(HIDDEN_INTERVAL)  # the limit may rise, which nobody tells

    async def _bring_back(self, wall: float) -> None:
        """Make due what a clock that was set back has left in a future that cannot be."""
        horizon = max(self.policy.retry.delay_max, LONGEST_WAIT) + LOOK_INTERVAL
        lost = await self._spool.beyond(wall + horizon, STRAY_BATCH)
        if lost:
            try:
                await self._amendments.amend(QueueAction.RETRY, lost)
            except SpoolError as error:
                if self._spool.unhealthy_reason() is not None:
                    raise
                self._journal.drain_failed(error)  # all other mail goes on
                return
            self._wishes.difference_update(lost)  # due, but nobody's wish
        if len(lost) == STRAY_BATCH:
            self._look_within(0.0)  # the rest, after a turn of others

    def _look_within(self, seconds: float) -> None:
        """Look at all classes after `seconds` at the latest."""
        self._next_look = min(self._next_look, self._clock.monotonic() + seconds)

    def _look_at_all(self) -> None:
        """Look at all classes now."""
        self._look_within(0.0)
        self._wakeup.set()

    def _look_at(self, route: str, traffic_class: str) -> None:
        """Look at this backend's mail of this class now."""
        self._stale.add((route, traffic_class))
        self._wakeup.set()

    def _away(self) -> list[str] | None:
        """The backends whose mail nobody takes now; None if that is all mail."""
        destinations = self._destinations
        away = [each.name for each in destinations if not destinations.taker(each.name).gate.is_up]
        return None if len(away) == len(destinations) else away

    async def _reroute(self) -> None:
        """Find a place for mail whose backend is not in the configuration, some at a time."""
        strays = sorted(key for key in self._stale if not self._destinations.knows(key[0]))
        for route, name in strays:
            with self._hand.query():
                found = await self._spool.due(inf, name, STRAY_BATCH, self._hand.ids, backend=route)
                places = {
                    each.queue_id: self._destinations.route_of(
                        one.address for one in each.recipients
                    )
                    for each in found
                }
                if places:
                    await self._spool.assign(places)
            self._stale.update((place, name) for place in places.values())
            self._rerouted[route] += len(places)
            if len(found) == STRAY_BATCH:
                self._look_within(0.0)  # the rest, after a turn of others
            else:
                self._stale.discard((route, name))
        if strays and all(self._destinations.knows(route) for route, _ in self._stale):
            for route, messages in sorted(self._rerouted.items()):
                if route and messages:
                    self._journal.rerouted(route, messages)
            self._rerouted.clear()

    def _amended(self, action: QueueAction, queue_ids: Sequence[QueueId]) -> None:
        """Messages of any class may be due now, and some of them are wanted by an operator."""
        if action in (QueueAction.RETRY, QueueAction.RELEASE):
            self._wishes.update(queue_ids[: WISHES_MAX - len(self._wishes)])
        self._look_at_all()

    async def _fill(self) -> None:
        """Take due messages in hand, class by class, the best first."""
        wall, has_asked = self._clock.wall(), False
        by_name = self.policy.classification.by_name
        for route, name in sorted(self._stale, key=lambda key: by_name(key[1]).rank):
            if not (self._destinations.is_single or self._destinations.knows(route)):
                continue  # it gets its place first, in the next look
            taker = self._destinations.taker(route)
            places = taker.gate.limit + OFFERS_BEYOND_LIMIT
            wanted = places - self._hand.offered_of(route, name)
            self._stale.discard((route, name))
            is_lost = by_name(name).name != name  # it may be clinical mail all the same
            # With fewer places to fill there are offers enough, and each will call for a look.
            if wanted > places // OFFERS_SHARE and (is_lost or not self._is_held(name, 1)):
                has_asked = True
                with self._hand.query():
                    in_hand = self._hand.ids_of(route, name)
                    due = await self._spool.due(wall, name, wanted, in_hand, backend=route)
                    for record in due:
                        self._take(record, self._destinations.taker(route).name)
        if not has_asked:  # as while a backend is away and mail for it comes in
            self._look_within(HIDDEN_INTERVAL)
            return
        next_due = await self._spool.next_due()
        if next_due is not None:
            self._look_within(next_due - wall if next_due > wall else HIDDEN_INTERVAL)

    def _is_held(self, name: str, rank: int) -> bool:
        """Whether an operator keeps the class in the spool as which this mail is delivered."""
        gate = self._destinations.default.gate  # operators speak of classes and not of backends
        return gate.is_held(self.policy.classification.of_spooled(name, rank))

    def _take(self, record: SpoolRecord, taker: str) -> None:
        # The class may be held since a moment ago.
        if self._is_stopping or self._is_held(record.traffic_class, record.rank):
            return
        grip = self._hand.take(
            record.queue_id, record.traffic_class, record.rank, record.backend, taker
        )
        if grip is not None:
            work = self._handle(record, grip)
            grip.task = self._supervisor.spawn(work, name=f"drain {record.queue_id}")
            grip.task.add_done_callback(partial(self._ensure_let_go, grip))

    async def _handle(self, record: SpoolRecord, grip: Grip) -> None:
        is_wished = record.queue_id in self._wishes
        self._wishes.discard(record.queue_id)
        try:
            await self._outlets[grip.taker].turns.take(record, grip, is_wished=is_wished)
        finally:
            self._let_go(grip)

    def _ensure_let_go(self, grip: Grip, _task: "asyncio.Task[None]") -> None:
        """A task that is cancelled before it has begun does nothing at all."""
        if self._hand.grip(grip.queue_id) is grip:
            self._let_go(grip)

    def _let_go(self, grip: Grip) -> None:
        self._hand.let_go(grip)
        self._look_at(grip.route, grip.traffic_class)

    def _age_wall(self) -> float:
        return self._ages.wall(self.policy.reports.lifetime)

    def _clock_stepped(self, seconds: float) -> None:
        self._journal.clock_stepped(seconds)
        self._look_at_all()

    def _settled(
        self, record: SpoolRecord, result: TransactionResult, settlement: Settlement
    ) -> None:
        if all(isinstance(each, Delivered) for each in result.recipients):
            self.delivered[record.traffic_class] += 1
        for report in settlement.reports:
            self._reported(report)

    def _look_for_expired(self) -> None:
        self._overdue.look_for_expired()

    def _reported(self, report: Report) -> None:
        self._look_at(report.record.backend, report.record.traffic_class)
