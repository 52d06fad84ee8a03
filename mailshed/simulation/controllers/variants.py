"""Our own limit with a part taken away, to see what that part is good for."""

from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit import Flight, SlotEnding
from mailshed.control.rule import Observation
from mailshed.mail.delivery import StageTimes

USUAL_OCTETS = 16 * 1024


class WithoutOuterLoop(AdaptiveLimit):
    """The limit does not swing, so its queue targets stay what they are."""

    def _swing(self, seen: Observation) -> None:
        """Learn nothing about the backend's elasticity."""


class WithoutSizes(AdaptiveLimit):
    """All messages are expected to take as long, whatever their size and recipients."""

    def __init__(self, *, highest: int) -> None:
        super().__init__(highest=highest)
        self._alike: dict[Flight, Flight] = {}

    def expected(self, size: int, recipients: int) -> float | None:  # noqa: ARG002
        """Seconds that the unloaded backend needs for any message."""
        return super().expected(USUAL_OCTETS, 1)

    def on_start(self, now: float, flight: Flight) -> None:
        """Note that a message has taken a slot."""
        alike = Flight(USUAL_OCTETS, 1, flight.is_first, flight.started_at, flight.in_flight)
        self._alike[flight] = alike
        super().on_start(now, alike)

    def on_end(self, now: float, flight: Flight, ending: SlotEnding, times: StageTimes) -> None:
        """Learn from a slot that came back."""
        super().on_end(now, self._alike.pop(flight), ending, times)
