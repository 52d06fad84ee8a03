"""Rules: what fits together within one of them."""

import pytest
from pydantic import ValidationError

from mailshed.config.classification import PATTERNS_MAX, RuleSection

RULE = {"name": "r", "class": "bulk"}


def faults(**conditions: object) -> list[str]:
    """What is wrong with a rule of these conditions."""
    with pytest.raises(ValidationError) as caught:
        RuleSection.model_validate({**RULE, **conditions})
    return [each["msg"] for each in caught.value.errors()]


@pytest.mark.parametrize("conditions", [{}, {"listeners": []}, {"headers": {}}])
def test_a_rule_without_a_condition_would_take_all_mail(conditions: dict[str, object]) -> None:
    (fault,) = faults(**conditions)
    assert "needs at least one condition" in fault


def test_one_condition_is_enough() -> None:
    rule = RuleSection.model_validate({**RULE, "null_sender": False})
    assert rule.null_sender is False
    assert rule.traffic_class == "bulk"


@pytest.mark.parametrize(
    "bounds",
    [
        {"priority_min": 2, "priority_max": 1},
        {"recipients_min": 6, "recipients_max": 5},
        {"size_min": "2MiB", "size_max": "1MiB"},
    ],
)
def test_bounds_that_nothing_is_between_are_a_fault(bounds: dict[str, object]) -> None:
    (fault,) = faults(**bounds)
    assert fault == f"must not be greater than {max(bounds)}".replace("_min", "_max")


def test_a_header_field_is_named_once_however_it_is_written() -> None:
    (fault,) = faults(headers={"List-Id": None, "list-id": ["x"]})
    assert fault == 'is the same field as "List-Id"'


def test_patterns_are_few_and_plain_addresses_are_not_counted() -> None:
    plain = [f"user{number}@hospital.example" for number in range(PATTERNS_MAX + 1)]
    assert len(RuleSection.model_validate({**RULE, "senders": plain}).senders) == len(plain)
    (fault,) = faults(senders=[f"user{number}*@hospital.example" for number in range(51)])
    assert "more than 50 patterns" in fault
