"""Running the cases of a policy."""

from typing import Any

import pytest

from mailshed.classification.classifier import Classifier
from mailshed.cli.exit_codes import VerbFailed
from mailshed.cli.policy_test import failures, subject_of_case
from mailshed.config.cases import Case, CaseSection
from mailshed.config.load import classification_policy
from mailshed.config.shipped import shipped_configuration

CONFIG = shipped_configuration()
CLASSIFIER = Classifier(classification_policy(CONFIG))


def run(expect: dict[str, Any], **said: Any) -> list[str]:
    section = CaseSection.model_validate({"name": "case", "expect": expect, **said})
    return list(failures(Case(section, "cases.yaml:1"), CLASSIFIER, CONFIG))


LIST = {"List-Id": "<news.example>"}


def test_a_case_that_holds_says_nothing() -> None:
    assert run({"class": "bulk"}, headers=LIST) == []
    expected = {"class": "bulk", "rule": "mailing-lists", "action": "spool", "state": "saturated"}
    assert run(expected, headers=LIST) == []


def test_another_class_is_a_failure_that_says_why() -> None:
    said = run({"class": "clinical"}, headers=LIST)
    assert said[:2] == ["expected class clinical", "     but got bulk by rule mailing-lists"]
    assert '  mailing-lists [bulk]: matches: list-id is "<news.example>"' in said


def test_another_rule_is_a_failure() -> None:
    said = run({"class": "bulk", "rule": "precedence-bulk"}, headers=LIST)
    assert said[0] == "expected class bulk by rule precedence-bulk"
    assert run({"class": "personal", "rule": "default"}) == []


def test_another_action_is_a_failure() -> None:
    (said,) = run({"class": "bulk", "action": "relay"}, headers=LIST)
    assert said.startswith("expected to relay when saturated, but would spool (saturated)")


def test_a_class_that_is_not_there_is_a_failure() -> None:
    assert run({"class": "bukl"}) == ["expects class bukl, which is not configured"]


def test_an_address_that_is_none_is_a_failure() -> None:
    assert run({"class": "bulk"}, to=["x"]) == ["cannot be tried: malformed address"]
    with pytest.raises(VerbFailed, match="not an IP address"):
        run({"class": "bulk"}, from_ip="nowhere")


def test_the_message_is_as_the_case_says() -> None:
    section = CaseSection.model_validate(
        {
            "name": "case",
            "from_ip": "10.1.2.3",
            "user": "alice",
            "from": "<>",
            "to": ["a@b.example"],
            "recipient_count": 3,
            "size": "1MiB",
            "priority": 4,
            "headers": {"X": "é"},
            "sent": {"messages": 7, "recipients": 8},
            "expect": {"class": "bulk"},
        }
    )
    made = subject_of_case(section, CLASSIFIER, CONFIG)
    assert (made.client.address_text, made.client.user) == ("10.1.2.3", "alice")
    assert (made.client.is_trusted, made.priority, made.reverse_path) == (True, 4, None)
    to = [str(each.mailbox) for each in made.recipients]
    assert to == ["a@b.example", "recipient1@b.example", "recipient2@b.example"]
    assert (made.size, made.header.values("x")) == (1024**2, ["é"])
    assert made.sent == ((600.0, 7, 8),)
