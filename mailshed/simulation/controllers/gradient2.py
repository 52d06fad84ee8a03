"""Netflix's Gradient2: compare the time of now with a long average of itself.

Once a second and ten samples (T their mean, T_long an exponential average of all T over 600
windows, plain over the first ten):

    g = clamp(1.5 T_long / T, 0.5, 1)
    L := 0.8 L + 0.2 (g L + 4)
    T_long > 2 T:  T_long := 0.95 T_long

Unless half of L is in flight, L stays. The average is fed by what it is to judge: under an overload
that lasts it learns the overload, and the limit ends at its bound.

As published, a second with fewer samples is forgotten, and nothing is ever learned about a server
of less than ten messages a second; here it goes on until there are ten.

Source: Gradient2Limit and WindowedLimit of Netflix's concurrency-limits, and its wiki.
"""

from math import inf

from mailshed.simulation.controllers.known import CEILING, FLOOR, START, KnownLimit

SMOOTHING = 0.2
QUEUE = 4
TOLERANCE = 1.5
LONG_WINDOW = 600
WARM_UP = 10
WINDOW_SECONDS = 1.0
SAMPLES_MIN = 10
RECOVERY = 0.95


class LongAverage:
    """A mean of the first `WARM_UP` values, then an exponential average over `LONG_WINDOW`."""

    def __init__(self) -> None:
        self.value = 0.0
        self._sum = 0.0
        self._count = 0

    def add(self, value: float) -> float:
        """Take one more value and return the average."""
        if self._count < WARM_UP:
            self._count += 1
            self._sum += value
            self.value = self._sum / self._count
        else:
            self.value += (value - self.value) * 2.0 / (LONG_WINDOW + 1)
        return self.value


class Gradient2Limit(KnownLimit):
    """Netflix's Gradient2Limit in its WindowedLimit."""

    def __init__(self, *, start: float = START, floor: int = FLOOR, ceiling: int = CEILING) -> None:
        super().__init__(start=start, floor=floor, ceiling=ceiling)
        self._long = LongAverage()
        self._window_end = -inf
        self._times: list[float] = []
        self._most_in_flight = 0

    def _sample(self, now: float, rtt: float, in_flight: int, *, is_drop: bool) -> None:
        # What was dropped has no time of its own there, but counts as one that was in flight.
        if not is_drop:
            self._times.append(rtt)
        self._most_in_flight = max(self._most_in_flight, in_flight)
        if now <= self._window_end or len(self._times) < SAMPLES_MIN:
            return
        times, most = self._times, self._most_in_flight
        self._times, self._most_in_flight = [], 0
        self._window_end = now + WINDOW_SECONDS
        self._update(sum(times) / len(times), most)

    def _update(self, rtt: float, in_flight: int) -> None:
        long = self._long.add(rtt)
        if long / rtt > 2.0:
            self._long.value *= RECOVERY
        if in_flight < self._estimate / 2:
            return
        gradient = max(0.5, min(1.0, TOLERANCE * long / rtt))
        wanted = self._estimate * gradient + QUEUE
        self._set(self._estimate * (1.0 - SMOOTHING) + wanted * SMOOTHING)
