"""Which waiting message, live or spooled, takes the next slot of one backend.

A class may start only while the slots in use stay below its share of the limit (trunk reservation
against lower classes): room for bulk ends first, room for clinical mail never before the limit
itself. Among those that wait, the lower rank goes first; within a rank the one that has been here
longest, counted from its arrival at our door, so spooled mail has no privilege over live mail of
its class but its age.

Pure: `now` is passed in, waiting items are opaque keys.
"""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

from mailshed.terms import TrafficClass


def has_room(traffic_class: TrafficClass, in_flight: int, limit: int) -> bool:
    """Whether a message of this class may start while `in_flight` of `limit` slots are in use.

    An idle backend takes any class, whatever its threshold makes of a small limit.
    """
    # The margin is for products that should be whole: 0.55 * 20 is a little more than 11.
    return in_flight == 0 or in_flight < traffic_class.threshold * limit - 1e-9


Item = TypeVar("Item", bound=Hashable)

# Entries of withdrawn items stay in a heap until they come to its top, or until they are more than
# those that wait and more than this: then the heap is built anew, at a price of O(1) for each.
_STALE_MAX = 64


@dataclass(order=True, slots=True)
class _Entry(Generic[Item]):
    arrived_wall: float
    tie: int
    item: Item = field(compare=False)
    traffic_class: TrafficClass = field(compare=False)


class Scheduler(Generic[Item]):
    """The waiting room of one backend. Operations are O(log n) in the number waiting, amortised."""

    def __init__(self) -> None:
        self._heaps: dict[int, list[_Entry[Item]]] = {}
        self._waiting: dict[Item, _Entry[Item]] = {}
        self._by_class: Counter[str] = Counter()
        self._by_rank: Counter[int] = Counter()
        self._ties = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self, traffic_class: TrafficClass) -> int:
        """How many of this class wait."""
        return self._by_class[traffic_class.name]

    def waiting_up_to(self, rank: int) -> int:
        """How many wait whose rank is `rank` or better."""
        if not self._waiting:
            return 0
        return sum(number for waiting, number in self._by_rank.items() if waiting <= rank)

    def offer(self, item: Item, traffic_class: TrafficClass, arrived_wall: float) -> None:
        """Let `item` wait; `arrived_wall` is when the message reached us (Unix time)."""
        assert item not in self._waiting, "offered twice"
        entry = _Entry(arrived_wall, next(self._ties), item, traffic_class)
        self._waiting[item] = entry
        self._by_class[traffic_class.name] += 1
        self._by_rank[traffic_class.rank] += 1
        heappush(self._heaps.setdefault(traffic_class.rank, []), entry)

    def withdraw(self, item: Item) -> None:
        """`item` waits no longer; unknown items are ignored."""
        entry = self._waiting.pop(item, None)
        if entry is None:
            return
        rank = entry.traffic_class.rank
        self._by_class[entry.traffic_class.name] -= 1
        self._by_rank[rank] -= 1
        heap = self._heaps[rank]
        if len(heap) - self._by_rank[rank] > max(_STALE_MAX, self._by_rank[rank]):
            heap[:] = [kept for kept in heap if self._is_waiting(kept)]
            heapify(heap)

    def withdraw_all(self) -> list[Item]:
        """Nobody waits any longer; return who did."""
        items = list(self._waiting)
        self._waiting.clear()
        self._by_class.clear()
        self._by_rank.clear()
        self._heaps.clear()
        return items

    def next(self, in_flight: int, limit: int) -> Item | None:
        """Take out the item that may start now, or None if none may.

        The order is strict: whoever is first and waits for want of room keeps all others waiting.
        That can only cost a slot between classes whose thresholds contradict their ranks, or
        differ within one rank.
        """
        for rank in sorted(self._heaps):
            heap = self._heaps[rank]
            while heap and not self._is_waiting(heap[0]):
                heappop(heap)
            if not heap:
                del self._heaps[rank]
                continue
            if not has_room(heap[0].traffic_class, in_flight, limit):
                return None
            item = heappop(heap).item
            self.withdraw(item)
            return item
        return None

    def _is_waiting(self, entry: _Entry[Item]) -> bool:
        return self._waiting.get(entry.item) is entry
