"""Additive increase, multiplicative decrease: TCP's first answer to congestion.

    drop, or slower than the timeout:  L := L * 0.9
    else, with L/2 or more in flight:  L := L + 1

With a mail server that never refuses, the timeout is all there is to hold it back: the limit grows
until messages take that long.

Sources: Chiu and Jain, Analysis of the Increase and Decrease Algorithms for Congestion Avoidance
(1989); constants as in AIMDLimit of Netflix's concurrency-limits.
"""

from mailshed.simulation.controllers.known import CEILING, FLOOR, START, KnownLimit

TIMEOUT = 5.0
BACKOFF_RATIO = 0.9


class AimdLimit(KnownLimit):
    """Netflix's AIMDLimit."""

    def __init__(self, *, start: float = START, floor: int = FLOOR, ceiling: int = CEILING) -> None:
        super().__init__(start=int(start), floor=floor, ceiling=ceiling)

    def _sample(self, now: float, rtt: float, in_flight: int, *, is_drop: bool) -> None:  # noqa: ARG002
        current = int(self._estimate)
        if is_drop or rtt > TIMEOUT:
            self._set(int(current * BACKOFF_RATIO))
        elif in_flight * 2 >= current:
            self._set(current + 1)
