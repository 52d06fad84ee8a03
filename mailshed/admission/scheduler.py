"""Which waiting message, live or spooled, takes the next slot of one backend.

Rank 0 goes strictly first. The other classes share what it leaves by weight: start-time fair
queueing (see `fair_queue`) over the classes, then over the senders of a class, then first come,
first served. `room` says which classes may start at all; of those the one with the lowest tag is
next. A class that may not start now saves nothing up meanwhile. One whose message is served past
its objective pays half for it: its weight counts double until it is on time again.

So spooled mail has no privilege over live mail of its class but its age, a backlog of bulk delays
personal mail by no more than its share, and no class starves unless rank 0 alone fills the backend.

Costs are expected slot-seconds in units of an ordinary message. Items are opaque keys. Pure.
"""

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mailshed.admission.fair_queue import FairQueue, Served
from mailshed.admission.room import Occupancy, is_elephant, may_start
from mailshed.terms import TrafficClass

Item = TypeVar("Item", bound=Hashable)

# What it costs beside a message of no size to one recipient, in the same unit: mail servers take
# as long for a MiB as for a small message, and look up each recipient.
COST_PER_OCTET = 1 / 1024**2
COST_PER_RECIPIENT = 0.05
LATE_DISCOUNT = 0.5
STARVING_SECONDS = 60.0
"""After so long without being served a class has a slot, however small the limit is."""


def cost_of(size: int, recipients: int) -> float:
    """Expected slot-seconds, in units of an ordinary message."""
    return 1.0 + size * COST_PER_OCTET + (recipients - 1) * COST_PER_RECIPIENT


@dataclass(eq=False, slots=True)
class _Lane(Generic[Item]):
    """One class in the waiting room."""

    traffic_class: TrafficClass
    tag: float
    served_wall: float = 0.0
    """When it was served last, or began to wait (Unix time)."""
    large: int = 0
    """How many of those that wait are elephants."""
    queue: FairQueue[Item] = field(default_factory=FairQueue)


def _turn(lane: _Lane[Item]) -> tuple[bool, float, int]:
    rank = lane.traffic_class.rank
    return rank > 0, lane.tag, rank


class Scheduler(Generic[Item]):
    """The waiting room of one backend. O(classes + log n) for n that wait, amortised."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane[Item]] = {}
        self._where: dict[Item, _Lane[Item]] = {}
        self._large: set[Item] = set()
        # Rank 0 and the others do not compete, so each has a virtual time of its own.
        self._virtual = {True: 0.0, False: 0.0}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, item: object) -> bool:
        return item in self._where

    def waiting(self, traffic_class: TrafficClass) -> int:
        """How many of this class wait."""
        return self.waiting_named(traffic_class.name)

    def waiting_named(self, name: str) -> int:
        """How many of the class of this name wait."""
        lane = self._lanes.get(name)
        return len(lane.queue) if lane is not None else 0

    def must_queue(self, traffic_class: TrafficClass) -> bool:
        """Whether a newcomer of this class has somebody before it: its like, or rank 0.

        Classes that wait because they may not start now are passed by those that may, and so are
        elephants.
        """
        if not self._where:
            return False
        own = self._lanes.get(traffic_class.name)
        if own is not None and len(own.queue) > own.large:
            return True
        return any(lane.traffic_class.rank == 0 and lane.queue for lane in self._lanes.values())

    def offer(
        self,
        item: Item,
        traffic_class: TrafficClass,
        *,
        wall: float,
        arrived_wall: float,
        sender: bytes = b"",
        size: int = 0,
        recipients: int = 1,
        penalty: float = 1.0,
    ) -> None:
        """Let `item` wait from `wall` on; `arrived_wall` is when it reached us (Unix times)."""
        assert item not in self._where, "offered twice"
        lane = self._lane(traffic_class)
        if not lane.queue:
            lane.tag = max(lane.tag, self._virtual[traffic_class.rank == 0])
            lane.served_wall = wall
        cost = cost_of(size, recipients)
        lane.queue.offer(item, sender=sender, arrived_wall=arrived_wall, cost=cost, penalty=penalty)
        self._where[item] = lane
        if is_elephant(size):
            lane.large += 1
            self._large.add(item)

    def withdraw(self, item: Item) -> None:
        """`item` waits no longer; unknown items are ignored."""
        lane = self._forget(item)
        if lane is not None:
            lane.queue.withdraw(item)

    def next(
        self,
        occupancy: Occupancy,
        own: Mapping[str, int],
        wall: float,
        *,
        closed: Collection[str] = (),
        is_held: Callable[[Item], bool] | None = None,
    ) -> Item | None:
        """Take out the item that may start now, or None if none may.

        `own` has the slots in use by class name; `wall` is now (Unix time). Classes named in
        `closed` are passed over, and so are items that are held, together with those behind them of
        the same sender; None: no item is.
        """
        lanes = [
            lane
            for lane in self._lanes.values()
            if lane.queue and lane.traffic_class.name not in closed
        ]
        lanes.sort(key=_turn)
        for lane in lanes:
            held = own.get(lane.traffic_class.name, 0)
            served = self._take(lane, held, occupancy, wall, is_held)
            if served is not None:
                self._forget(served.item)
                self._charge(lane, served, lanes, wall)
                return served.item
            if lane.traffic_class.rank == 0:
                return None  # whatever is free, if anything, is for rank 0
        return None

    def _lane(self, traffic_class: TrafficClass) -> _Lane[Item]:
        """Where this class waits, on the terms of now: a reload may have changed them."""
        lane = self._lanes.get(traffic_class.name)
        if lane is None:
            lane = self._lanes[traffic_class.name] = _Lane(traffic_class, 0.0)
        if lane.traffic_class is not traffic_class:
            if (lane.traffic_class.rank == 0) is not (traffic_class.rank == 0):
                lane.tag = self._virtual[traffic_class.rank == 0]  # the other time means nothing
            lane.traffic_class = traffic_class
        return lane

    def _take(
        self,
        lane: _Lane[Item],
        held: int,
        occupancy: Occupancy,
        wall: float,
        is_held: Callable[[Item], bool] | None,
    ) -> Served[Item] | None:
        """The next item of one class, if it may start."""
        terms = lane.traffic_class
        is_starving = wall - lane.served_wall > STARVING_SECONDS
        if not may_start(terms, held, occupancy, is_starving=is_starving):
            return None
        if lane.large and not may_start(
            terms, held, occupancy, is_large=True, is_starving=is_starving
        ):
            return lane.queue.take(
                lambda item: item not in self._large and not (is_held and is_held(item))
            )
        if is_held is not None:
            return lane.queue.take(lambda item: not is_held(item))
        return lane.queue.take()

    def _forget(self, item: Item) -> _Lane[Item] | None:
        lane = self._where.pop(item, None)
        if lane is not None and item in self._large:
            self._large.discard(item)
            lane.large -= 1
        return lane

    def _charge(
        self, lane: _Lane[Item], served: Served[Item], lanes: list[_Lane[Item]], wall: float
    ) -> None:
        """Move the virtual time on, at the expense of the class that is served."""
        terms = lane.traffic_class
        is_first = terms.rank == 0
        now = self._virtual[is_first] = max(self._virtual[is_first], lane.tag)
        is_late = wall - served.arrived_wall > terms.objective
        lane.tag += served.cost / terms.weight * (LATE_DISCOUNT if is_late else 1.0)
        lane.served_wall = wall
        for other in lanes:
            if other is not lane and (other.traffic_class.rank == 0) is is_first:
                # It could not start, or its tag is ahead anyway: nothing is saved up.
                other.tag = max(other.tag, now)
