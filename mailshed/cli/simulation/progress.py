"""A bar on standard error while a simulation runs, if that is a terminal."""

import sys
from typing import TextIO

WIDTH = 40
STEPS = 200
"""It is drawn anew when it has grown by one of so many parts."""


class Progress:
    """How far it is, 0 to 1; to be called with that. `close` takes the bar away."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_shown = self._stream.isatty()
        self._drawn = -1

    def __call__(self, share: float) -> None:
        """Show how far it is."""
        step = int(min(1.0, max(0.0, share)) * STEPS)
        if not self._is_shown or step == self._drawn:
            return
        self._drawn = step
        filled = step * WIDTH // STEPS
        bar = "#" * filled + "." * (WIDTH - filled)
        self._stream.write(f"\r[{bar}] {step * 100 // STEPS:3d} %")
        self._stream.flush()

    def close(self) -> None:
        """Take the bar away."""
        if self._is_shown and self._drawn >= 0:
            self._stream.write("\r" + " " * (WIDTH + 8) + "\r")
            self._stream.flush()
