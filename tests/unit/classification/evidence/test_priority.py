"""Evidence of MT-PRIORITY."""

import pytest

from mailshed.classification.evidence.priority import conditions
from mailshed.classification.subject import Known
from tests.support.builders import rule, subject


@pytest.mark.parametrize(
    ("priority", "lower", "upper", "holds"),
    [
        (4, 4, None, True),
        (9, 4, None, True),
        (3, 4, None, False),
        (None, 4, None, False),
        (-4, None, -4, True),
        (-9, None, -4, True),
        (-3, None, -4, False),
        (None, None, -4, False),
        (None, 0, 0, True),
        (1, 0, 0, False),
    ],
)
def test_holds_within_its_bounds_and_counts_none_as_0(
    priority: int | None, lower: int | None, upper: int | None, holds: bool
) -> None:
    (condition,) = conditions(rule(priority_min=lower, priority_max=upper))
    assert condition.holds(subject(priority=priority)) is holds
    assert condition.known_at is Known.MAIL


def test_says_what_it_found_and_what_was_asked_for() -> None:
    (condition,) = conditions(rule(priority_min=-1, priority_max=4))
    asked = "asked for at least -1 and at most 4"
    assert condition.why(subject(priority=7)) == f"priority is 7, {asked}"
    assert condition.why(subject()) == f"priority is 0 (none given), {asked}"


def test_a_rule_without_bounds_does_not_ask() -> None:
    assert list(conditions(rule())) == []
