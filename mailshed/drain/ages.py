"""By which time mail is judged to be old, on a host whose wall clock may be set.

What must outlive the process is stamped with the wall clock, and that may jump: NTP sets it at the
start of a host, somebody sets it by hand, a virtual machine was paused. Nobody can say whether the
time before was wrong or the time after; but a message that was here before the jump has not become
older by it. So after a jump forwards mail is judged by a time that is behind the wall clock by the
jump: for as long as there may be mail from before it. Mail from after it lives longer than it
should by that much; late is the better mistake. A jump backwards makes mail seem younger, and is
followed at once.

Only jumps are seen that happen while the service runs. A clock that is slewed follows the wall.
"""

from collections import deque
from collections.abc import Callable

from mailshed.clock import Clock

STEP_MIN = 60.0
"""Seconds by which both clocks may disagree between two looks; slewing is 0.03 s in a minute."""
STEPS_MAX = 100
"""Jumps that are remembered; a clock that jumps more often has no age to tell."""


class AgeClock:
    """The wall clock for ages. `on_step` is told of each jump, in seconds, forwards or back."""

    def __init__(self, clock: Clock, on_step: Callable[[float], None]) -> None:
        self._clock = clock
        self._on_step = on_step
        self._last: tuple[float, float] | None = None
        self._steps: deque[tuple[float, float]] = deque(maxlen=STEPS_MAX)

    def wall(self, memory: float) -> float:
        """The Unix time to judge mail by that may have been here for `memory` seconds."""
        now, wall = self.look()
        ahead = total = 0.0
        # For mail from before a jump all jumps since count; nobody knows from when a message is.
        for stepped_at, step in reversed(self._steps):
            if stepped_at < now - memory:
                break
            total += step
            ahead = max(ahead, total)
        return wall - ahead

    def look(self) -> tuple[float, float]:
        """Compare the clocks; to be done once a minute at least. Returns both."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        last_now, last_wall = self._last or (now, wall)
        self._last = now, wall
        step = (wall - last_wall) - (now - last_now)
        if abs(step) > STEP_MIN:
            self._steps.append((now, step))
            self._on_step(step)
        return now, wall
