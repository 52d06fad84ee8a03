"""Time as something that is handed in: shells own a `Clock`, core functions take `now`.

`monotonic()` measures durations and deadlines; it never jumps. `wall()` is the Unix epoch time
for what outlives the process (a message's arrival, its next attempt) and may jump; nothing that
must not happen twice may depend on it alone.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """The two times of a process; the tests have one that is turned by hand."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin, never backwards."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        ...


class SystemClock:
    """The operating system's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
