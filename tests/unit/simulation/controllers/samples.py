"""Feeding a limit: one message from slot to slot."""

from mailshed.control.limit import Flight, Limit, SlotEnding
from mailshed.mail.delivery import StageTimes


def feed(
    limit: Limit,
    service: float = 0.1,
    *,
    now: float = 100.0,
    in_flight: int = 1000,
    ending: SlotEnding = SlotEnding.COMPLETED,
) -> None:
    """Let a message end at `now` that has had its slot for `service` seconds."""
    flight = Flight(1000, 1, False, now - service, in_flight)
    limit.on_start(now - service, flight)
    limit.on_end(now, flight, ending, StageTimes(service=service))
