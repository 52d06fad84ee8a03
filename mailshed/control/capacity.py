"""The best work rate that a backend has shown lately, in slot-seconds of expected time a second.

A message is as much work as the unloaded backend needs time for it, so a server of eight processes
that are all busy does eight slot-seconds a second, whatever the mix of messages. How much it could
do is only seen while it is asked for all of it. So the estimate is the best of the windows, and
fades by one percent a minute, so that a server that has lost half of its processes is believed it
within the hour.

The best of many windows is more than their mean, the more so the fewer messages a window has. So a
window ends after ten seconds and enough messages, and of the two best windows the second counts:
one lucky window alone is not believed.

What was seen on calm days is no capacity but a demand; to take it for one would find too much mail
in every rise of it. So the estimate is proven only by a window in which somebody waited most of the
time, and the first such window replaces all that was seen before.

Pure.
"""

WINDOW_SECONDS = 10.0
MESSAGES_MIN = 30
WINDOW_SECONDS_MAX = 60.0
FADE_PER_MINUTE = 0.01
ASKED_SHARE = 0.8
"""Of the ticks of a window: so often somebody waited, and the backend was asked for all it has."""


class Capacity:
    """The work rate of one backend."""

    def __init__(self, slot_seconds_per_second: float = 0.0) -> None:
        self._best = self._second = slot_seconds_per_second
        self._work = 0.0
        self._messages = 0
        self._began: float | None = None
        self._ticks = self._asked = 0
        self.is_proven = False
        """Whether the backend has been asked for more than it has."""

    @property
    def estimate(self) -> float:
        """Slot-seconds a second; 0 if nothing is known."""
        return self._second

    def note(self, expected: float) -> None:
        """A message was served that the unloaded backend needs `expected` seconds for."""
        self._work += expected
        self._messages += 1

    def tick(self, now: float, *, is_backlogged: bool) -> None:
        """Let time pass; `is_backlogged`: somebody waits."""
        if self._began is None:
            self._begin(now)
            return
        self._ticks += 1
        self._asked += is_backlogged
        seconds = now - self._began
        if seconds < WINDOW_SECONDS:
            return
        if self._messages < MESSAGES_MIN and seconds < WINDOW_SECONDS_MAX:
            return
        rate, fading = self._work / seconds, (1.0 - FADE_PER_MINUTE) ** (seconds / 60.0)
        self._best *= fading
        self._second *= fading
        was_asked = self._asked >= ASKED_SHARE * self._ticks
        if was_asked and not self.is_proven:
            self.is_proven = True
            self._best = self._second = max(rate, self._best)
        elif rate > self._best:
            self._best, self._second = rate, self._best
        elif rate > self._second:
            self._second = rate
        if self._second == 0.0:
            self._second = self._best
        self._begin(now)

    def rescale(self, ratio: float) -> None:
        """The same messages count as `ratio` times the work from now on."""
        self._best *= ratio
        self._second *= ratio
        self._work *= ratio

    def _begin(self, now: float) -> None:
        self._began, self._work, self._messages = now, 0.0, 0
        self._ticks = self._asked = 0
