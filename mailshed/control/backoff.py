"""One attempt at a time, ever rarer: how something that does not answer is asked again.

Off, everybody may ask. The first failure turns it on: nobody may ask but one probe at a time, after
1, 2, 4 ... 30 seconds with jitter, so that what comes back meets one question and not all of them.
A success turns it off. A refusal that came at once costs neither side anything, so it is followed
by the next question after `REFUSED_MAX` at most: what comes back is found soon.

Questions that were out when it was turned on end while a probe is out, perhaps only minutes later.
So each probe has a number, and only its holder can end it.

Pure: `now` is monotonic seconds; the jitter is a number in [0, 1) handed in with each failure.
"""

BACKOFF_MIN = 1.0
BACKOFF_MAX = 30.0
REFUSED_MAX = 2.0
"""Seconds to the next probe after one that was refused at once."""
AT_ONCE = 1.0
"""A refusal within so many seconds cost nothing. Without a route to the host it takes three."""
# +-20 %, so that several instances in front of one backend do not probe in step.
JITTER = 0.2


class Backoff:
    """The pauses between the questions to one backend."""

    def __init__(self) -> None:
        self._is_open = False
        self._backoff = BACKOFF_MIN
        self._next_probe = 0.0
        self._probes = 0
        self._probe = 0
        self._began = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it is on: only probes may ask."""
        return self._is_open

    @property
    def probe(self) -> int:
        """Number of the probe that is out, else 0; right after `try_enter`, that of its caller."""
        return self._probe

    def next_probe(self, now: float) -> float:
        """Seconds from `now` until somebody may ask; 0 if now, or if it is off."""
        return max(0.0, self._next_probe - now) if self._is_open else 0.0

    def may_enter(self, now: float) -> bool:
        """Whether `try_enter` would say yes."""
        return not self._is_open or not (self._probe or now < self._next_probe)

    def try_enter(self, now: float) -> bool:
        """Ask to ask; while it is on, True makes the caller the probe."""
        if not self.may_enter(now):
            return False
        if self._is_open:
            self._probes += 1
            self._probe = self._probes
            self._began = now
        return True

    def age(self, now: float) -> float:
        """Seconds since the probe that is out began; 0 if none is."""
        return now - self._began if self._probe else 0.0

    def on_success(self) -> None:
        """There was an answer: off."""
        self._is_open = False
        self._backoff = BACKOFF_MIN
        self._probe = 0

    def on_step(self, now: float, probe: int) -> bool:
        """Say whether `probe` is out; it had an answer then, and the next one is due at once."""
        if not self._end_probe(probe):
            return False
        self._next_probe = now
        return True

    def on_failure(
        self, now: float, jitter: float, probe: int = 0, *, is_refused: bool = False
    ) -> bool:
        """No answer; `jitter` in [0, 1) spreads the next probe.

        `probe` is the number of the probe that failed, 0 for a question that was none.
        `is_refused`: it was refused rather than not answered. Returns whether it matters.
        """
        is_quick = is_refused and self.age(now) <= AT_ONCE
        if self._end_probe(probe):
            self._backoff = min(REFUSED_MAX if is_quick else BACKOFF_MAX, self._backoff * 2)
        elif self._is_open:
            return False  # a straggler from before it was turned on says nothing new
        self._is_open = True
        self._next_probe = now + self._backoff * (1 + JITTER * (2 * jitter - 1))
        return True

    def on_unused(self, probe: int) -> None:
        """The probe was not made after all; the next one to ask may be it."""
        self._end_probe(probe)

    def hasten(self, now: float) -> None:
        """Something speaks for a success: the next probe is due at once."""
        self._next_probe = min(self._next_probe, now)

    def _end_probe(self, probe: int) -> bool:
        """Say whether `probe` is the one that is out, and let there be none then."""
        if probe == 0 or probe != self._probe:
            return False
        self._probe = 0
        return True
