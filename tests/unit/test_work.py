"""What a message is to the station, and its slot."""

from mailshed.control.limit import Flight
from mailshed.work import OBSERVED_LIVE, OBSERVED_SPOOLED, Slot
from tests.support.builders import PERSONAL


def test_slots_are_told_apart() -> None:
    """Slots are held by identity: two that look alike are two rights."""
    flight = Flight(size=0, recipients=1, is_first=False, started_at=0.0, in_flight=1)
    one, other = Slot(PERSONAL, flight), Slot(PERSONAL, flight)
    assert one != other
    assert len({one, other}) == 2


def test_while_observing_live_mail_has_the_most_of_the_slots_and_none_is_kept_from_them() -> None:
    assert OBSERVED_LIVE.weight > OBSERVED_SPOOLED.weight
    assert {OBSERVED_LIVE.threshold, OBSERVED_SPOOLED.threshold} == {1.0}
    assert OBSERVED_LIVE.rank == OBSERVED_SPOOLED.rank > 0
