"""Why a message is of its class, rule by rule."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.classification.classifier import Classifier
from mailshed.classification.explanation import RECIPIENTS_SHOWN, explain
from tests.support.builders import (
    BULK,
    CLINICAL,
    PERSONAL,
    TELEWORK,
    classification_policy,
    rule,
    subject,
)

RULES = (
    rule(
        "lab",
        CLINICAL,
        client_networks=["10.20.8.0/24"],
        client_network_names=("laboratory",),
        sender_domains=("lab.example",),
        origin="mailshed.yaml:44",
    ),
    rule("lists", BULK, headers=(("list-id", ()), ("precedence", ("bulk",)))),
    rule("remote", TELEWORK, sender_domains=("example.org",), headers=(("x", ()),)),
)
CLASSIFIER = Classifier(classification_policy(*RULES))


def test_says_of_each_rule_whether_it_matches_and_why() -> None:
    document = explain(CLASSIFIER, subject(head=b"Precedence: bulk\r\n\r\n"))
    assert (document["class"], document["rule"], document["rules_not_tried"]) == (
        "bulk",
        "lists",
        1,
    )
    lab, lists = document["rules"]
    assert lab == {
        "rule": "lab",
        "origin": "mailshed.yaml:44",
        "class": "clinical",
        "matched": False,
        "why": ["client 192.0.2.1 is not in laboratory (10.20.8.0/24)"],
    }
    assert (lists["matched"], lists["why"]) == (True, ['precedence is "bulk", which is bulk'])


def test_a_rule_that_fails_says_the_first_condition_that_does() -> None:
    document = explain(CLASSIFIER, subject(head=b"\r\n"))
    assert document["rules"][-1]["why"] == ["no x"]


def test_a_rule_that_matches_says_all_its_conditions() -> None:
    document = explain(CLASSIFIER, subject(head=b"X: 1\r\n\r\n"))
    assert document["rules"][-1]["why"] == [
        "sender domain example.org is in example.org",
        "x is there",
    ]
    assert document["class"] == "telework"


def test_without_a_rule_it_is_the_default() -> None:
    document = explain(CLASSIFIER, subject())
    assert (document["class"], document["rule"], document["origin"]) == (
        PERSONAL.name,
        "default",
        "",
    )
    assert [entry["matched"] for entry in document["rules"]] == [False] * 3


def test_says_what_the_rules_saw_and_masks_patients() -> None:
    patient = "189027512345678@patient.mssante.fr"
    to = [patient, *(f"r{number}@example.net" for number in range(20))]
    document = explain(CLASSIFIER, subject(*to, sender=patient, priority=4, size=9))
    message = document["message"]
    assert message["sender"] == message["recipients"][0] == "***@patient.mssante.fr"
    assert (len(message["recipients"]), message["recipient_count"]) == (RECIPIENTS_SHOWN, 21)
    assert (message["size"], message["priority"], message["client"]) == (9, 4, "192.0.2.1")
    assert "189027512345678" not in json.dumps(document)


heads = st.lists(
    st.sampled_from(
        [b"List-Id: a\r\n", b"Precedence: bulk\r\n", b"X: 1\r\n", b"Precedence: no\r\n"]
    )
).map(lambda lines: b"".join(lines) + b"\r\n")
senders = st.sampled_from(["a@lab.example", "a@example.org", None])


@settings(deadline=None)
@given(heads, senders)
def test_says_the_same_class_as_the_classifier(head: bytes, sender: str | None) -> None:
    one = subject(head=head, sender=sender)
    document, verdict = explain(CLASSIFIER, one), CLASSIFIER.classify(one)
    assert (document["class"], document["rule"]) == (verdict.traffic_class.name, verdict.rule)
    json.dumps(document)
