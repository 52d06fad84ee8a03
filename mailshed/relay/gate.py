"""The slots of one backend, and the one door through which live and spooled mail reach it.

A slot is the right to have one message in flight. The limit says how many there are, the room rules
who may start, the scheduler who is next, the breaker whether anybody may try at all; this shell
holds them together, wakes those who wait, and feeds back what became of each slot. Live mail waits
here for a bounded time, the drain without bound, and nobody else talks to the backend: so there are
no timers per message and nothing to stampede when the backend comes back.

While observing, nothing of this tells classes apart: slots up to the limit's ceiling, which is the
backend's own bound, and beyond them first come, first served, live mail before spooled mail.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from math import ceil

from mailshed.admission import room
from mailshed.admission.policy import BackendState
from mailshed.admission.room import Occupancy
from mailshed.admission.scheduler import Scheduler
from mailshed.clock import Clock
from mailshed.control.breaker import Breaker
from mailshed.control.limit import FixedLimit, Sample, SlotEnding
from mailshed.control.reserve import Reserve
from mailshed.mail.delivery import Deferred, InDoubt, TransactionResult
from mailshed.terms import TrafficClass


def _observed(name: str, weight: float) -> TrafficClass:
    return TrafficClass(
        name=name,
        rank=1,
        threshold=1.0,
        wait_max_mta=0.0,
        wait_max_user_agent=0.0,
        objective=float("inf"),
        weight=weight,
    )


# As what all mail waits while observing. Spooled mail, which is there since the backend was away,
# has a fifth, so that its age does not put all of it before what comes in now.
_OBSERVED_LIVE = _observed("observed-live", 4.0)
_OBSERVED_SPOOLED = _observed("observed-spooled", 1.0)


@dataclass(eq=False, slots=True)
class Slot:
    """The right to have one message in flight; give it back with `Gate.release`."""

    traffic_class: TrafficClass
    in_flight: int
    """Slots in use when this one was taken, itself included."""
    taken_at: float = 0.0
    """Monotonic seconds."""
    is_large: bool = False
    """It counts among the elephants."""
    probe: int = 0
    """Number of the breaker's probe that this is, 0 if it is none."""
    is_released: bool = False


@dataclass(eq=False, slots=True)
class _Waiter:
    traffic_class: TrafficClass
    size: int
    granted: "asyncio.Future[Slot | None]"


