"""When to look at the backend with little in flight, so that the expected times stay true.

A backend that is busy all day is never seen unloaded, and what was known of it grows old. So every
ten minutes, if there were not enough light samples by themselves, the limit is held down for two
seconds. Nobody gets an error for that: mail waits, or is spooled. It costs a third of a percent.

A backend that takes longer for a message is held longer, five times as long as a message takes,
and more rarely, so that the cost stays. First it has to work off what it has: the clock runs from
the moment when so few are in flight, and if that does not come in time the probe is given up. With
too few samples it goes on, three times as long at most.

Where something is clearly wrong with what is known (the limit has been cut far below what used to
be good, or much mail is of a size that nobody has measured), a probe comes at once. If it shows
that nothing was wrong, the next one of those waits four times as long. And when all expected times
have just been multiplied, the next probe comes after a minute: what became slow at once may become
fast again.

Not to be confused with the probes of an open breaker (`probes`), which ask whether anybody is
there.

Pure; `now` is monotonic seconds.
"""

EPOCH_SECONDS = 600.0
EPOCH_FIRST = 120.0
"""The first one, since the first expected times rest on few samples."""
EPOCH_AGAIN = 60.0
"""After a lesson. Each epoch is twice as long as the one before."""
EPOCH_PROBES = 300.0
"""An epoch is so many probes long, at least: as long as the last one was in truth."""
EPOCH_MAX = 3600.0
"""But no longer: what takes a backend so long has to be looked at all the same."""
PROBE_MIN = 2.0
PROBE_MAX = 30.0
PROBE_SERVICES = 5.0
"""A probe lasts for so many service times."""
PATIENCE = 3.0
"""With too few samples it lasts so many times as long."""
SAMPLES_MIN = 20
"""A probe with fewer is prolonged, and proves nothing."""
SAMPLES_ENOUGH = 40
"""With so many light samples in an epoch there is no need of a probe."""
URGENT_MIN = 30.0
"""Between two probes of which the second comes for a reason; more if they last longer."""
URGENT_BACKOFF = 4.0
"""So many times as much if the first one had a reason too, and taught nothing."""


class BaselineProbe:
    """The probes of one backend: while one `is_on` the limit is to be held at `slots`."""

    def __init__(self) -> None:
        self.is_on = False
        self.slots = 0
        self.ends_at = float("-inf")
        """When the present probe is over, or the last one was."""
        self._is_settled = self._is_prolonged = self._is_urgent = False
        self._seconds = self._lasted = PROBE_MIN
        self._began = 0.0
        self._epoch = EPOCH_FIRST
        self._epoch_ends: float | None = None
        self._urgent_after = URGENT_MIN

    def begin(self, now: float, slots: int, service: float, *, is_urgent: bool = False) -> None:
        """Hold the limit at `slots`; messages take `service` seconds just now."""
        self.is_on, self.slots, self._is_urgent = True, slots, is_urgent
        self._is_settled = self._is_prolonged = False
        self._seconds = min(max(PROBE_MIN, PROBE_SERVICES * service), PROBE_MAX)
        self._began = now
        self.ends_at = now + self._seconds

    def settle(self, now: float, in_flight: int) -> None:
        """Note how many are in flight: from here on the probe counts, if they are few."""
        if not self._is_settled and in_flight <= self.slots:
            self._is_settled = True
            self.ends_at = now + self._seconds

    def is_over(self, now: float, samples: int) -> bool:
        """Whether the probe that is on has lasted long enough, with so many light samples."""
        if self._is_prolonged and samples >= SAMPLES_MIN:
            return True
        if now < self.ends_at:
            return False
        if samples >= SAMPLES_MIN or not self._is_settled or self._is_prolonged:
            return True
        self._is_prolonged = True
        self.ends_at += (PATIENCE - 1.0) * self._seconds
        return False

    def end(self, now: float, samples: int, *, is_lesson: bool) -> None:
        """Release the limit; `is_lesson`: all that was known turned out to be wrong.

        A probe that did not get samples enough says neither.
        """
        self.is_on = False
        self.ends_at = now
        self._lasted = max(self._seconds, now - self._began)
        if is_lesson:
            self._urgent_after, self._epoch = URGENT_MIN, EPOCH_AGAIN
        elif self._is_urgent and samples >= SAMPLES_MIN:
            self._urgent_after = min(URGENT_BACKOFF * self._urgent_after, EPOCH_SECONDS)
        self.start_epoch(now)

    def start_epoch(self, now: float) -> None:
        """Count the time from `now`."""
        cost = min(EPOCH_PROBES * self._lasted, EPOCH_MAX) * self._epoch / EPOCH_SECONDS
        self._epoch_ends = now + max(self._epoch, cost)
        self._epoch = min(2 * self._epoch, EPOCH_SECONDS)

    def is_epoch_over(self, now: float) -> bool:
        """Whether it is time to learn, by a probe if need be."""
        if self._epoch_ends is None:
            self.start_epoch(now)
            return False
        return now >= self._epoch_ends

    def may_hurry(self, now: float) -> bool:
        """Whether a probe may come before its time, for a reason."""
        return now - self.ends_at >= self._urgent_after * self._seconds / PROBE_MIN
