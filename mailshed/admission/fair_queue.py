"""Who is next within one class: fair over senders, first come first served within a sender.

Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996). Each sender
has a tag, the virtual time at which its next message may start; the lowest tag is next, and serving
a message moves its sender's tag on by the message's cost. A sender that was away begins at the
present virtual time: it comes before those who have just been served, and saves nothing up. So a
sender with ten thousand messages delays one with a single message by about one message, and what
two backlogged senders have been served differs by no more than one message of each.

Costs are in expected slot-seconds, or anything proportional to them; only ratios matter. A penalty
multiplies what a message costs its own sender: with 2, a sender has half its share.

Items are opaque. Operations are O(log n), amortised. Pure.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, nlargest
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

# Senders that have nothing waiting are remembered up to this number, for their tags; when they
# become more, half of them stay, those that were served most.
IDLE_MAX = 1000
# Entries of those that have left stay in a heap until they come to its top, or until they are more
# than those that wait and more than this: then the heap is built anew, at a price of O(1) for each.
_STALE_MAX = 64


@dataclass(order=True, slots=True)
class _Entry(Generic[Item]):
    arrived_wall: float
    tie: int
    item: Item = field(compare=False)
    cost: float = field(compare=False)
    penalty: float = field(compare=False)
    flow: "_Flow[Item]" = field(compare=False)


@dataclass(frozen=True, slots=True)
class Served(Generic[Item]):
    """An item whose turn it is, when it arrived (Unix time) and what it costs."""

    item: Item
    arrived_wall: float
    cost: float


@dataclass(eq=False, slots=True)
class _Flow(Generic[Item]):
    """One sender's messages."""

    sender: bytes
    tag: float
    heap: list[_Entry[Item]] = field(default_factory=list)
    waiting: int = 0
    is_listed: bool = False
    """Whether it stands in the heap of flows."""


class FairQueue(Generic[Item]):
    """The waiting messages of one class."""

    def __init__(self) -> None:
        self._flows: dict[bytes, _Flow[Item]] = {}
        self._order: list[tuple[float, int, _Flow[Item]]] = []
        self._entries: dict[Item, _Entry[Item]] = {}
        self._busy = 0
        """Flows that have something waiting."""
        self._virtual = 0.0
        self._ties = count()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item: object) -> bool:
        return item in self._entries

    def offer(
        self, item: Item, *, sender: bytes, arrived_wall: float, cost: float, penalty: float = 1.0
    ) -> None:
        """Let `item` wait; `arrived_wall` orders those of one sender."""
        assert item not in self._entries, "offered twice"
        flow = self._flows.get(sender)
        if flow is None:
            if len(self._flows) - self._busy >= IDLE_MAX:
                self._forget_idle()
            flow = self._flows[sender] = _Flow(sender, self._virtual)
        if not flow.waiting:
            flow.tag = max(flow.tag, self._virtual)
            self._busy += 1
        entry = _Entry(arrived_wall, next(self._ties), item, cost, penalty, flow)
        self._entries[item] = entry
        flow.waiting += 1
        heappush(flow.heap, entry)
        self._list(flow)

    def withdraw(self, item: Item) -> None:
        """`item` waits no longer; unknown items are ignored."""
        entry = self._entries.pop(item, None)
        if entry is None:
            return
        flow = entry.flow
        flow.waiting -= 1
        if not flow.waiting:
            self._busy -= 1
        if _is_stale(len(flow.heap), flow.waiting):
            flow.heap = [kept for kept in flow.heap if self._entries.get(kept.item) is kept]
            heapify(flow.heap)
        if _is_stale(len(self._order), self._busy):
            self._order = [listed for listed in self._order if self._keeps_listed(listed[2])]
            heapify(self._order)

    def take(self, may_go: Callable[[Item], bool] = lambda _item: True) -> Served[Item] | None:
        """Take out the next item, at the expense of its sender; None if there is none.

        Senders whose first item may not go are passed over. They keep their place in front, and
        save nothing up meanwhile.
        """
        passed: list[_Flow[Item]] = []
        served: Served[Item] | None = None
        while self._order and served is None:
            tag, _, flow = heappop(self._order)
            flow.is_listed = False
            head = self._head(flow)
            if head is None:
                continue
            if tag < flow.tag:  # it was listed with the tag of an earlier stay
                self._list(flow)
            elif may_go(head.item):
                served = self._serve(head)
            else:
                passed.append(flow)
        for flow in passed:
            flow.tag = max(flow.tag, self._virtual)
            self._list(flow)
        return served

    def _serve(self, entry: _Entry[Item]) -> Served[Item]:
        flow = entry.flow
        self.withdraw(entry.item)
        self._virtual = max(self._virtual, flow.tag)
        flow.tag += entry.cost * entry.penalty
        if flow.waiting:
            self._list(flow)
        return Served(entry.item, entry.arrived_wall, entry.cost)

    def _head(self, flow: _Flow[Item]) -> _Entry[Item] | None:
        heap = flow.heap
        while heap and self._entries.get(heap[0].item) is not heap[0]:
            heappop(heap)
        return heap[0] if heap else None

    def _list(self, flow: _Flow[Item]) -> None:
        if not flow.is_listed:
            flow.is_listed = True
            heappush(self._order, (flow.tag, next(self._ties), flow))

    def _keeps_listed(self, flow: _Flow[Item]) -> bool:
        flow.is_listed = flow.waiting > 0
        return flow.is_listed

    def _forget_idle(self) -> None:
        """Forget senders with nothing waiting, those with the lowest tags first.

        A tag that is not ahead of the virtual time says nothing.
        """
        idle = [each for each in self._flows.values() if not each.waiting]
        ahead = [each for each in idle if each.tag > self._virtual]
        kept = nlargest(IDLE_MAX // 2, ahead, key=lambda flow: flow.tag)
        busy = [each for each in self._flows.values() if each.waiting]
        self._flows = {flow.sender: flow for flow in busy + kept}


def _is_stale(entries: int, waiting: int) -> bool:
    return entries - waiting > max(_STALE_MAX, waiting)
