"""The door to one backend: the one way by which live and spooled mail reach it.

The station (`mailshed.station`) decides who has a slot; this shell joins it to the event loop: it
wakes those who are served, bounds how long live mail waits, and feeds back what became of each
slot. The drain waits without bound. Nobody else hands messages to the backend.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from functools import partial

from mailshed.admission import room
from mailshed.admission.policy import BackendState
from mailshed.clock import Clock
from mailshed.control.breaker import FAILED, Question
from mailshed.control.limit import Limit, LimitChange, SlotEnding
from mailshed.control.overrides import Overrides
from mailshed.mail.delivery import StageTimes, TransactionResult
from mailshed.relay.endings import ending_of, error_of, times_of
from mailshed.relay.presets import GENERIC, Preset
from mailshed.relay.probe import Prober
from mailshed.station import Station
from mailshed.terms import Reason, TrafficClass
from mailshed.work import Slot, Work

_NO_TIMES = StageTimes()


@dataclass(eq=False, slots=True)
class _Waiter:
    granted: "asyncio.Future[Slot | None]"


class Gate:
    """One station, joined to the event loop."""

    def __init__(
        self,
        *,
        limit: Limit,
        clock: Clock,
        rng: random.Random,
        preset: Preset = GENERIC,
        prober: Prober | None = None,
    ) -> None:
        self.station: Station[_Waiter] = Station(limit)
        self.station.breaker.can_ask = prober is not None
        self._prober = prober
        self._preset = preset
        self._clock = clock
        self._rng = rng
        self._probe_timer: asyncio.TimerHandle | None = None
        self.last_error = ""
        """How the backend failed most recently, for people."""
        self.endings: Counter[str] = Counter()
        """How many messages ended in which way."""

    @property
    def in_flight(self) -> int:
        """Slots in use."""
        return self.station.in_flight

    @property
    def waiting(self) -> int:
        """Messages that wait for a slot, live and spooled."""
        return self.station.waiting

    @property
    def stragglers(self) -> int:
        """Of the slots in use, those that do not count: what hangs since an outage."""
        return self.station.breaker.stragglers

    @property
    def live_waiting(self) -> int:
        """Messages below rank 0 that wait for a slot while their client does."""
        return self.station.live_waiting

    @property
    def live_waiting_limit(self) -> int:
        """Where so many of a class's rank and better ones wait, more of it is spooled at once."""
        return room.places_to_wait(self.limit)

    @property
    def limit(self) -> int:
        """Slots there are now."""
        return self.station.limit(self._clock.monotonic())

    @property
    def ceiling(self) -> int:
        """Slots that are never exceeded."""
        return self.station.ceiling

    @property
    def reserve(self) -> int:
        """Slots that are kept free for rank 0."""
        return self.station.reserve(self._clock.monotonic())

    @property
    def is_up(self) -> bool:
        """Whether the backend answers, as far as we know."""
        return not self.station.breaker.is_open

    @property
    def is_closed(self) -> bool:
        """Whether no more slots are handed out, since the service is stopping."""
        return self.station.is_closed

    @property
    def is_observing(self) -> bool:
        """Whether classes are not told apart."""
        return self.station.is_observing

    @is_observing.setter
    def is_observing(self, is_observing: bool) -> None:
        self.station.is_observing = is_observing

    @property
    def is_pressed(self) -> bool:
        """Whether the backend is under pressure."""
        return self.station.is_pressed(self._clock.monotonic())

    @property
    def next_probe(self) -> float:
        """Seconds until a backend that is away is tried again."""
        return self.station.breaker.next_probe(self._clock.monotonic())

    def in_flight_of(self, traffic_class: TrafficClass) -> int:
        """Slots in use by one class."""
        return self.station.in_flight_of(traffic_class)

    def waiting_of(self, traffic_class: TrafficClass) -> int:
        """Messages of one class that wait for a slot."""
        return self.station.waiting_of(traffic_class)

    def open_to(self, traffic_class: TrafficClass) -> int:
        """Slots in use below which a message of this class may start, guarantees aside."""
        return self.station.open_to(traffic_class, self._clock.monotonic())

    def state(self, traffic_class: TrafficClass, size: int = 0) -> BackendState:
        """What a message of this class and size would meet now; while observing, if we were not."""
        return self.station.state(traffic_class, self._clock.monotonic(), size)

    @property
    def quotas_bite(self) -> bool:
        """Whether what exceeds a quota has to give way."""
        return self.station.quotas_bite(self._clock.monotonic())

    def arrive(self, work: Work) -> BackendState:
        """A live message has arrived, whatever is decided about it; say what it meets."""
        now = self._clock.monotonic()
        self.station.note_arrival(work, now)
        return self.station.state(work.traffic_class, now, work.size)

    def try_acquire(self, work: Work) -> Slot | None:
        """Take a slot if one is free for its class and nobody with a better claim waits."""
        return self.station.try_start(work, self._clock.monotonic())

    async def acquire(self, work: Work, timeout: float | None) -> Slot | None:
        """Wait for a slot; None after `timeout` seconds, or when the gate closes.

        Without a `timeout` it is spooled mail, which also waits for a backend that is away; live
        mail is told None when the backend turns out to be.
        """
        assert work.is_live is (timeout is not None), "spooled mail waits for as long as it takes"
        if slot := self.station.try_start(work, self._clock.monotonic()):
            return slot
        if self.is_closed:
            return None
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop.create_future())
        self.station.offer(waiter, work, self._clock.monotonic(), self._clock.wall())
        timer = None
        if timeout is not None:
            timer = loop.call_later(timeout, self._give_up, waiter)
        self._dispatch()  # a probe may be due
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def note_crowded(self, connections: int) -> None:
        """The backend greets no more than so many connections at a time."""
        self.station.note_crowded(connections, self._clock.monotonic())

    def release(self, slot: Slot, result: TransactionResult | None) -> None:
        """Give a slot back with what became of its message; None if the backend was not asked."""
        ending, jitter = ending_of(result, self._preset), 0.0
        self.endings[ending.value] += 1
        if ending in FAILED:
            self.last_error = error_of(result)
            jitter = self._rng.random()
        times = _NO_TIMES if result is None else times_of(result, self._preset)
        self.station.release(slot, ending, times, self._clock.monotonic(), jitter)
        self._dispatch()

    def is_held(self, traffic_class: TrafficClass) -> bool:
        """Whether an operator keeps this class in the spool."""
        return self.station.is_held(traffic_class)

    def why_not(self, traffic_class: TrafficClass, reason: Reason) -> Reason:
        """Why there is no slot, as things are now; `reason` is why there was none before a wait."""
        if self.is_closed:
            return Reason.SHUTDOWN
        if self.is_held(traffic_class):
            return Reason.OVERRIDE
        return reason if self.is_up else Reason.BACKEND_AWAY

    def set_overrides(self, overrides: Overrides) -> None:
        """Obey these from now on; live mail of classes that are held is told None."""
        for waiter in self.station.set_overrides(overrides):
            _tell_none(waiter)
        self._dispatch()  # others may start now

    def tick(self, *, has_spooled: bool) -> LimitChange | None:
        """Let the station see that time passes; `has_spooled`: the spool holds mail that is due."""
        change = self.station.tick(self._clock.monotonic(), has_spooled=has_spooled)
        self._dispatch()  # the limit may have risen
        return change

    def close(self) -> None:
        """Hand out no more slots; whoever waits gets None. Slots in use come back as usual."""
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        for waiter in self.station.close():
            _tell_none(waiter)

    def _dispatch(self) -> None:
        """Hand free slots to those who are next."""
        if self.station.is_calm:
            return
        now, wall = self._clock.monotonic(), self._clock.wall()
        while served := self.station.next(now, wall):
            waiter, slot = served
            if waiter.granted.done():  # cancelled a moment ago, and not awake yet to say so
                self.station.release(slot, SlotEnding.UNUSED, _NO_TIMES, now, 0.0)
            else:
                waiter.granted.set_result(slot)
        for waiter in self.station.send_away(now):
            _tell_none(waiter)
        self._ask(now)
        self._wake_for_probe(now)

    def _ask(self, now: float) -> None:
        """Ask a backend that is away what is due to be asked."""
        if self._prober is None or self.is_closed:
            return
        question = self.station.breaker.try_ask(now)
        if question is not None:
            self._prober.start(question.step, partial(self._on_answer, question))

    def _on_answer(self, question: Question, ending: SlotEnding, detail: str) -> None:
        jitter = 0.0
        if ending in FAILED:
            self.last_error, jitter = detail, self._rng.random()
        self.station.breaker.on_answer(self._clock.monotonic(), question, ending, jitter)
        self._dispatch()

    def _wake_for_probe(self, now: float) -> None:
        wake_at = self.station.wake_at(now)
        if wake_at is None:
            return
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        loop = asyncio.get_running_loop()
        self._probe_timer = loop.call_later(wake_at - now, self._dispatch)

    def _give_up(self, waiter: _Waiter) -> None:
        self.station.withdraw(waiter)
        _tell_none(waiter)
        self._dispatch()  # it may have stood in the way of others

    def _abandon(self, waiter: _Waiter) -> None:
        """The one who waited was cancelled, perhaps in the same moment as it was served."""
        self.station.withdraw(waiter)
        if waiter.granted.done() and not waiter.granted.cancelled():
            slot = waiter.granted.result()
            if slot is not None:
                self.release(slot, None)
        self._dispatch()


def _tell_none(waiter: _Waiter) -> None:
    if not waiter.granted.done():
        waiter.granted.set_result(None)
