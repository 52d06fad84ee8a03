"""How much more a backend serves if it gets more at a time: the slow loop around the limit.

How long a queue of ours inside the backend is worth its delay depends on the backend. One of c
processes serves no more beyond c at a time, so the queue may be short. One whose messages wait for
each other's locks and disks (Gunther's universal scalability law) serves more for a long while. So
the limit swings by 12 % about its value, and what comes back is compared: with N in flight and the
normalised service time x the throughput goes as N / x, so its elasticity is

    e = 1 - d ln x / d ln N        (a line through the phases, by least squares)

The queue targets of the fast loop are multiplied by a factor that rises while e is above `TARGET`
and falls while it is below. 0.5 would be Kleinrock's optimum of power (throughput over delay); 0.2
gives throughput more weight: 0.9 of the maximum on contended backends, where 0.3 gives 0.85.

A phase is four windows with one sign, the first dropped since it still shows the last one; twelve
phases make an estimate. Only full phases in which somebody waited all the time count: a limit that
does not bind teaches nothing. An estimate must differ from the target by more than its own error.

Pure.
"""

from math import log, sqrt

SWING = 0.12
WINDOWS_PER_PHASE = 4
PHASES = 12
TARGET = 0.2
TOLERANCE = 0.05
STEP = 1.15
FACTOR_MIN = 0.7
"""With less, an error of 15 % in the expected times makes a backend of eight processes idle."""
FACTOR_MAX = 6.0
SPREAD_MIN = 0.01
"""Of ln N: if the number in flight did not follow the limit, there is nothing to compare."""


class Elasticity:
    """The slow loop of one backend."""

    def __init__(self) -> None:
        self.factor = 1.0
        """What the queue targets are multiplied by."""
        self.estimate: float | None = None
        """The elasticity, if it has been estimated."""
        self._is_up = True
        self._phase: list[tuple[float, float]] = []
        self._points: list[tuple[float, float]] = []

    def swing(self, spare: float) -> float:
        """What the limit is multiplied by now, while somebody waits.

        `spare` is the part of the limit that is queue. It does not swing further than that, or the
        backend would idle at the low end; where that is little, there are many samples.
        """
        width = min(SWING, spare)
        return 1.0 + width if self._is_up else 1.0 - width

    def forget(self) -> None:
        """What was compared so far cannot be compared with what comes: begin anew."""
        self._phase.clear()
        self._points.clear()

    def note(self, in_flight: float, x: float) -> bool:
        """A window is over in which somebody waited all the time; whether a phase is over too."""
        if in_flight <= 0.0 or x <= 0.0:
            return False
        self._phase.append((log(in_flight), log(x)))
        if len(self._phase) < WINDOWS_PER_PHASE:
            return False
        settled = self._phase[1:]
        count = len(settled)
        self._points.append(
            (sum(n for n, _ in settled) / count, sum(y for _, y in settled) / count)
        )
        self._phase.clear()
        self._is_up = not self._is_up
        if len(self._points) >= PHASES:
            self._conclude()
            self._points.clear()
        return True

    def _conclude(self) -> None:
        found = slope(self._points)
        if found is None:
            return
        gradient, error = found
        self.estimate = 1.0 - gradient
        tolerance = max(TOLERANCE, error)
        if self.estimate > TARGET + tolerance:
            self.factor = min(FACTOR_MAX, self.factor * STEP)
        elif self.estimate < TARGET - tolerance:
            self.factor = max(FACTOR_MIN, self.factor / STEP)


def slope(points: list[tuple[float, float]]) -> tuple[float, float] | None:
    """Slope of the line through `points` and its standard error; None if they do not spread."""
    count = len(points)
    mean_n = sum(n for n, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((n - mean_n) ** 2 for n, _ in points)
    if sqrt(spread / count) < SPREAD_MIN:
        return None
    gradient = sum((n - mean_n) * (y - mean_y) for n, y in points) / spread
    rest = sum((y - mean_y - gradient * (n - mean_n)) ** 2 for n, y in points)
    return gradient, sqrt(rest / max(1, count - 2) / spread)
