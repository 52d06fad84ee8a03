"""What all known controllers share: which samples they see, their bounds, what they report."""

import pytest

from mailshed.control.limit import LimitChange, SlotEnding
from mailshed.simulation.controllers.aimd import AimdLimit
from mailshed.simulation.controllers.known import CEILING, KnownLimit
from tests.unit.simulation.controllers.samples import feed


class _Recorder(KnownLimit):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, int, bool]] = []

    def _sample(self, now: float, rtt: float, in_flight: int, *, is_drop: bool) -> None:
        self.seen.append((rtt, in_flight, is_drop))


def test_a_completed_message_is_a_sample_of_its_service_time() -> None:
    limit = _Recorder()
    feed(limit, 0.25, in_flight=3)
    assert limit.seen == [(0.25, 3, False)]


@pytest.mark.parametrize(
    "ending",
    [SlotEnding.BUSY, SlotEnding.REFUSED, SlotEnding.STALLED, SlotEnding.IN_DOUBT],
)
def test_no_room_and_no_answer_are_drops(ending: SlotEnding) -> None:
    limit = _Recorder()
    feed(limit, 2.0, now=50.0, in_flight=3, ending=ending)
    assert limit.seen == [(2.0, 3, True)]


@pytest.mark.parametrize(
    "ending",
    [SlotEnding.REJECTED, SlotEnding.RECIPIENT, SlotEnding.POLICY, SlotEnding.UNUSED],
)
def test_trouble_of_one_message_or_mailbox_is_not_shown(ending: SlotEnding) -> None:
    limit = _Recorder()
    feed(limit, ending=ending)
    assert limit.seen == []


def test_every_ending_is_a_sample_a_drop_or_not_shown() -> None:
    seen = 0
    for ending in SlotEnding:
        limit = _Recorder()
        feed(limit, ending=ending)
        seen += len(limit.seen)
    assert seen == len(SlotEnding) - 4


def test_a_subclass_has_to_say_what_it_makes_of_samples() -> None:
    with pytest.raises(NotImplementedError):
        feed(KnownLimit())


def test_the_bounds_hold_and_expectations_are_nobodys_business() -> None:
    limit = AimdLimit(start=4, floor=2, ceiling=6)
    for _ in range(10):
        feed(limit)
    assert (limit.limit(0.0), limit.ceiling) == (6, 6)
    for _ in range(20):
        feed(limit, ending=SlotEnding.BUSY)
    assert limit.limit(0.0) == 2
    assert limit.expected(1000, 1) is None
    assert AimdLimit().ceiling == CEILING


def test_a_tick_reports_what_has_changed_since_the_last() -> None:
    limit = AimdLimit(start=4)
    assert limit.tick(1.0, is_backlogged=True) is None
    feed(limit)
    feed(limit)
    assert limit.tick(2.0, is_backlogged=True) == LimitChange(before=4, after=6, cause="AimdLimit")
    assert limit.tick(3.0, is_backlogged=True) is None
