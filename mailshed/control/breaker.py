"""Whether a backend is there at all: a circuit breaker over connection failures.

Closed, everything passes. After `FAILURES_TO_OPEN` failures in a row without a single answer in
between, it opens: nobody may try but one probe at a time, after 1, 2, 4 ... 30 seconds with jitter,
so that a backend that comes back meets one message and not all of them. The first success closes
it. Messages are not to blame for a backend that is away: their own retry counters stand still.

Pure: `now` is monotonic seconds; the jitter is a number in [0, 1) handed in with each failure.
"""

FAILURES_TO_OPEN = 2
BACKOFF_MIN = 1.0
BACKOFF_MAX = 30.0
# +-20 %, so that several instances in front of one backend do not probe in step.
JITTER = 0.2


class Breaker:
    """The breaker of one backend."""

    def __init__(self) -> None:
        self._failures = 0
        self._backoff = BACKOFF_MIN
        self._next_probe = 0.0
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Whether the backend counts as away."""
        return self._failures >= FAILURES_TO_OPEN

    def next_probe(self, now: float) -> float:
        """Seconds from `now` until somebody may try; 0 if now, or if the breaker is closed."""
        return max(0.0, self._next_probe - now) if self.is_open else 0.0

    def may_enter(self, now: float) -> bool:
        """Whether `try_enter` would say yes."""
        return not self.is_open or not (self._is_probing or now < self._next_probe)

    def try_enter(self, now: float) -> bool:
        """Ask to talk to the backend; while open, True makes the caller the probe."""
        if not self.may_enter(now):
            return False
        self._is_probing = self.is_open
        return True

    def on_success(self) -> None:
        """The backend answered: close."""
        self._failures = 0
        self._backoff = BACKOFF_MIN
        self._is_probing = False

    def on_failure(self, now: float, random_unit: float) -> None:
        """No connection, or none that spoke; `random_unit` in [0, 1) spreads the next probe."""
        was_probe = self._is_probing
        self._is_probing = False
        self._failures += 1
        if self._failures == FAILURES_TO_OPEN:
            self._backoff = BACKOFF_MIN
        elif was_probe:
            self._backoff = min(BACKOFF_MAX, self._backoff * 2)
        else:
            return  # a straggler from before the breaker opened says nothing new
        self._next_probe = now + self._backoff * (1 + JITTER * (2 * random_unit - 1))

    def on_unused(self) -> None:
        """The probe was not made after all; the next one to ask may be it."""
        self._is_probing = False
