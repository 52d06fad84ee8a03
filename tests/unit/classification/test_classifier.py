"""Ordered rules over evidence: the first that holds names the class."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.classification.classifier import NO_RULE, Classifier, Verdict
from mailshed.config.policy import Rule
from mailshed.mail.header import HeaderView
from tests.support.builders import (
    BULK,
    CLINICAL,
    PERSONAL,
    TELEWORK,
    classification_policy,
    client,
    envelope,
    rule,
    wire,
)

NO_HEADER = HeaderView(b"\r\n")
BY_LIST = rule("list", BULK, headers=(("list-id", ()),))
BY_NETWORK = rule("ward", CLINICAL, client_networks=["10.1.0.0/16"])
BY_SENDER = rule("lab", CLINICAL, sender_domains=(".lab.example",))


def classify(*rules: Rule, head: HeaderView = NO_HEADER, **changes: object) -> Verdict:
    classifier = Classifier(classification_policy(*rules))
    return classifier.classify(envelope(**changes), head)  # type: ignore[arg-type]


def test_mail_that_no_rule_names_is_of_the_default_class() -> None:
    assert classify() == Verdict(PERSONAL, NO_RULE)
    assert classify(BY_LIST, BY_NETWORK, BY_SENDER) == Verdict(PERSONAL, NO_RULE)


def test_the_rule_that_holds_names_the_class_and_is_named() -> None:
    head = HeaderView(wire(List_Id="<news.example.org>"))
    assert classify(BY_NETWORK, BY_LIST, head=head) == Verdict(BULK, "list")


def test_the_first_rule_wins() -> None:
    head = HeaderView(wire(List_Id="<alarms.lab.example>"))
    sender = "system@mail.lab.example"
    assert classify(BY_SENDER, BY_LIST, head=head, sender=sender).rule == "lab"
    assert classify(BY_LIST, BY_SENDER, head=head, sender=sender).rule == "list"


@pytest.mark.parametrize(
    ("address", "sender", "holds"),
    [
        ("10.1.2.3", "a@x.lab.example", True),
        ("10.2.2.3", "a@x.lab.example", False),
        ("10.1.2.3", "a@other.example", False),
    ],
)
def test_all_conditions_of_a_rule_must_hold(address: str, sender: str, holds: bool) -> None:
    both = rule("both", TELEWORK, client_networks=["10.1.0.0/16"], sender_domains=(".lab.example",))
    verdict = classify(both, sender=sender, client=client(address))
    assert verdict.rule == ("both" if holds else NO_RULE)


def test_a_rule_without_conditions_holds_always() -> None:
    """The schema refuses to read one; here it means what 'all of its conditions' says."""
    assert classify(rule("everything", TELEWORK)) == Verdict(TELEWORK, "everything")


def test_the_policy_can_be_asked_for() -> None:
    policy = classification_policy(BY_LIST)
    assert Classifier(policy).policy is policy


ALL_RULES = (BY_NETWORK, BY_SENDER, BY_LIST, rule("all", BULK, headers=(("x", ("y", "z")),)))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_header_can_be_classified(head: bytes) -> None:
    verdict = classify(*ALL_RULES, head=HeaderView(head))
    assert verdict.rule in {each.name for each in ALL_RULES} | {NO_RULE}


@pytest.mark.parametrize(
    "bomb",
    [
        b"X: a\r\n" * 1_000_000,
        b"X: " + b"y" * 10_000_000,
        b"X: " + b";, " * 3_000_000,
        b"X: a" + b"\r\n b" * 1_000_000,
        b"List-Id" + b" " * 1_000_000 + b": x\r\n",
    ],
    ids=range(5),
)
def test_a_header_bomb_is_classified_in_milliseconds(bomb: bytes) -> None:
    classifier = Classifier(classification_policy(*ALL_RULES))
    made = envelope(*(f"r{number}@example.net" for number in range(100)))

    def take() -> float:
        started = time.perf_counter()
        classifier.classify(made, HeaderView(bomb))
        return time.perf_counter() - started

    assert min(take() for _ in range(3)) < 0.01
