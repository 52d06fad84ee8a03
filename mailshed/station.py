"""The service station of one backend: its slots, who waits for them, and who is served next.

A slot is the right to have one message in flight. The limit says how many there are, the room rules
who may start, the scheduler who is next, the breaker whether anybody may try at all. This is where
they meet; `relay.gate` joins it to the event loop, and the simulation runs the very same object on
a clock of its own.

An item is whatever stands for a waiting message: hashable, opaque. It is offered, and then either
served by `next`, or withdrawn, or sent away. Live mail, whose client waits, and spooled mail wait
in one room, so there are no timers per message and nothing to stampede when the backend comes back.

While observing, nothing here tells classes apart: slots up to the limit's ceiling, which is the
backend's own bound, and beyond them first come, first served, live mail before spooled mail.

Pure: `now` is monotonic seconds, `wall` Unix time, `jitter` a random number in [0, 1).
"""

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Generic, TypeVar

from mailshed.admission import room
from mailshed.admission.policy import BackendState
from mailshed.admission.room import Occupancy
from mailshed.admission.scheduler import Scheduler
from mailshed.control.breaker import Breaker
from mailshed.control.limit import Flight, Limit, LimitChange, SlotEnding
from mailshed.control.reserve import Reserve
from mailshed.mail.delivery import StageTimes
from mailshed.terms import TrafficClass

Item = TypeVar("Item", bound=Hashable)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a message is to the station.

    `arrived_wall`, the Unix time of its arrival, orders those of one sender; `size` and
    `recipients` say what it costs its sender and class, and `penalty` multiplies what it costs its
    sender. `is_live`: its client waits; otherwise it comes from the spool.
    """

    traffic_class: TrafficClass
    size: int = 0
    recipients: int = 1
    sender: bytes = b""
    arrived_wall: float = 0.0
    is_live: bool = True
    penalty: float = 1.0


@dataclass(eq=False, slots=True)
class Slot:
    """The right to have one message in flight; give it back with `release`."""

    traffic_class: TrafficClass
    flight: Flight
    is_live: bool = True
    is_large: bool = False
    """It counts among the elephants."""
    probe: int = 0
    """Number of the breaker's probe that this is, 0 if it is none."""
    is_released: bool = False


