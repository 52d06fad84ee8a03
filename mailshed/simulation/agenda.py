"""What happens when, on a clock that only events move.

Events at the same instant happen in the order in which they were entered, so a run depends on
nothing but its seed. An event cannot be taken back: whoever may have changed its mind checks when
it is called whether the call still means anything. That is cheaper than a search in a heap.

Two clocks, as in the service: `now`, monotonic seconds, and `wall`, Unix time. Here they never
drift apart.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

MONOTONIC_START = 1000.0
"""A clock of 0 might be taken for 'never' by somebody."""

Action = Callable[[Any], None]


class Agenda:
    """The events to come, and the time. `start_wall` is the Unix time at which the run begins."""

    __slots__ = ("_heap", "_tie", "_wall_offset", "now")

    def __init__(self, start_wall: float) -> None:
        self._heap: list[tuple[float, int, Action, Any]] = []
        self._tie = 0
        self._wall_offset = start_wall - MONOTONIC_START
        self.now = MONOTONIC_START

    @property
    def wall(self) -> float:
        """Unix time."""
        return self.now + self._wall_offset

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning of the run."""
        return self.now - MONOTONIC_START

    def at(self, when: float, action: Action, argument: Any) -> None:
        """Call `action(argument)` at `when` (monotonic)."""
        self._tie += 1
        heappush(self._heap, (when, self._tie, action, argument))

    def after(self, seconds: float, action: Action, argument: Any) -> None:
        """Call `action(argument)` in so many seconds."""
        self.at(self.now + seconds, action, argument)

    def step(self, until: float) -> bool:
        """Let the next event happen, unless it is later than `until` (monotonic) or there is none.

        Returns whether one has happened; if not, the time is `until`.
        """
        heap = self._heap
        if not heap or heap[0][0] > until:
            self.now = until
            return False
        when, _, action, argument = heappop(heap)
        self.now = when
        action(argument)
        return True
