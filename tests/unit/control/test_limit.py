"""The seam of the limit, and the limit that does not move."""

import pytest

from mailshed.control.limit import FixedLimit, Sample, SlotEnding


@pytest.mark.parametrize("ending", SlotEnding)
def test_a_fixed_limit_learns_nothing(ending: SlotEnding) -> None:
    limit = FixedLimit(7)
    limit.on_end(1.0, Sample(ending=ending, service=9.0, size=1, recipients=1, in_flight=7))
    assert [limit.limit(now) for now in (0.0, 1e9)] == [7, 7]


def test_a_fixed_limit_is_its_own_ceiling() -> None:
    assert FixedLimit(7).ceiling == 7


@pytest.mark.parametrize("slots", [0, -1])
def test_a_limit_of_no_slots_is_a_mistake_of_ours(slots: int) -> None:
    with pytest.raises(AssertionError):
        FixedLimit(slots)
