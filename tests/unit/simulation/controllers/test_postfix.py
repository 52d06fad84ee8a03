"""Postfix's feedback: cohorts up, cohorts down, dead for a while."""

from mailshed.control.limit import SlotEnding
from mailshed.simulation.controllers.postfix import DEAD_SECONDS, PostfixLimit
from tests.unit.simulation.controllers.samples import feed


def _feed(limit: PostfixLimit, count: int, ending: SlotEnding = SlotEnding.COMPLETED) -> None:
    for _ in range(count):
        feed(limit, ending=ending)


def test_it_starts_with_five() -> None:
    assert (PostfixLimit().limit(0.0), PostfixLimit().ceiling) == (5, 20)


def test_a_cohort_of_successes_is_one_more() -> None:
    limit = PostfixLimit()
    _feed(limit, 4)
    assert limit.limit(0.0) == 5  # 4/5, and half a fifth: not there yet
    _feed(limit, 1)
    assert limit.limit(0.0) == 6
    # In flight at each ending is one, so the window goes as far as 1 + 5.
    _feed(limit, 50)
    assert limit.limit(0.0) == 6


def test_a_time_out_of_the_dialog_is_as_good_as_no_connection_and_a_4xx_is_not() -> None:
    for ending in (SlotEnding.BUSY, SlotEnding.RECIPIENT, SlotEnding.POLICY, SlotEnding.REJECTED):
        limit = PostfixLimit()
        _feed(limit, 5, ending)
        assert limit.limit(0.0) == 6, ending
    for ending in (SlotEnding.REFUSED, SlotEnding.STALLED, SlotEnding.IN_DOUBT):
        limit = PostfixLimit()
        _feed(limit, 1, ending)
        assert limit.limit(0.0) == 4, ending


def test_a_failure_is_a_step_down_and_then_one_for_each_cohort() -> None:
    limit = PostfixLimit(initial=10)
    _feed(limit, 1, SlotEnding.REFUSED)
    assert limit.limit(0.0) == 9  # -0.1 is below 0: down, and 0.9 are left
    for _ in range(7):
        _feed(limit, 1, SlotEnding.REFUSED)
        _feed(limit, 1)  # a success forgets the cohort of failures
    assert limit.limit(0.0) == 9  # 0.9 - 7/9 = 0.12
    _feed(limit, 1, SlotEnding.REFUSED)
    assert limit.limit(0.0) == 8


def test_a_cohort_of_failures_without_a_success_is_the_end_for_five_minutes() -> None:
    limit = PostfixLimit()
    # 1/5 + 3/4 of a cohort, 0.05 of a step left above the next: down to 3. The fifth is dead.
    _feed(limit, 4, SlotEnding.REFUSED)
    assert limit.limit(100.0) == 3
    _feed(limit, 1, SlotEnding.REFUSED)
    assert limit.limit(100.0) == 1
    _feed(limit, 9, SlotEnding.REFUSED)
    assert limit.limit(100.0 + DEAD_SECONDS - 1) == 1
    assert limit.limit(100.0 + DEAD_SECONDS) == 5


def test_a_success_ends_the_death_at_once() -> None:
    limit = PostfixLimit()
    _feed(limit, 5, SlotEnding.REFUSED)
    _feed(limit, 1)
    assert limit.limit(100.0) == 5


def test_unused_slots_say_nothing() -> None:
    limit = PostfixLimit()
    _feed(limit, 50, SlotEnding.UNUSED)
    assert limit.limit(0.0) == 5
    assert limit._in_flight == 0
