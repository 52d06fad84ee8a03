"""How late the event loop runs: the time between when a tick was due and when it came.

A lag of a few milliseconds is work; more means that something blocks the loop, and every client
waits for it. What the ticking task itself waits for (a disk, say) is no lag: the measurement begins
when it lies down to sleep.
"""

from collections import deque

# Ticks that the reported maximum looks back over: ten seconds at four ticks a second, so that a
# scrape every few seconds does not miss a stall.
WINDOW_TICKS = 40
HIGH = 0.9
"""The quantile that says how the loop runs, as the maximum says how it stalled."""


class EventLoopLag:
    """Lag of the ticks of one periodic task, which calls `rest`, sleeps `interval`, and `tick`."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._due: float | None = None
        self._recent: deque[float] = deque(maxlen=WINDOW_TICKS)

    def rest(self, now: float) -> None:
        """Note that the task goes to sleep at monotonic time `now`."""
        self._due = now + self._interval

    def tick(self, now: float) -> float:
        """Note a tick at monotonic time `now`; return how late it came, in seconds."""
        lag = 0.0 if self._due is None else max(0.0, now - self._due)
        self._due = None
        self._recent.append(lag)
        return lag

    @property
    def recent_high(self) -> float:
        """The lag that a tenth of them exceeds: one stall makes it no higher, a busy loop does."""
        ordered = sorted(self._recent)
        return ordered[int(HIGH * (len(ordered) - 1))] if ordered else 0.0

    @property
    def recent_max(self) -> float:
        """The largest lag of the last `WINDOW_TICKS` ticks."""
        return max(self._recent, default=0.0)
