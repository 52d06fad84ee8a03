"""What a message is to the station that serves it, and the slot that it is given.

While observing, classes are not told apart: all mail waits as one of the two classes here.
"""

from dataclasses import dataclass

from mailshed.control.limit import Flight
from mailshed.terms import TrafficClass
from mailshed.values import value


def _observed(name: str, weight: float) -> TrafficClass:
    return TrafficClass(
        name=name,
        rank=1,
        threshold=1.0,
        wait_max_mta=0.0,
        wait_max_user_agent=0.0,
        objective=float("inf"),
        weight=weight,
    )


# As what all mail waits while observing. Spooled mail, which is there since the backend was away,
# has a fifth, so that its age does not put all of it before what comes in now.
OBSERVED_LIVE = _observed("observed-live", 4.0)
OBSERVED_SPOOLED = _observed("observed-spooled", 1.0)


@value()
class Work:
    """What a message is to the station.

    `arrived_wall`, the Unix time of its arrival, orders those of one sender; `size` and
    `recipients` say what it costs its sender and class, and `penalty` multiplies what it costs its
    sender. `is_live`: its client waits; otherwise it comes from the spool.
    """

    traffic_class: TrafficClass
    size: int = 0
    recipients: int = 1
    sender: bytes = b""
    arrived_wall: float = 0.0
    is_live: bool = True
    penalty: float = 1.0


@dataclass(eq=False, slots=True)
class Slot:
    """The right to have one message in flight; give it back with `release`."""

    traffic_class: TrafficClass
    flight: Flight
    is_live: bool = True
    is_large: bool = False
    """It counts among the elephants."""
    probe: int = 0
    """Number of the breaker's probe that this is, 0 if it is none."""
    epoch: int = 0
    """The breaker's epoch in which it was taken."""
    is_released: bool = False
