"""The slots of one backend, and the one door through which live and spooled mail reach it.

A slot is the right to have one message in flight. The limit says how many there are, the scheduler
says who is next, the breaker says whether anybody may try at all; this shell holds the three
together, wakes those who wait, and feeds back what became of each slot. Live mail waits here for a
bounded time, the drain without bound, and nobody else talks to the backend: so there are no timers
per message and nothing to stampede when the backend comes back.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

from mailshed.admission.policy import BackendState
from mailshed.admission.scheduler import Scheduler, has_room
from mailshed.clock import Clock
from mailshed.control.breaker import Breaker
from mailshed.control.limit import FixedLimit, Sample, SlotEnding
from mailshed.mail.delivery import Deferred, InDoubt, TransactionResult
from mailshed.terms import TrafficClass


@dataclass(eq=False, slots=True)
class Slot:
    """The right to have one message in flight; give it back with `Gate.release`."""

    traffic_class: TrafficClass
    in_flight: int
    """Slots in use when this one was taken, itself included."""
    probe: int = 0
    """Number of the breaker's probe that this is, 0 if it is none."""
    is_released: bool = False


@dataclass(eq=False, slots=True)
class _Waiter:
    traffic_class: TrafficClass
    granted: "asyncio.Future[Slot | None]"


class Gate:
    """Limit, scheduler and breaker of one backend, joined to the event loop."""

    def __init__(self, *, limit: FixedLimit, clock: Clock, rng: random.Random) -> None:
        self._limit = limit
        self._clock = clock
        self._rng = rng
        self._breaker = Breaker()
        self._scheduler: Scheduler[_Waiter] = Scheduler()
        self._in_flight: Counter[str] = Counter()
        self._total_in_flight = 0
        self._probe_timer: asyncio.TimerHandle | None = None
        self._bounded: set[_Waiter] = set()
        """Those who wait for a limited time."""
        self._is_closed = False
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
    def limit(self) -> int:
        """Slots there are now."""
        return self._limit.limit(self._clock.monotonic())

    @property
    def is_up(self) -> bool:
        """Whether the backend answers, as far as we know."""
        return not self._breaker.is_open

    @property
    def is_closed(self) -> bool:
        """Whether no more slots are handed out, since the service is stopping."""
        return self._is_closed

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

    def state(self, traffic_class: TrafficClass) -> BackendState:
        """What a message of this class would meet now."""
        now = self._clock.monotonic()
        return BackendState(
            in_flight=self._total_in_flight,
            limit=self._limit.limit(now),
            waiting=self._scheduler.waiting_up_to(traffic_class.rank),
            is_away=self._is_closed or not self._breaker.may_enter(now),
        )

    def try_acquire(self, traffic_class: TrafficClass) -> Slot | None:
        """Take a slot if one is free for this class and nobody with a better claim waits."""
        now = self._clock.monotonic()
        if (
            self._is_closed
            or self._scheduler.waiting_up_to(traffic_class.rank)
            or not has_room(traffic_class, self._total_in_flight, self._limit.limit(now))
            or not self._breaker.try_enter(now)
        ):
            return None
        return self._grant(traffic_class)

    async def acquire(
        self, traffic_class: TrafficClass, arrived_wall: float, timeout: float | None
    ) -> Slot | None:
        """Wait for a slot; None after `timeout` seconds, or when the gate closes.

        Who waits without bound (`timeout` None) also waits for a backend that is away; others are
        told None when it turns out to be.

        `arrived_wall`, the Unix time of the message's arrival, orders those of one rank.
        """
        if slot := self.try_acquire(traffic_class):
            return slot
        if self._is_closed:
            return None
        loop = asyncio.get_running_loop()
        waiter = _Waiter(traffic_class, loop.create_future())
        self._scheduler.offer(waiter, traffic_class, arrived_wall)
        timer = None
        if timeout is not None:
            timer = loop.call_later(timeout, self._give_up, waiter)
            self._bounded.add(waiter)
        self._dispatch()  # a probe may be due
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise
        finally:
            self._bounded.discard(waiter)
            if timer is not None:
                timer.cancel()

    def release(self, slot: Slot, result: TransactionResult | None, size: int = 0) -> None:
        """Give a slot back with what became of its message; None if the backend was not asked."""
        assert not slot.is_released, "a slot is given back once"
        slot.is_released = True
        self._total_in_flight -= 1
        self._in_flight[slot.traffic_class.name] -= 1
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

    def _grant(self, traffic_class: TrafficClass) -> Slot:
        self._total_in_flight += 1
        self._in_flight[traffic_class.name] += 1
        return Slot(traffic_class, self._total_in_flight, self._breaker.probe)

    def _dispatch(self) -> None:
        """Hand free slots to those who are next."""
        if self._is_closed:
            return
        now = self._clock.monotonic()
        limit = self._limit.limit(now)
        while len(self._scheduler):
            if not self._breaker.may_enter(now):
                self._send_away()
                self._wake_for_probe(now)
                return
            waiter = self._scheduler.next(self._total_in_flight, limit)
            if waiter is None:
                return
            if waiter.granted.done():
                continue  # cancelled a moment ago, and not awake yet to say so
            is_entered = self._breaker.try_enter(now)
            assert is_entered, "the breaker said that somebody may enter"
            waiter.granted.set_result(self._grant(waiter.traffic_class))

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