class Station(Generic[Item]):
    """The slots of one backend, and its waiting room."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self.breaker = Breaker()
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
        self.is_closed = False
        """Whether no more slots are handed out."""
        self.is_observing = False
        """Whether classes are not told apart."""

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
    def ceiling(self) -> int:
        """Slots that are never exceeded."""
        return self._limit.ceiling

    def limit(self, now: float) -> int:
        """Slots there are."""
        return self._limit.limit(now)

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
        return room.is_pressed(self._in_flight, self.limit(now), len(self._works))

    def open_to(self, traffic_class: TrafficClass, now: float) -> int:
        """Slots in use below which a message of this class may start, guarantees aside."""
        state = self._occupancy(now)
        return max(1, ceil(room.threshold_slots(traffic_class, state.limit, state.reserve)))

    def state(self, traffic_class: TrafficClass, now: float, size: int = 0) -> BackendState:
        """What a message of this class and size would meet now; while observing, if we were not."""
        occupancy = self._policy_occupancy(now)
        return BackendState(
            self._has_room(traffic_class, size, occupancy),
            self.is_closed or not self.breaker.may_enter(now),
            room.is_pressed(occupancy.in_flight, occupancy.limit, len(self._works)),
            self._waiting_before(traffic_class) < room.places_to_wait(occupancy.limit),
        )

    def wake_at(self, now: float) -> float | None:
        """When `next` may have somebody though nothing else has happened; None if it may not."""
        if not self._works or self.breaker.may_enter(now):
            return None
        delay = self.breaker.next_probe(now)
        return now + delay if delay > 0 else None

    # What happens.

    def try_start(self, work: Work, now: float) -> Slot | None:
        """Take a slot if one is free for it and nobody with a better claim waits."""
        if work.traffic_class.rank == 0:
            self._reserve.note_arrival(now)
        if (
            self.is_closed
            or not self._has_room(self._terms(work), work.size, self._occupancy(now))
            or not self.breaker.try_enter(now)
        ):
            return None
        return self._grant(work, now)

    def offer(self, item: Item, work: Work, wall: float) -> None:
        """Let `item`, for which `try_start` had no slot, wait from `wall` on."""
        assert not self.is_closed, "nobody will ever be served"
        self._scheduler.offer(
            item,
            self._terms(work),
            wall=wall,
            arrived_wall=work.arrived_wall,
            sender=b"" if self.is_observing else work.sender,
            size=work.size,
            recipients=work.recipients,
            penalty=work.penalty,
        )
        self._works[item] = work
        self._live_waiting[work.traffic_class.rank] += work.is_live

    def withdraw(self, item: Item) -> None:
        """`item` waits no longer; unknown items are ignored."""
        if self._forget(item) is not None:
            self._scheduler.withdraw(item)

    def next(self, now: float, wall: float) -> tuple[Item, Slot] | None:
        """Serve one of those who wait, if anybody may start; to be asked until nobody may."""
        if self.is_closed or not self._works or not self.breaker.may_enter(now):
            return None
        item = self._scheduler.next(self._occupancy(now), self._own, wall)
        if item is None:
            return None
        work = self._forget(item)
        assert work is not None, "it waits in the scheduler only"
        is_entered = self.breaker.try_enter(now)
        assert is_entered, "the breaker said that somebody may enter"
        return item, self._grant(work, now)

    def send_away(self, now: float) -> list[Item]:
        """Take out those who should not wait any longer: live ones, for a backend that is away."""
        if self.breaker.may_enter(now):
            return []
        return self._withdraw_all(item for item, work in self._works.items() if work.is_live)

    def release(
        self, slot: Slot, ending: SlotEnding, times: StageTimes, now: float, jitter: float
    ) -> None:
        """Take a slot back with what became of its message."""
        assert not slot.is_released, "a slot is given back once"
        slot.is_released = True
        self._in_flight -= 1
        self._own[slot.traffic_class.name] -= 1
        self._elephants -= slot.is_large
        self._limit.on_end(now, slot.flight, ending, times)
        match ending:
            case SlotEnding.UNUSED:
                self.breaker.on_unused(slot.probe)
                return
            case SlotEnding.REFUSED | SlotEnding.STALLED | SlotEnding.IN_DOUBT:
                self.breaker.on_failure(now, jitter, slot.probe)
            case _:
                self.breaker.on_success()
        self._reserve.note_service(now - slot.flight.started_at)

    def tick(self, now: float, *, has_spooled: bool) -> LimitChange | None:
        """Let time pass, four times a second; `has_spooled`: the spool holds mail that is due."""
        return self._limit.tick(now, is_backlogged=has_spooled or bool(self._works))

    def close(self) -> list[Item]:
        """Hand out no more slots; return who waited. Slots in use come back as usual."""
        self.is_closed = True
        return self._withdraw_all(self._works)

    # How it is done.

    def _terms(self, work: Work) -> TrafficClass:
        """The class by whose rules it waits."""
        if not self.is_observing:
            return work.traffic_class
        return _OBSERVED_LIVE if work.is_live else _OBSERVED_SPOOLED

    def _occupancy(self, now: float) -> Occupancy:
        """How the slots stand, by the rules in force."""
        if not self.is_observing:
            return self._policy_occupancy(now)
        ceiling = self._limit.ceiling
        return Occupancy(self._in_flight, 0, ceiling, ceiling)

    def _policy_occupancy(self, now: float) -> Occupancy:
        limit = self._limit.limit(now)
        reserve = self._reserve.slots(now, limit)
        return Occupancy(self._in_flight, self._elephants, limit, self._limit.ceiling, reserve)

    def _has_room(self, traffic_class: TrafficClass, size: int, occupancy: Occupancy) -> bool:
        """Whether a newcomer may start, and stands behind nobody who may."""
        return not self._scheduler.must_queue(traffic_class) and room.may_start(
            traffic_class,
            self._own[traffic_class.name],
            occupancy,
            is_large=room.is_elephant(size),
        )

    def _waiting_before(self, traffic_class: TrafficClass) -> int:
        """Live messages of this rank and better ones that wait, rank 0 aside.

        Those of worse ranks do not count: a flood of them must not send better mail to the spool.
        """
        rank = traffic_class.rank
        return sum(count for each, count in self._live_waiting.items() if 0 < each <= rank)

    def _grant(self, work: Work, now: float) -> Slot:
        traffic_class, size = work.traffic_class, work.size
        is_first = traffic_class.rank == 0
        is_large = not is_first and room.is_elephant(size)
        self._in_flight += 1
        self._own[traffic_class.name] += 1
        self._elephants += is_large
        flight = Flight(size, work.recipients, is_first, now, self._in_flight)
        self._limit.on_start(now, flight)
        return Slot(traffic_class, flight, work.is_live, is_large, self.breaker.probe)

    def _forget(self, item: Item) -> Work | None:
        work = self._works.pop(item, None)
        if work is not None:
            self._live_waiting[work.traffic_class.rank] -= work.is_live
        return work

    def _withdraw_all(self, items: Iterator[Item] | dict[Item, Work]) -> list[Item]:
        gone = list(items)
        for item in gone:
            self.withdraw(item)
        return gone
