"""The seam of the limit, and the limit that does not move."""

import pytest

from mailshed.control.limit import FixedLimit, Flight, SlotEnding
from mailshed.mail.delivery import StageTimes


@pytest.mark.parametrize("ending", SlotEnding)
def test_a_fixed_limit_learns_nothing(ending: SlotEnding) -> None:
    limit = FixedLimit(7)
    flight = Flight(size=1, recipients=1, is_first=False, started_at=1.0, in_flight=7)
    limit.on_start(1.0, flight)
    limit.on_end(10.0, flight, ending, StageTimes(service=9.0))
    assert limit.tick(10.0, is_backlogged=True) is None
    assert limit.expected(1, 1) is None
    assert [limit.limit(now) for now in (0.0, 1e9)] == [7, 7]


def test_a_fixed_limit_is_its_own_ceiling() -> None:
    assert FixedLimit(7).ceiling == 7


@pytest.mark.parametrize("slots", [0, -1])
def test_a_limit_of_no_slots_is_a_mistake_of_ours(slots: int) -> None:
    with pytest.raises(AssertionError):
        FixedLimit(slots)
