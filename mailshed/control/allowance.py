"""The limit as a number, and how it moves: TCP's congestion window, for messages.

It grows by parts and falls by parts; `rule` says which. On the way up after a start or a fall it is
a *slow start*, by half at a time, which ends at the first sign of a queue, and after a fall at half
of what was good (TCP's `ssthresh`). *Good* is the highest value of late; it fades in half an hour,
so that a backend that was faster once is forgotten.

What was never in use cannot be cut: a limit of 60 of which 20 were in flight when there were too
many falls to a part of 20.

Pure; times are seconds.
"""

from math import exp

from mailshed.control.rule import SLOW_START

GOOD_FADE_SECONDS = 1800.0
RECOVERY_SHARE = 0.5
"""Of what was good: a slow start ends there, and so does the absolute rule of `rule`."""
LOST_SHARE = 0.55
"""Of what was good: below that, the backend has changed, or what we know of it is wrong."""


class Allowance:
    """The number of messages that one backend may have in flight, between `lowest` and `highest`.

    It does not know the learned ceiling: whoever raises it says how far it may go.
    """

    def __init__(self, *, lowest: int, highest: int, start: int) -> None:
        self._lowest = float(lowest)
        self._highest = float(highest)
        self.value = float(min(max(start, lowest), highest))
        self.good = self.value
        self.is_slow_start = True
        self._slow_start_to = self._highest

    @property
    def is_lost(self) -> bool:
        """Whether it has fallen far below what was good."""
        return self.value < LOST_SHARE * self.good

    @property
    def recovery(self) -> float:
        """How low a cut may go that is made for latency which may not be ours."""
        return RECOVERY_SHARE * self.good

    def grow(self, value: float, most: int) -> None:
        """Rise to `value`, or to `most` if that is less."""
        self.value = max(self._lowest, min(value, float(most), self._highest))
        if self.value >= self._slow_start_to:
            self.is_slow_start = False

    def cut(self, factor: float, used: float, floor: float = 0.0) -> None:
        """Fall to a part of what was `used`, but not below `floor`."""
        base = min(self.value, max(used, self._lowest))
        self.value = min(self.value, max(factor * base, floor, self._lowest))
        self.is_slow_start = False

    def bound(self, most: int) -> None:
        """Fall to `most`: more is not allowed."""
        self.value = max(self._lowest, min(self.value, float(most)))
        self.is_slow_start = False

    def start_again(self, value: float) -> None:
        """Fall to `value`, and rise by a slow start to half of what was good."""
        self.value = max(self._lowest, min(self.value, value))
        self.is_slow_start, self._slow_start_to = True, self.recovery

    def return_to_good(self) -> None:
        """It was cut by mistake: rise by a slow start to what was good."""
        self.is_slow_start, self._slow_start_to = True, self.good

    def note_good(self, seconds: float) -> None:
        """For so long nothing was wrong with it; of a slow start the last step is not proven."""
        proven = self.value / SLOW_START if self.is_slow_start else self.value
        fading = 1.0 - exp(-seconds / GOOD_FADE_SECONDS)
        self.good = max(proven, self.good - (self.good - proven) * fading)
