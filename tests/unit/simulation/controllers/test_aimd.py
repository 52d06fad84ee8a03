"""AIMD: one up, a tenth down."""

from mailshed.control.limit import SlotEnding
from mailshed.simulation.controllers.aimd import AimdLimit
from tests.unit.simulation.controllers.samples import feed


def test_each_sample_adds_one_if_half_the_limit_is_in_use() -> None:
    limit = AimdLimit(start=10)
    feed(limit, in_flight=5)
    assert limit.limit(0.0) == 11
    feed(limit, in_flight=5)  # 10 < 11
    assert limit.limit(0.0) == 11


def test_a_drop_takes_a_tenth_rounded_down() -> None:
    limit = AimdLimit(start=25)
    feed(limit, ending=SlotEnding.REFUSED)
    assert limit.limit(0.0) == 22  # 22.5
    feed(limit, ending=SlotEnding.STALLED)
    assert limit.limit(0.0) == 19  # 19.8


def test_an_answer_after_the_timeout_is_a_drop() -> None:
    limit = AimdLimit(start=25)
    feed(limit, 5.0)
    assert limit.limit(0.0) == 26
    feed(limit, 5.1)
    assert limit.limit(0.0) == 23  # 23.4
