"""A look at every open session, a few at a time.

When stress begins, thousands of sessions get new deadlines, and where they are not kept all these
sessions end. At one moment that would stop the event loop for a second, twice: now, and when the
deadlines pass. So it is spread over `SPREAD` seconds, and what comes of it is spread alike.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

SPREAD = 4.0
"""Seconds for all, if they are many."""

PAUSE = 0.005
"""Seconds from one slice to the next."""

SLICE_MIN = 10
"""So many at a time are no burden: what ends is done in a few milliseconds."""


class Sweep(Generic[T]):
    """Calls `visit` for each of `things` that is still among them when its turn comes."""

    def __init__(self, things: Collection[T], visit: Callable[[T], None]) -> None:
        self._things = things
        self._visit = visit
        self._rest: Iterator[T] = iter(())
        self._slice = SLICE_MIN
        self._next: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Visit all, from the first on; a sweep that is under way is given up."""
        if self._next is not None:
            self._next.cancel()
        present = list(self._things)
        self._rest = iter(present)
        self._slice = max(SLICE_MIN, round(len(present) * PAUSE / SPREAD))
        self._go_on()

    def _go_on(self) -> None:
        self._next = None
        for _ in range(self._slice):
            thing = next(self._rest, None)
            if thing is None:
                return
            if thing in self._things:
                self._visit(thing)
        self._next = asyncio.get_running_loop().call_later(PAUSE, self._go_on)
