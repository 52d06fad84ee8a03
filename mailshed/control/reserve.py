"""How many slots are kept free for rank 0: the fewest with which it need not wait for long.

With lower classes backlogged, the slots in use never fall below `c - r`, where c is the limit and r
the reserve. Count the messages of rank 0 beyond that: they arrive at rate a, and with m of them
`c - r + m` slots are busy, each for an exponential time of mean 1/s. That is a birth-death process:

    p(m) = p(m-1) * a / ((c - r + m) s)     for m <= r, geometric with ratio a / (c s) beyond
    P(wait) = p(r) / (1 - a / (c s)), normalised,  and a wait, if any, is Exp(c s - a)

so the 99th percentile of the wait is ln(P(wait) / 0.01) / (c s - a), or nothing. The reserve is the
smallest r, up to half of the limit, for which that is within `TARGET_WAIT`. With 20 slots and 0.1 s
of service it is 0, since strict priority alone gives 25 ms and a reserve would waste 5 % of the
backend; with 4 slots and 5 s of service it is 1 or 2.

The arrival rate is the 99th percentile of the last hour in windows of ten seconds, but no more than
twice the busiest of the last minute: after a surge of rank 0 the others get their slots back, or
the way back to normal would take longer than the surge. The service time is the median of the
latest messages, of any class. Both move slowly, so the number is worked out anew only every few
seconds. Before there is a service time to speak of, nothing is reserved.

The same service time says whether thresholds (`admission.room`) buy anything. When all slots are in
use, the next one comes back within Exp(c s). If even the 99th percentile of that is less than a
normal wait, a newcomer of a better class loses nothing when lower classes have the last slots too,
and to keep them free would idle a tenth of a busy server and more.

Pure: `now` is monotonic seconds, durations are seconds.
"""

from collections import deque
from math import inf, log
from statistics import median

TARGET_WAIT = 1.0
BRISK_WAIT = 0.5
"""A normal wait: the shortest `wait_target` of the shipped classes that wait."""
PERCENTILE = 0.99
WINDOW_SECONDS = 10.0
WINDOWS = 360
"""An hour of them."""
RECENT_WINDOWS = 6
RECENT_FACTOR = 2
"""More than so many times the busiest of the recent windows is not expected."""
SERVICE_TIMES = 128
"""How many of the latest are remembered."""
SERVICE_TIMES_MIN = 10
"""Fewer say nothing."""
REFRESH_SECONDS = 5.0


class Reserve:
    """The reserve of one backend."""

    def __init__(self) -> None:
        self._arrivals: deque[int] = deque([0], maxlen=WINDOWS)
        """Of rank 0, a number for each window, the present one last."""
        self._window_end = -inf
        self._services: deque[float] = deque(maxlen=SERVICE_TIMES)
        self._slots = 0
        self.is_brisk = False
        """Whether slots come back fast, as of the last answer of `slots`."""
        self._for_limit = 0
        self._until = -inf

    def note_arrival(self, now: float) -> None:
        """A message of rank 0 asks for a slot."""
        self._roll(now)
        self._arrivals[-1] += 1

    def note_service(self, seconds: float) -> None:
        """A message, of any class, has had its slot for so long."""
        self._services.append(seconds)

    def slots(self, now: float, limit: int) -> int:
        """Slots to keep free of other classes, of `limit` that there are."""
        if now >= self._until or limit != self._for_limit:
            self._until, self._for_limit = now + REFRESH_SECONDS, limit
            self._slots = self._work_out(now, limit)
        return self._slots

    def _work_out(self, now: float, limit: int) -> int:
        self.is_brisk = False
        if len(self._services) < SERVICE_TIMES_MIN:
            return 0
        service = median(self._services)
        self.is_brisk = next_slot(limit, service) <= BRISK_WAIT
        return smallest_reserve(limit, self._rate(now), service) if limit > 1 else 0

    def _rate(self, now: float) -> float:
        """Arrivals of rank 0 a second, by the busiest windows of the last hour and minute."""
        self._roll(now)
        windows = list(self._arrivals)
        usual = sorted(windows)[int(PERCENTILE * (len(windows) - 1))]
        recent = max(windows[-RECENT_WINDOWS:])
        return min(usual, RECENT_FACTOR * recent) / WINDOW_SECONDS

    def _roll(self, now: float) -> None:
        """Begin a new window, or several, if the present one is over."""
        if now < self._window_end:
            return
        if self._window_end == -inf:
            self._window_end = now
        missed = int((now - self._window_end) // WINDOW_SECONDS) + 1
        self._arrivals.extend([0] * min(missed, WINDOWS))
        self._window_end += missed * WINDOW_SECONDS


def smallest_reserve(limit: int, rate: float, service: float) -> int:
    """The reserve for `rate` arrivals of rank 0 a second and `service` seconds a message.

    If no reserve meets the target, the one that comes nearest; 0 if rank 0 alone is too much for
    the backend, since then it has all of it anyway.
    """
    if service <= 0.0:
        return 0
    best, least = 0, inf
    for reserve in range(limit // 2 + 1):  # one by one: each costs as much as the reserve is large
        wait = high_wait(limit, reserve, rate, service)
        if wait <= TARGET_WAIT:
            return reserve
        if wait < least:
            best, least = reserve, wait
    return best


def next_slot(limit: int, service: float) -> float:
    """The 99th percentile of the time until one of `limit` slots in use comes back, in seconds."""
    return log(1.0 / (1.0 - PERCENTILE)) * service / limit


def high_wait(limit: int, reserve: int, rate: float, service: float) -> float:
    """The 99th percentile of the wait of rank 0 while all others are backlogged, in seconds."""
    speed = 1.0 / service
    spare = limit * speed - rate
    if spare <= 0.0:
        return inf
    state, below = 1.0, 0.0
    for extra in range(1, reserve + 1):
        below += state
        state *= rate / ((limit - reserve + extra) * speed)
    waiting = state / (1.0 - rate / (limit * speed))
    chance = waiting / (below + waiting)
    missed = 1.0 - PERCENTILE
    return log(chance / missed) / spare if chance > missed else 0.0
