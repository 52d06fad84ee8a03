"""Evidence of how much there is of a message."""

from typing import Any

import pytest

from mailshed.classification.evidence.content import conditions
from mailshed.classification.subject import Condition, Known, early_answer
from tests.support.builders import rule, subject


def only(**asked: Any) -> Condition:
    (condition,) = conditions(rule(**asked))
    return condition


def to(count: int) -> list[str]:
    return [f"r{number}@example.net" for number in range(count)]


@pytest.mark.parametrize(("count", "is_many"), [(2, False), (3, True), (4, True)])
def test_bounds_of_recipients_are_inclusive(count: int, is_many: bool) -> None:
    assert only(recipients_min=3).holds(subject(*to(count))) is is_many
    assert only(recipients_max=count).holds(subject(*to(count)))
    assert not only(recipients_max=count - 1).holds(subject(*to(count)))


def test_what_more_recipients_cannot_change_is_known_early() -> None:
    few, many = subject(*to(2), known=Known.RCPT), subject(*to(3), known=Known.RCPT)
    assert early_answer(only(recipients_min=3), few) is None
    assert early_answer(only(recipients_min=3), many) is True
    assert early_answer(only(recipients_max=2), few) is None
    assert early_answer(only(recipients_max=2), many) is False


@pytest.mark.parametrize(
    ("size", "lower", "upper", "holds"),
    [
        (10, 10, None, True),
        (9, 10, None, False),
        (10, None, 10, True),
        (11, None, 10, False),
        (5, 0, 10, True),
        (0, None, 0, True),
    ],
)
def test_bounds_of_the_size_are_inclusive(
    size: int, lower: int | None, upper: int | None, holds: bool
) -> None:
    condition = only(size_min=lower, size_max=upper)
    assert condition.holds(subject(size=size)) is holds
    assert condition.known_at is Known.CONTENT, "what is declared is no evidence"


def test_says_what_it_counted() -> None:
    assert only(recipients_min=3).why(subject()) == "recipients are 1, asked for at least 3"
    assert only(recipients_max=3).why(subject()) == "recipients are 1, asked for at most 3"
    words = "octets are 7, asked for at least 10 and at most 20"
    assert only(size_min=10, size_max=20).why(subject(size=7)) == words


def test_a_rule_without_bounds_does_not_ask() -> None:
    assert list(conditions(rule())) == []
