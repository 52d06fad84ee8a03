"""Which messages somebody is working on: the one place that knows, and it is memory only.

One process owns the spool, so a message is free unless it is in hand here. It is in hand

- while the drain reads it or waits with it for a slot (then it can still be called back),
- while the backend has it, until what became of it is written down (then it is too late),
- while the live path is about to commit a copy of what the backend has not answered yet (adopted),
- while it is given up for its age, or an operator's action is at it.

A query shows messages as they were when it began. One that was let go of since then may look
different now, or be gone; so `take`, which goes by the word of a query, refuses it.

The number of messages in hand is bounded by the slots that there are and a few more for each class.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mailshed.terms import QueueId


@dataclass(eq=False, slots=True, kw_only=True)
class Grip:
    """One message in hand."""

    queue_id: QueueId
    traffic_class: str = ""
    rank: int = 1
    """That its class had when it was spooled."""
    route: str = ""
    """The backend that it is for."""
    taker: str = ""
    """The backend that has it, or is to have it: another one if that stands in."""
    is_firm: bool = False
    """Whether it is too late to call it back."""
    task: "asyncio.Task[None] | None" = None
    """Whoever waits with it for a slot."""


class Hand:
    """The messages in hand of the drain."""

    def __init__(self) -> None:
        self._grips: dict[QueueId, Grip] = {}
        self._is_asking = False
        self._let_go: set[QueueId] = set()
        """What was let go of since the query that is under way began."""

    def __len__(self) -> int:
        return len(self._grips)

    def __contains__(self, queue_id: object) -> bool:
        return queue_id in self._grips

    @property
    def ids(self) -> list[QueueId]:
        """All that is in hand."""
        return list(self._grips)

    def ids_of(self, route: str, traffic_class: str) -> list[QueueId]:
        """What is in hand of one class for one backend."""
        return [
            each.queue_id
            for each in self._grips.values()
            if each.traffic_class == traffic_class and each.route == route
        ]

    def offered_of(self, route: str, traffic_class: str) -> int:
        """How much of that has not begun; what is with the backend or being marked has."""
        return sum(
            each.traffic_class == traffic_class and each.route == route and not each.is_firm
            for each in self._grips.values()
        )

    @property
    def waiting(self) -> list[Grip]:
        """Those that can still be called back."""
        return [each for each in self._grips.values() if not each.is_firm]

    @contextmanager
    def query(self) -> Iterator[None]:
        """Ask the spool for messages in here, and `take` them in here. One at a time."""
        assert not self._is_asking, "one query at a time"
        self._is_asking = True
        try:
            yield
        finally:
            self._is_asking = False
            self._let_go.clear()

    def take(
        self,
        queue_id: QueueId,
        traffic_class: str,
        rank: int = 1,
        route: str = "",
        taker: str = "",
    ) -> Grip | None:
        """Take a message in hand that a query has found; None if it is not as the query saw it."""
        if queue_id in self._grips or queue_id in self._let_go:
            return None
        return self._hold(
            Grip(
                queue_id=queue_id, traffic_class=traffic_class, rank=rank, route=route, taker=taker
            )
        )

    def adopt(
        self, queue_id: QueueId, traffic_class: str, route: str = "", taker: str = ""
    ) -> Grip:
        """Take in hand what the backend has already and the spool does not have yet."""
        assert queue_id not in self._grips, "a message is adopted once"
        return self._hold(
            Grip(
                queue_id=queue_id,
                traffic_class=traffic_class,
                is_firm=True,
                route=route,
                taker=taker,
            )
        )

    def grip(self, queue_id: QueueId) -> Grip | None:
        """Who has this message in hand, if anyone."""
        return self._grips.get(queue_id)

    async def call_back(self, queue_id: QueueId) -> Grip | None:
        """Take a message away from whoever waits with it, or take it if it is free.

        None if it is too late. The grip that is returned cannot be called back.
        """
        held = self._grips.get(queue_id)
        if held is not None and held.is_firm:
            return None
        mine = self._hold(Grip(queue_id=queue_id, is_firm=True))
        if held is not None and held.task is not None:
            held.task.cancel()
            await asyncio.wait([held.task])
        return mine

    def let_go(self, grip: Grip) -> None:
        """Whoever has this grip is done with it; it may have been taken away meanwhile."""
        if self._grips.get(grip.queue_id) is grip:
            del self._grips[grip.queue_id]
            if self._is_asking:
                self._let_go.add(grip.queue_id)

    def _hold(self, grip: Grip) -> Grip:
        self._grips[grip.queue_id] = grip
        return grip
