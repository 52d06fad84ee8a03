"""Whether a backend is there at all: a circuit breaker over connection failures.

Closed, everything passes. After `FAILURES_TO_OPEN` failures in a row without a single answer in
between (or as many as its owner says), it opens: nobody may try but one probe at a time, after 1,
2, 4 ... 30 seconds with jitter, so that a backend that comes back meets one message and not all of
them. The first success closes it. Messages are not to blame for a backend that is away: their own
retry counters stand still.

Messages that were with the backend when the breaker opened end while a probe is out, perhaps only
minutes later. So each probe has a number, and only its holder can end it.

Pure: `now` is monotonic seconds; the jitter is a number in [0, 1) handed in with each failure.
"""

FAILURES_TO_OPEN = 2
BACKOFF_MIN = 1.0
BACKOFF_MAX = 30.0
# +-20 %, so that several instances in front of one backend do not probe in step.
JITTER = 0.2


class Breaker:
    """The breaker of one backend."""

    def __init__(self, failures_to_open: int = FAILURES_TO_OPEN) -> None:
        self._failures_to_open = failures_to_open
        self._failures = 0
        self._backoff = BACKOFF_MIN
        self._next_probe = 0.0
        self._probes = 0
        self._probe = 0

    @property
    def is_open(self) -> bool:
        """Whether the backend counts as away."""
        return self._failures >= self._failures_to_open

    @property
    def probe(self) -> int:
        """Number of the probe that is out, else 0; right after `try_enter`, that of its caller."""
        return self._probe

    def next_probe(self, now: float) -> float:
        """Seconds from `now` until somebody may try; 0 if now, or if the breaker is closed."""
        return max(0.0, self._next_probe - now) if self.is_open else 0.0

    def may_enter(self, now: float) -> bool:
        """Whether `try_enter` would say yes."""
        return not self.is_open or not (self._probe or now < self._next_probe)

    def try_enter(self, now: float) -> bool:
        """Ask to talk to the backend; while open, True makes the caller the probe."""
        if not self.may_enter(now):
            return False
        if self.is_open:
            self._probes += 1
            self._probe = self._probes
        return True

    def on_success(self) -> None:
        """The backend answered: close."""
        self._failures = 0
        self._backoff = BACKOFF_MIN
        self._probe = 0

    def on_failure(self, now: float, random_unit: float, probe: int = 0) -> None:
        """No connection, or none that spoke; `random_unit` in [0, 1) spreads the next probe.

        `probe` is the number of the probe that failed, 0 for a message that was none.
        """
        was_probe = self._end_probe(probe)
        self._failures += 1
        if self._failures == self._failures_to_open:
            self._backoff = BACKOFF_MIN
        elif was_probe:
            self._backoff = min(BACKOFF_MAX, self._backoff * 2)
        else:
            return  # a straggler from before the breaker opened says nothing new
        self._next_probe = now + self._backoff * (1 + JITTER * (2 * random_unit - 1))

    def on_unused(self, probe: int) -> None:
        """The probe was not made after all; the next one to ask may be it."""
        self._end_probe(probe)

    def _end_probe(self, probe: int) -> bool:
        """Say whether `probe` is the one that is out, and let there be none then."""
        if probe == 0 or probe != self._probe:
            return False
        self._probe = 0
        return True
