"""TCP Vegas on service times: keep a small queue of one's own inside the server.

    q = ceil(L (1 - T_min / T))         queue that this sample speaks of
    q <= log L:           L := L + 6 log L
    q <  3 log L:         L := L + log L
    q >  6 log L or drop: L := L - log L             log L = max(1, int(log10 L))

T_min is the smallest time seen, and set to the next one after 15 to 30 L samples. Unless half of L
is in flight, L stays. Mail is not made for it: a short message sets T_min, and each longer one then
looks like a queue.

Sources: Brakmo and Peterson, TCP Vegas (1995); constants as in VegasLimit of Netflix's
concurrency-limits. The pause between probes is drawn at random there; here the golden ratio spreads
it as evenly, and every run is alike.
"""

from math import ceil, log10

from mailshed.simulation.controllers.known import CEILING, FLOOR, START, KnownLimit

ALPHA = 3
BETA = 6
PROBE_MULTIPLIER = 30
_GOLDEN = 0.6180339887498949


class VegasLimit(KnownLimit):
    """Netflix's VegasLimit."""

    def __init__(self, *, start: float = START, floor: int = FLOOR, ceiling: int = CEILING) -> None:
        super().__init__(start=start, floor=floor, ceiling=ceiling)
        self._shortest = 0.0
        self._since_probe = 0
        self._spread = 0.0

    def _sample(self, now: float, rtt: float, in_flight: int, *, is_drop: bool) -> None:  # noqa: ARG002
        self._since_probe += 1
        if (0.5 + self._spread / 2) * PROBE_MULTIPLIER * self._estimate <= self._since_probe:
            self._spread = (self._spread + _GOLDEN) % 1.0
            self._since_probe = 0
            self._shortest = rtt
        elif self._shortest == 0.0 or rtt < self._shortest:
            self._shortest = rtt
        else:
            self._update(rtt, in_flight, is_drop=is_drop)

    def _update(self, rtt: float, in_flight: int, *, is_drop: bool) -> None:
        estimate = self._estimate
        step = max(1, int(log10(estimate)))
        queue = ceil(estimate * (1.0 - self._shortest / rtt))
        if is_drop:
            self._set(estimate - step)
        elif in_flight * 2 < estimate:
            return
        elif queue <= step:
            self._set(estimate + BETA * step)
        elif queue < ALPHA * step:
            self._set(estimate + step)
        elif queue > BETA * step:
            self._set(estimate - step)
