"""How hard pressed the service is as a whole, 0 to 1, and what follows softly from it.

The pressure is the saturation of the fullest resource, smoothed over some seconds. It decides about
no class (`divert` does); it turns on what is mild and concerns only those who can wait: quotas
bite, and mail servers that send bulk or telework mail get slow replies. Each has an upper and a
lower mark, so that it does not come and go with every burst.

`slow_reply` is how long such a mail server waits for the reply to MAIL. It costs us a sleeping
session and costs the sender its pace, since most servers have few connections to one host; and
other than a 4xx it brings nothing back in waves.

Pure: `now` is monotonic seconds.
"""

from dataclasses import dataclass

KEPT_PER_SECOND = 0.7
"""Share of the old value that is left after a second."""
SOFT_ON = 0.7
SOFT_OFF = 0.5
SLOW_ABOVE = 0.5
SLOW_PER_PRESSURE = 10.0
"""Seconds of delay for each unit of pressure above `SLOW_ABOVE`."""
SLOW_MAX = 5.0
GAP_MAX = 30.0
"""A value that is older says nothing any more."""


@dataclass(slots=True)
class Switch:
    """Something that is turned on at one mark and off at a lower one."""

    on: float
    off: float
    is_on: bool = False

    def update(self, value: float) -> bool:
        """Whether it is on at this value."""
        self.is_on = value >= (self.off if self.is_on else self.on)
        return self.is_on


class Pressure:
    """The pressure on one service."""

    def __init__(self) -> None:
        self.value = 0.0
        self._quotas = Switch(SOFT_ON, SOFT_OFF)
        self._updated_at: float | None = None

    @property
    def is_on(self) -> bool | None:
        """Whether quotas bite; None before anything is known."""
        return None if self._updated_at is None else self._quotas.is_on

    def update(self, saturation: float, now: float) -> float:
        """Let time pass at this saturation, which counts up to 1; return the pressure."""
        if self._updated_at is not None:
            passed = min(GAP_MAX, max(0.0, now - self._updated_at))
            kept = KEPT_PER_SECOND**passed
            self.value = kept * self.value + (1.0 - kept) * min(1.0, max(0.0, saturation))
        self._updated_at = now
        self._quotas.update(self.value)
        return self.value


def slow_reply(pressure: float) -> float:
    """Seconds by which the reply to MAIL is delayed for those who can wait."""
    return min(SLOW_MAX, SLOW_PER_PRESSURE * max(0.0, pressure - SLOW_ABOVE))