class Gate:
    """Limit, scheduler and breaker of one backend, joined to the event loop."""

    def __init__(self, *, limit: FixedLimit, clock: Clock, rng: random.Random) -> None:
        self._limit = limit
        self._clock = clock
        self._rng = rng
        self._breaker = Breaker()
        self._reserve = Reserve()
        self._scheduler: Scheduler[_Waiter] = Scheduler()
        self._in_flight: Counter[str] = Counter()
        self._total_in_flight = 0
        self._elephants = 0
        self._probe_timer: asyncio.TimerHandle | None = None
        self._bounded: set[_Waiter] = set()
        """Those who wait for a limited time."""
        self._live_waiting: Counter[int] = Counter()
        """Messages that wait while their client does, by rank."""
        self._is_closed = False
        self.is_observing = False
        """Whether classes are not told apart."""
        self.last_error = ""
        """How the backend failed most recently, for people."""

    @property
    def in_flight(self) -> int:
        """Slots in use."""
        return self._total_in_flight

    @property
    def waiting(self) -> int:
        """Messages that wait for a slot, live and spooled."""
        return len(self._scheduler)

    @property
    def live_waiting(self) -> int:
        """Messages below rank 0 that wait for a slot while their client does."""
        return self._live_waiting.total() - self._live_waiting[0]

    @property
    def live_waiting_limit(self) -> int:
        """Where so many of a class's rank and better ones wait, more of it is spooled at once."""
        return room.places_to_wait(self.limit)

    @property
    def limit(self) -> int:
        """Slots there are now."""
        return self._limit.limit(self._clock.monotonic())

    @property
    def ceiling(self) -> int:
        """Slots that are never exceeded."""
        return self._limit.ceiling

    @property
    def reserve(self) -> int:
        """Slots that are kept free for rank 0."""
        return self._occupancy(self._clock.monotonic()).reserve

    @property
    def is_up(self) -> bool:
        """Whether the backend answers, as far as we know."""
        return not self._breaker.is_open

    @property
    def is_closed(self) -> bool:
        """Whether no more slots are handed out, since the service is stopping."""
        return self._is_closed

    @property
    def is_pressed(self) -> bool:
        """Whether the backend is under pressure."""
        return room.is_pressed(self._total_in_flight, self.limit, len(self._scheduler))

    @property
    def next_probe(self) -> float:
        """Seconds until a backend that is away is tried again."""
        return self._breaker.next_probe(self._clock.monotonic())

    def in_flight_of(self, traffic_class: TrafficClass) -> int:
        """Slots in use by one class."""
        return self._in_flight[traffic_class.name]

    def waiting_of(self, traffic_class: TrafficClass) -> int:
        """Messages of one class that wait for a slot."""
        return self._scheduler.waiting(traffic_class)

    def _waiting_before(self, traffic_class: TrafficClass) -> int:
        """Live messages of this rank and better ones that wait, rank 0 aside.

        Those of worse ranks do not count: a flood of them must not send better mail to the spool.
        """
        rank = traffic_class.rank
        return sum(count for each, count in self._live_waiting.items() if 0 < each <= rank)

    def open_to(self, traffic_class: TrafficClass) -> int:
        """Slots in use below which a message of this class may start, guarantees aside."""
        state = self._occupancy(self._clock.monotonic())
        return max(1, ceil(room.threshold_slots(traffic_class, state.limit, state.reserve)))

    def state(self, traffic_class: TrafficClass, size: int = 0) -> BackendState:
        """What a message of this class and size would meet now; while observing, if we were not."""
        now = self._clock.monotonic()
        occupancy = self._policy_occupancy(now)
        waiting = len(self._scheduler)
        return BackendState(
            self._has_room(traffic_class, size, occupancy),
            self._is_closed or not self._breaker.may_enter(now),
            room.is_pressed(occupancy.in_flight, occupancy.limit, waiting),
            self._waiting_before(traffic_class) < room.places_to_wait(occupancy.limit),
        )

    def try_acquire(self, traffic_class: TrafficClass, size: int = 0) -> Slot | None:
        """Take a slot if one is free for this class and nobody with a better claim waits."""
        now = self._clock.monotonic()
        self._note_arrival(traffic_class, now)
        return self._try(traffic_class, size, now)

    async def acquire(
        self,
        traffic_class: TrafficClass,
        arrived_wall: float,
        timeout: float | None,
        *,
        sender: bytes = b"",
        size: int = 0,
        recipients: int = 1,
        penalty: float = 1.0,
    ) -> Slot | None:
        """Wait for a slot; None after `timeout` seconds, or when the gate closes.

        Who waits without bound (`timeout` None) also waits for a backend that is away; others are
        told None when it turns out to be.

        `arrived_wall`, the Unix time of the message's arrival, orders those of one sender; `size`
        and `recipients` say what the message costs its sender and class, and `penalty` multiplies
        what it costs its sender.
        """
        now = self._clock.monotonic()
        self._note_arrival(traffic_class, now)
        if slot := self._try(traffic_class, size, now):
            return slot
        if self._is_closed:
            return None
        is_live = timeout is not None
        if self.is_observing:
            terms, sender = _OBSERVED_LIVE if is_live else _OBSERVED_SPOOLED, b""
        else:
            terms = traffic_class
        loop = asyncio.get_running_loop()
        waiter = _Waiter(traffic_class, size, loop.create_future())
        self._scheduler.offer(
            waiter,
            terms,
            wall=self._clock.wall(),
            arrived_wall=arrived_wall,
            sender=sender,
            size=size,
            recipients=recipients,
            penalty=penalty,
        )
        timer = None
        if timeout is not None:
            timer = loop.call_later(timeout, self._give_up, waiter)
            self._bounded.add(waiter)
        self._live_waiting[traffic_class.rank] += is_live
        self._dispatch()  # a probe may be due
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise
        finally:
            self._bounded.discard(waiter)
            self._live_waiting[traffic_class.rank] -= is_live
            if timer is not None:
                timer.cancel()

    def release(self, slot: Slot, result: TransactionResult | None, size: int = 0) -> None:
        """Give a slot back with what became of its message; None if the backend was not asked."""
        assert not slot.is_released, "a slot is given back once"
        slot.is_released = True
        self._total_in_flight -= 1
        self._in_flight[slot.traffic_class.name] -= 1
        self._elephants -= slot.is_large
        now = self._clock.monotonic()
        ending = _ending(result)
        if result is not None:
            sample = Sample(
                ending=ending,
                service=result.times.service,
                size=size,
                recipients=len(result.recipients),
                in_flight=slot.in_flight,
            )
            self._limit.on_end(now, sample)
            self._reserve.note_service(now - slot.taken_at)
        if ending is SlotEnding.UNUSED:
            self._breaker.on_unused(slot.probe)
        elif ending in (SlotEnding.REFUSED, SlotEnding.STALLED):
            self.last_error = _error(result)
            self._breaker.on_failure(now, self._rng.random(), slot.probe)
        else:
            self._breaker.on_success()
        self._dispatch()

    def close(self) -> None:
        """Hand out no more slots; whoever waits gets None. Slots in use come back as usual."""
        self._is_closed = True
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        for waiter in self._scheduler.withdraw_all():
            if not waiter.granted.done():
                waiter.granted.set_result(None)

    def _note_arrival(self, traffic_class: TrafficClass, now: float) -> None:
        if traffic_class.rank == 0:
            self._reserve.note_arrival(now)

    def _occupancy(self, now: float) -> Occupancy:
        """How the slots stand, by the rules in force."""
        if not self.is_observing:
            return self._policy_occupancy(now)
        ceiling = self._limit.ceiling
        return Occupancy(self._total_in_flight, 0, ceiling, ceiling)

    def _policy_occupancy(self, now: float) -> Occupancy:
        limit = self._limit.limit(now)
        reserve = self._reserve.slots(now, limit)
        return Occupancy(
            self._total_in_flight, self._elephants, limit, self._limit.ceiling, reserve
        )

    def _has_room(self, traffic_class: TrafficClass, size: int, occupancy: Occupancy) -> bool:
        """Whether a newcomer may start, and stands behind nobody who may."""
        return not self._scheduler.must_queue(traffic_class) and room.may_start(
            traffic_class,
            self._in_flight[traffic_class.name],
            occupancy,
            is_large=room.is_elephant(size),
        )

    def _try(self, traffic_class: TrafficClass, size: int, now: float) -> Slot | None:
        terms = _OBSERVED_LIVE if self.is_observing else traffic_class
        if (
            self._is_closed
            or not self._has_room(terms, size, self._occupancy(now))
            or not self._breaker.try_enter(now)
        ):
            return None
        return self._grant(traffic_class, size, now)

    def _grant(self, traffic_class: TrafficClass, size: int, now: float) -> Slot:
        is_large = traffic_class.rank > 0 and room.is_elephant(size)
        self._total_in_flight += 1
        self._in_flight[traffic_class.name] += 1
        self._elephants += is_large
        return Slot(traffic_class, self._total_in_flight, now, is_large, self._breaker.probe)

    def _dispatch(self) -> None:
        """Hand free slots to those who are next."""
        if self._is_closed:
            return
        now = self._clock.monotonic()
        while len(self._scheduler):
            if not self._breaker.may_enter(now):
                self._send_away()
                self._wake_for_probe(now)
                return
            waiter = self._scheduler.next(self._occupancy(now), self._in_flight, self._clock.wall())
            if waiter is None:
                return
            if waiter.granted.done():
                continue  # cancelled a moment ago, and not awake yet to say so
            is_entered = self._breaker.try_enter(now)
            assert is_entered, "the breaker said that somebody may enter"
            waiter.granted.set_result(self._grant(waiter.traffic_class, waiter.size, now))

    def _send_away(self) -> None:
        """The backend is not there: nobody who would give up soon should wait for it."""
        for waiter in self._bounded:
            self._scheduler.withdraw(waiter)
            if not waiter.granted.done():
                waiter.granted.set_result(None)

    def _wake_for_probe(self, now: float) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        delay = self._breaker.next_probe(now)
        if delay > 0:
            loop = asyncio.get_running_loop()
            self._probe_timer = loop.call_later(delay, self._dispatch)

    def _give_up(self, waiter: _Waiter) -> None:
        self._scheduler.withdraw(waiter)
        if not waiter.granted.done():
            waiter.granted.set_result(None)
        self._dispatch()  # it may have stood in the way of others

    def _abandon(self, waiter: _Waiter) -> None:
        """The one who waited was cancelled, perhaps in the same moment as it was served."""
        self._scheduler.withdraw(waiter)
        if waiter.granted.done() and not waiter.granted.cancelled():
            slot = waiter.granted.result()
            if slot is not None:
                self.release(slot, None)
        self._dispatch()


def _ending(result: TransactionResult | None) -> SlotEnding:
    if result is None:
        return SlotEnding.UNUSED
    if result.is_backend_away:
        return SlotEnding.REFUSED
    is_answered = False
    for recipient in result.recipients:
        match recipient:
            case InDoubt():
                return SlotEnding.STALLED
            case Deferred(reply=None):
                continue
            case Deferred(reply=reply) if reply is not None and reply.code == 421:
                return SlotEnding.REFUSED
            case Deferred():
                return SlotEnding.BUSY
            case _:
                is_answered = True
    return SlotEnding.COMPLETED if is_answered else SlotEnding.STALLED


def _error(result: TransactionResult | None) -> str:
    match result.recipients[0] if result is not None else None:
        case Deferred(stage, answer, detail):
            return f"{stage.value}: {answer.text if answer is not None else detail}"
        case InDoubt(detail):
            return f"dot: {detail}"
        case _:
            return ""
