"""The service station of one backend: its slots, who waits for them, and who is served next.

A slot is the right to have one message in flight. The limit says how many there are, the room rules
who may start, the scheduler who is next, the breaker whether anybody may try at all, and shedding
what has to wait in any case. This is where they meet; `relay.gate` joins it to the event loop, and
the simulation runs the very same object on a clock of its own.

An item is whatever stands for a waiting message: hashable, opaque. It is offered, and then either
served by `next`, or withdrawn, or sent away. Live mail, whose client waits, and spooled mail wait
in one room, so there are no timers per message and nothing to stampede when the backend comes back.

While observing, nothing here tells classes apart: slots up to the limit's ceiling, which is the
backend's own bound, and beyond them first come, first served, live mail before spooled mail.

Pure: `now` is monotonic seconds, `wall` Unix time, `jitter` a random number in [0, 1).
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Generic, TypeVar

from mailshed.admission import room
from mailshed.admission.policy import BackendState
from mailshed.admission.room import Occupancy
from mailshed.admission.scheduler import Scheduler
from mailshed.control.breaker import DRAIN_RANK, Breaker, BreakerState
from mailshed.control.divert import DivertChange
from mailshed.control.limit import (
    Flight,
    Limit,
    LimitChange,
    Measuring,
    Reading,
    SlotEnding,
)
from mailshed.control.overrides import Overrides
from mailshed.control.ramp import FREE_RANKS
from mailshed.control.reserve import Reserve
from mailshed.mail.delivery import StageTimes
from mailshed.shedding import Shedding, Standing
from mailshed.terms import Reason, TrafficClass
from mailshed.work import OBSERVED_LIVE, OBSERVED_SPOOLED, Slot, Work

Item = TypeVar("Item", bound=Hashable)


class Station(Generic[Item]):
    """The slots of one backend, and its waiting room."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self.breaker = Breaker()
        self._last_probe: Work | None = None
        self._reserve = Reserve()
        self._scheduler: Scheduler[Item] = Scheduler()
        self._works: dict[Item, Work] = {}
        """What waits."""
        self._live_waiting: Counter[int] = Counter()
        """Messages that wait while their client does, by rank."""
        self._own: Counter[str] = Counter()
        """Slots in use by class name."""
        self._in_flight = 0
        self._elephants = 0
        self._live_since: dict[Item, float] = {}
        """Live mail that waits, and since when."""
        self._lanes: Counter[str] = Counter()
        """Spooled mail that waits, by class name."""
        self._live_in_flight = 0
        self._ramped: Counter[int] = Counter()
        """Slots in use by spooled mail that the ramp counts, by the breaker's epoch."""
        self._ramped_waiting = 0
        self.shedding = Shedding()
        self._released: dict[TrafficClass, TrafficClass] = {}
        """Classes that an operator has released, and what they are meanwhile."""
        self.is_closed = False
        """Whether no more slots are handed out."""
        self._is_observing = False
        self._wall = 0.0
        """When somebody was last offered or looked for."""
        self.diverted: list[DivertChange] = []
        """Which classes began or ceased to divert at the last tick."""

    # How things stand.

    @property
    def in_flight(self) -> int:
        """Slots in use."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Messages that wait for a slot, live and spooled."""
        return len(self._works)

    @property
    def live_waiting(self) -> int:
        """Messages below rank 0 that wait for a slot while their client does."""
        return self._live_waiting.total() - self._live_waiting[0]

    @property
    def is_calm(self) -> bool:
        """Whether nobody waits and the backend is there: nothing to do but to let mail pass."""
        return not self._works and self.breaker.is_closed

    @property
    def ceiling(self) -> int:
        """Slots that are never exceeded."""
        return self._limit.ceiling

    @property
    def is_observing(self) -> bool:
        """Whether classes are not told apart; those who wait go by the rules in force, too."""
        return self._is_observing

    @is_observing.setter
    def is_observing(self, is_observing: bool) -> None:
        if is_observing is self._is_observing:
            return
        self._is_observing = is_observing
        for item, work in self._works.items():
            self._scheduler.withdraw(item)
            self._queue(item, work)

    def is_held(self, traffic_class: TrafficClass) -> bool:
        """Whether an operator keeps this class in the spool."""
        held = self.shedding.overrides.held
        return bool(held) and not self.is_observing and traffic_class.name in held

    def limit(self, now: float) -> int:
        """Slots there are."""
        limit, cap = self._limit.limit(now), self.breaker.cap
        return limit if cap is None else min(limit, cap)

    def reserve(self, now: float) -> int:
        """Slots that are kept free for rank 0."""
        return self._occupancy(now).reserve

    def in_flight_of(self, traffic_class: TrafficClass) -> int:
        """Slots in use by one class."""
        return self._own[traffic_class.name]

    def waiting_of(self, traffic_class: TrafficClass) -> int:
        """Messages of one class that wait for a slot."""
        return self._scheduler.waiting(traffic_class)

    def is_pressed(self, now: float) -> bool:
        """Whether the backend is under pressure."""
        return room.is_pressed(self._in_flight, self.limit(now), self._waiting_for_room())

    def quotas_bite(self, now: float) -> bool:
        """Whether what exceeds a quota has to give way.

        The pressure on the whole service says so; until there is one, the slots do.
        """
        is_on = self.shedding.pressure.is_on
        return self.is_pressed(now) if is_on is None else is_on

    def expected(self, size: int, recipients: int) -> float | None:
        """Seconds that the unloaded backend needs for such a message; None if not known."""
        return self._limit.expected(size, recipients)

    def note_crowded(self, connections: int, now: float) -> None:
        """The backend greets no more than so many connections at a time."""
        if isinstance(self._limit, Measuring):
            self._limit.on_crowded(now, connections)

    def reading(self, now: float) -> Reading:
        """What the limit has found out about the backend; nothing of one that does not measure."""
        limit = self._limit
        return limit.reading(now) if isinstance(limit, Measuring) else Reading()

    def open_to(self, traffic_class: TrafficClass, now: float) -> int:
        """Slots in use below which a message of this class may start, guarantees aside."""
        state, terms = self._occupancy(now), self._in_force(traffic_class)
        open_to = room.threshold_slots(terms, state.limit, state.reserve, is_brisk=state.is_brisk)
        slots = max(1, ceil(open_to))
        return min(slots, self.shedding.overrides.caps.get(traffic_class.name, slots))

    def state(self, traffic_class: TrafficClass, now: float, size: int = 0) -> BackendState:
        """What a message of this class and size would meet now; while observing, if we were not."""
        occupancy = self._policy_occupancy(now)
        own = self._own[traffic_class.name]
        is_released = self.shedding.overrides.is_released(traffic_class.name)
        return BackendState(
            self._has_room(self._in_force(traffic_class), size, occupancy)
            and not self.shedding.is_closed(traffic_class, own),
            self.is_closed or not self.breaker.may_enter(now),
            self.quotas_bite(now) and not is_released,
            self._waiting_before(traffic_class) < room.places_to_wait(occupancy.limit),
            self.shedding.keeps_back(traffic_class) or self._stands_behind(traffic_class),
        )

    def wake_at(self, now: float) -> float | None:
        """When somebody may be served though nothing else happens, or a question will be due."""
        breaker = self.breaker
        if self.is_closed or not (self._works or breaker.is_asking):
            return None
        delay = breaker.next_change(now)
        return now + delay if delay > 0 else None

    # What happens.

    def note_arrival(self, work: Work, now: float) -> None:
        """A live message has arrived, whatever is decided about it."""
        expected = self._limit.expected(work.size, work.recipients)
        if expected is not None:
            self.shedding.divert.offered.note(work.traffic_class.name, expected, now)

    def try_start(self, work: Work, now: float) -> Slot | None:
        """Take a slot if one is free for it and nobody with a better claim waits."""
        if work.traffic_class.rank == 0:
            self._reserve.note_arrival(now)
        if (
            self.is_closed
            or not self._has_room(self._terms(work), work.size, self._occupancy(now))
            or self._is_held(work, now)
            or not self.breaker.try_enter(now)
        ):
            return None
        if work.is_live:
            self.shedding.waits.on_served(work.traffic_class, 0.0, now)
        return self._grant(work, now)

    def offer(self, item: Item, work: Work, now: float, wall: float) -> None:
        """Let `item`, for which `try_start` had no slot, wait from now on."""
        assert not self.is_closed, "nobody will ever be served"
        self._wall = wall
        self._queue(item, work)
        self._works[item] = work
        if work.is_live:
            self._live_since[item] = now
            self._live_waiting[work.traffic_class.rank] += 1
        else:
            self._lanes[work.traffic_class.name] += 1
            self._ramped_waiting += work.traffic_class.rank >= FREE_RANKS

    def withdraw(self, item: Item) -> None:
        """`item` waits no longer; unknown items are ignored."""
        if self._forget(item) is not None:
            self._scheduler.withdraw(item)

    def next(self, now: float, wall: float) -> tuple[Item, Slot] | None:
        """Serve one of those who wait, if anybody may start; to be asked until nobody may."""
        self._wall = wall
        self.breaker.widen(now)
        if self.is_closed or not self._works or not self.breaker.may_enter(now):
            return None
        item = self._next_item(now, wall)
        if item is None:
            return None
        since = self._live_since.get(item)
        work = self._forget(item)
        assert work is not None, "it waits in the scheduler only"
        is_entered = self.breaker.try_enter(now)
        assert is_entered, "the breaker said that somebody may enter"
        if since is not None:
            self.shedding.waits.on_served(work.traffic_class, now - since, now)
        return item, self._grant(work, now)

    def send_away(self, now: float) -> list[Item]:
        """Take out live mail that should not wait any longer.

        That is all of it if the backend is away, and what has waited too long in a class with a
        standing queue.
        """
        if not self.breaker.may_enter(now):
            return self._withdraw_all(iter(self._live_since))
        waits = self.shedding.waits
        if not waits.overloaded or self.is_observing:
            return []
        late = []
        for item, since in self._live_since.items():
            traffic_class = self._works[item].traffic_class
            if now - since > self.shedding.patience(traffic_class):
                waits.on_left(traffic_class, now - since, now)
                late.append(item)
        return self._withdraw_all(iter(late))

    def set_overrides(self, overrides: Overrides) -> list[Item]:
        """Obey these from now on; take out the live items that are not to wait any longer."""
        self.shedding.overrides = overrides
        self._released.clear()
        gone = [item for item in self._live_since if self.is_held(self._works[item].traffic_class)]
        return self._withdraw_all(iter(gone))

    def release(
        self, slot: Slot, ending: SlotEnding, times: StageTimes, now: float, jitter: float
    ) -> None:
        """Take a slot back with what became of its message."""
        assert not slot.is_released, "a slot is given back once"
        slot.is_released = True
        self._in_flight -= 1
        self._own[slot.traffic_class.name] -= 1
        self._elephants -= slot.is_large
        self._live_in_flight -= slot.is_live
        self._count_ramped(slot, -1)
        self._limit.on_end(now, slot.flight, ending, times)
        self.breaker.on_end(
            now, slot.flight, ending, jitter, limit=self._limit.limit(now), probe=slot.probe
        )
        if ending is not SlotEnding.UNUSED:
            self._reserve.note_service(now - slot.flight.started_at)

    def tick(self, now: float, *, has_spooled: bool) -> LimitChange | None:
        """Let time pass, four times a second; `has_spooled`: the spool holds mail that is due."""
        somebody_waits = self._waiting_for_room() > 0
        change = self._limit.tick(now, is_backlogged=has_spooled or somebody_waits)
        # Not what the spool holds: of that, what may be tried now waits here, and a message that is
        # due in hours must not keep a backend away which answers.
        self.breaker.tick(now, limit=self._limit.limit(now), is_backlogged=somebody_waits)
        self.diverted = self.shedding.tick(now, self._standing(now))
        return change

    def close(self) -> list[Item]:
        """Hand out no more slots; return who waited. Slots in use come back as usual."""
        self.is_closed = True
        return self._withdraw_all(self._works)

    # How it is done.

    def _standing(self, now: float) -> Standing:
        occupancy = self._policy_occupancy(now)
        return Standing(
            limit=occupancy.limit,
            reserve=occupancy.reserve,
            in_flight=self._in_flight,
            reading=self.reading(now),
            is_away=self.breaker.is_open,
            is_draining=self._ramped_waiting + self._ramped_in_flight > 0,
            waiting=frozenset(work.traffic_class.name for work in self._works.values()),
            lanes=frozenset(name for name, count in self._lanes.items() if count),
            live_waits=lambda traffic_class: self._live_waits(traffic_class, now),
        )

    def _live_waits(self, traffic_class: TrafficClass, now: float) -> tuple[int, float]:
        """How many live messages of a class wait, and how long the first of them has."""
        since = [
            at
            for item, at in self._live_since.items()
            if self._works[item].traffic_class.name == traffic_class.name
        ]
        return len(since), now - min(since, default=now)

    def _probe_item(self) -> Item | None:
        """The message to try a backend with that is away: of rank 0 the oldest, else the smallest.

        Not the one that was tried last, if there is another: it may be what the backend stalls at.
        """
        closed = () if self.is_observing else self.shedding.full(self._own)
        item = min(
            (item for item, work in self._works.items() if work.traffic_class.name not in closed),
            key=lambda item: _as_probe(self._works[item], self._last_probe),
            default=None,
        )
        if item is not None:
            self._scheduler.withdraw(item)
        return item

    def _next_item(self, now: float, wall: float) -> Item | None:
        """Who is next, of those whom nothing keeps back."""
        if self._in_flight >= self._limit.ceiling:
            return None
        if self.breaker.is_open:
            return self._probe_item()
        occupancy = self._occupancy(now)
        if self.is_observing:
            return self._scheduler.next(occupancy, self._own, wall)
        closed, works = self.shedding.full(self._own), self._works
        for least in self._held_ranks(now):
            item = self._scheduler.next(
                occupancy,
                self._own,
                wall,
                closed=closed,
                is_held=None if least is None else partial(_is_ramped_item, works, least),
            )
            if item is not None:
                return item
        return None

    def _is_held(self, work: Work, now: float) -> bool:
        """Whether this one may not start, though there is a slot for its class."""
        if self.is_observing:
            return False
        traffic_class = work.traffic_class
        if self.shedding.is_closed(traffic_class, self._own[traffic_class.name]):
            return True
        if not _is_ramped(work):
            return False
        return (
            bool(self._live_since and self._is_share_used)
            or self._is_ramp_full(now)
            or bool(self._works and self._is_coming_back and _is_ramped(work, DRAIN_RANK))
        )

    @property
    def _is_coming_back(self) -> bool:
        return self.breaker.state is BreakerState.HALF_OPEN

    def _held_ranks(self, now: float) -> tuple[int | None, ...]:
        """From which rank on spooled mail may not start; if nobody else does, from the next."""
        if not self._ramped_waiting:
            return (None,)
        if self._is_ramp_full(now):
            return (FREE_RANKS,)
        if self._live_since and self._is_share_used:
            return (FREE_RANKS, None)
        return (DRAIN_RANK, None) if self._is_coming_back else (None,)

    @property
    def _ramped_in_flight(self) -> int:
        """Slots in use by spooled mail that the ramp counts, stragglers aside."""
        return self._ramped[self.breaker.epoch]

    @property
    def _is_share_used(self) -> bool:
        """Whether spooled mail has its share, so that live mail that may start goes first."""
        return self._ramped_in_flight >= self.shedding.ramp.slots

    def _is_ramp_full(self, now: float) -> bool:
        """Whether spooled mail has all the slots that it may have now."""
        occupancy = self._policy_occupancy(now)
        return self._ramped_in_flight >= self.shedding.ramp.cap(
            now,
            limit=occupancy.limit,
            reserve=occupancy.reserve,
            live_in_flight=self._live_in_flight,
        )

    def _terms(self, work: Work) -> TrafficClass:
        """The class by whose rules it waits."""
        if not self.is_observing:
            return self._in_force(work.traffic_class)
        return OBSERVED_LIVE if work.is_live else OBSERVED_SPOOLED

    def _in_force(self, traffic_class: TrafficClass) -> TrafficClass:
        """The class as it is meanwhile: not kept out of the last slots if it is released."""
        if not self.shedding.overrides.is_released(traffic_class.name):
            return traffic_class
        found = self._released.get(traffic_class)
        if found is None:
            found = self._released[traffic_class] = replace(traffic_class, threshold=1.0)
        return found

    def _stands_behind(self, traffic_class: TrafficClass) -> Reason | None:
        """Why a newcomer is spooled at once: its class is limited, and others of it wait."""
        most = self.shedding.overrides.slots(traffic_class.name)
        if most is None or self.in_flight_of(traffic_class) + self.waiting_of(traffic_class) < most:
            return None
        return Reason.OVERRIDE

    def _waiting_for_room(self) -> int:
        """Messages that wait for want of room, and not since an operator wants them to."""
        if self.is_observing:
            return len(self._works)
        kept = self.shedding.full(self._own)
        return len(self._works) - sum(map(self._scheduler.waiting_named, kept))

    def _occupancy(self, now: float) -> Occupancy:
        """How the slots stand, by the rules in force."""
        if not self.is_observing:
            return self._policy_occupancy(now)
        ceiling = self._ceiling_now()
        return Occupancy(self._in_flight - self.breaker.stragglers, 0, ceiling, ceiling)

    def _policy_occupancy(self, now: float) -> Occupancy:
        ceiling, reserve = self._ceiling_now(), self._reserve
        limit = min(self._limit.limit(now), ceiling)
        kept_free = reserve.slots(now, limit)
        in_flight = self._in_flight - self.breaker.stragglers
        return Occupancy(in_flight, self._elephants, limit, ceiling, kept_free, reserve.is_brisk)

    def _ceiling_now(self) -> int:
        """Slots that are never exceeded, those aside that stragglers of an outage hold."""
        cap, ceiling = self.breaker.cap, self._limit.ceiling - self.breaker.stragglers
        return max(1, ceiling if cap is None else min(cap, ceiling))

    def _has_room(self, traffic_class: TrafficClass, size: int, occupancy: Occupancy) -> bool:
        """Whether a newcomer may start, and stands behind nobody who may."""
        return (
            self._in_flight < self._limit.ceiling
            and not self._scheduler.must_queue(traffic_class)
            and room.may_start(
                traffic_class,
                self._own[traffic_class.name],
                occupancy,
                is_large=room.is_elephant(size),
            )
        )

    def _waiting_before(self, traffic_class: TrafficClass) -> int:
        """Live messages of this rank and better ones that wait, rank 0 aside.

        Those of worse ranks do not count: a flood of them must not send better mail to the spool.
        """
        if not self._live_since:
            return 0  # nearly always
        rank = traffic_class.rank
        return sum(count for each, count in self._live_waiting.items() if 0 < each <= rank)

    def _grant(self, work: Work, now: float) -> Slot:
        traffic_class, size = work.traffic_class, work.size
        is_first = traffic_class.rank == 0
        is_large = not is_first and room.is_elephant(size)
        self._in_flight += 1
        self._own[traffic_class.name] += 1
        self._elephants += is_large
        self._live_in_flight += work.is_live
        if work.is_live:
            self.shedding.ramp.note_live(self._live_in_flight, now)
        flight = Flight(size, work.recipients, is_first, now, self._in_flight)
        self._limit.on_start(now, flight)
        self.breaker.on_start(flight, work.sender)
        if self.breaker.probe:
            self._last_probe = work
        slot = Slot(
            traffic_class,
            flight,
            work.is_live,
            is_large,
            self.breaker.probe,
            self.breaker.epoch,
        )
        self._count_ramped(slot, 1)
        return slot

    def _count_ramped(self, slot: Slot, change: int) -> None:
        if _is_ramped(slot):
            self._ramped[slot.epoch] += change
            if not self._ramped[slot.epoch]:
                del self._ramped[slot.epoch]

    def _queue(self, item: Item, work: Work) -> None:
        """Let it wait in the line of its class, or of all mail."""
        self._scheduler.offer(
            item,
            self._terms(work),
            wall=self._wall,
            arrived_wall=work.arrived_wall,
            sender=b"" if self.is_observing else work.sender,
            size=work.size,
            recipients=work.recipients,
            penalty=work.penalty,
        )

    def _forget(self, item: Item) -> Work | None:
        work = self._works.pop(item, None)
        if work is None:
            return None
        traffic_class = work.traffic_class
        if work.is_live:
            del self._live_since[item]
            self._live_waiting[traffic_class.rank] -= 1
        else:
            self._lanes[traffic_class.name] -= 1
            self._ramped_waiting -= traffic_class.rank >= FREE_RANKS
        return work

    def _withdraw_all(self, items: Iterator[Item] | dict[Item, Work]) -> list[Item]:
        gone = list(items)
        for item in gone:
            self.withdraw(item)
        return gone


def _as_probe(work: Work, last: Work | None) -> tuple[bool, bool, float, float]:
    """How well a message suits as a probe; the least is the best."""
    is_first = work.traffic_class.rank == 0
    return work == last, not is_first, 0.0 if is_first else work.size, work.arrived_wall


def _is_ramped(what: Work | Slot, least: int = FREE_RANKS) -> bool:
    """Whether it is spooled mail that is let in step by step, of rank `least` or worse."""
    return not what.is_live and what.traffic_class.rank >= least


def _is_ramped_item(works: Mapping[Item, Work], least: int, item: Item) -> bool:
    return _is_ramped(works[item], least)
