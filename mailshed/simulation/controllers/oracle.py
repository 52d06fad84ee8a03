"""The limit of one who knows: as many slots as the server can use at the moment, and not one more.

What a controller that has to find out can be divided by. There is no overdraft either: the ceiling
is the limit, so that nothing ever waits inside the server, where nobody is urgent.
"""

from collections.abc import Callable

from mailshed.control.limit import Flight, LimitChange, SlotEnding
from mailshed.mail.delivery import StageTimes


class OracleLimit:
    """The slots that `capacity()` names; at least one. It is asked at each tick."""

    def __init__(self, capacity: Callable[[], int]) -> None:
        self._capacity = capacity
        self._slots = max(1, capacity())

    @property
    def ceiling(self) -> int:
        """Slots that are never exceeded: the limit itself."""
        return self._slots

    def limit(self, now: float) -> int:  # noqa: ARG002 - it is known, not learned
        """Slots that the server can use."""
        return self._slots

    def expected(self, size: int, recipients: int) -> float | None:  # noqa: ARG002
        """It knows capacities, not messages."""
        return None

    def on_start(self, now: float, flight: Flight) -> None:
        """Note that a message has taken a slot: nothing follows from it."""

    def on_end(self, now: float, flight: Flight, ending: SlotEnding, times: StageTimes) -> None:
        """Learn from a slot that came back: nothing, it knows."""

    def tick(self, now: float, *, is_backlogged: bool) -> LimitChange | None:  # noqa: ARG002
        """Look whether the server is another one now."""
        before, self._slots = self._slots, max(1, self._capacity())
        if before == self._slots:
            return None
        return LimitChange(before=before, after=self._slots, cause="oracle")
