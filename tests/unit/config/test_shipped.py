"""The shipped policy."""

import os
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.classification.classifier import Classifier
from mailshed.classification.subject import Known, Subject
from mailshed.config import shipped
from mailshed.config.classes import classification_policy
from mailshed.config.policy import Rule, SenderRate
from mailshed.config.shipped import policy_folder, shipped_configuration, shipped_policy
from mailshed.errors import ConfigError
from mailshed.mail.envelope import Client, Recipient
from mailshed.mail.header import HeaderView
from mailshed.terms import TrafficClass
from tests.support.builders import client, mailbox, rule

MIXES = int(os.environ.get("CLINICAL_MIXES", "500"))
"""How many mixes are generated; `CLINICAL_MIXES=100000` takes some minutes."""


def test_is_read_from_the_file_that_people_read() -> None:
    rules, origins = shipped_policy()
    lines = (policy_folder() / shipped.NAME).read_text().splitlines()
    assert len(rules) == len(origins) > 5
    for each, origin in zip(rules, origins, strict=True):
        name, _, number = origin.partition(":")
        assert name == "default.yaml"
        assert lines[int(number) - 1].strip() == f"- name: {each.name}"


def test_clinical_comes_before_everything_and_bulk_by_behaviour_last() -> None:
    """'Automatic means bulk' must not be said before the clinical rules had their say."""
    names = [rule.traffic_class for rule in shipped_policy()[0]]
    clinical = names.count("clinical")
    assert clinical > 0
    assert names[:clinical] == ["clinical"] * clinical
    assert shipped_policy()[0][-1].sender_rate is not None


def test_nothing_raises_a_message_of_a_stranger() -> None:
    """What is ranked before the default class asks for a trusted client."""
    config = shipped_configuration()
    ranks = {each.name: each.rank for each in config.classes}
    default = ranks[config.classification.default]
    raised = [rule for rule in shipped_policy()[0] if ranks[rule.traffic_class] <= default]
    assert raised
    assert all(rule.trusted is True for rule in raised)


def test_every_class_that_it_names_is_a_shipped_one() -> None:
    made = classification_policy(shipped_configuration())
    assert len(made.rules) == len(shipped_policy()[0])


def test_every_rule_is_explained() -> None:
    """A sysadmin reads the file as documentation: a comment stands before each rule."""
    lines = (policy_folder() / shipped.NAME).read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"  - name: ", line):
            assert lines[number - 1].startswith("  #"), line


def test_a_package_without_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(shipped, "policy_folder", lambda: tmp_path)
    with pytest.raises(ConfigError, match=r"default\.yaml: error: cannot be read"):
        shipped_policy.__wrapped__()


# Clinical mail against everything that says 'automatic', 'bulk' or 'can wait', all at once.

SHIPPED = classification_policy(shipped_configuration())
BY_NAME = {each.name: each for each in SHIPPED.classes}
LAB = "10.20.8.7"
CLINICAL_OF_THE_SITE = (
    rule("lab", BY_NAME["clinical"], client_networks=["10.20.8.0/24"]),
    rule("ward", BY_NAME["clinical"], senders=("@ward.example", "monitor-*@his.example")),
    rule("alarm", BY_NAME["clinical"], trusted=True, headers=(("x-alarm", ("red", "crit*")),)),
)

noise = st.lists(
    st.sampled_from(
        [
            *("List-Id: <a.b.example>", "List-Unsubscribe: <https://a.example/u>", "List-Post: NO"),
            *("Precedence: bulk", "Precedence: junk", "PRECEDENCE:\tlist", "Feedback-ID: a:b:c:d"),
            *("Auto-Submitted: auto-generated", "Auto-Submitted: auto-replied; x=y"),
            *("Content-Type: text/calendar; method=REQUEST", "Importance: low", "X-Priority: 5"),
            *("Content-Type: multipart/report; report-type=delivery-status", "X-Campaign-Id: 7"),
            *(
                "Content-Class: urn:content-classes:calendarmessage",
                "X-Auto-Response-Suppress: All",
            ),
        ]
    ),
    max_size=8,
)
strange_rules = st.lists(
    st.builds(
        lambda names, asked: rule("other", BY_NAME[names], **asked),
        st.sampled_from(["bulk", "telework", "application", "personal"]),
        st.sampled_from(
            [
                {"headers": (("list-*", ()),)},
                {"headers": (("auto-submitted", ("auto-*",)), ("precedence", ("bulk",)))},
                {"null_sender": True},
                {"null_sender": False},
                {"size_min": 1},
                {"recipients_min": 2},
                {"senders": ("*",)},
                {"client_networks": ["0.0.0.0/0"]},
                {"priority_max": 9},
                {"sender_rate": SenderRate(recipients=1, messages=1, within=600.0)},
            ]
        ),
    ),
    max_size=4,
).map(tuple)
# Why a message is clinical: what it needs to be so, by one of the shipped rules or of the site's.
reasons = st.sampled_from(
    [
        ("mss-sender", {"sender": "labo@biologie.mssante.fr", "is_trusted": True}),
        ("mss-operator", {"sender": "x@mssante.fr", "is_trusted": True}),
        ("mss-document", {"field": "X-MSS-CODECDA: 34112-3", "is_trusted": True}),
        ("mss-product", {"field": "x-mss-nil: Product", "is_trusted": True}),
        ("lab", {"address": LAB}),
        ("ward", {"sender": "Anyone@WARD.example"}),
        ("monitor", {"sender": "monitor-7@his.example"}),
        ("alarm", {"field": "X-Alarm: critical; level=9", "is_trusted": True}),
    ]
)


def clinical_message(
    asked: dict[str, object],
    lines: list[str],
    place: int,
    client_of_any: Client,
    others: tuple[list[str], int, int | None],
) -> Subject:
    to, sent, priority = others
    lines = list(lines)
    if "field" in asked:
        lines.insert(place % (len(lines) + 1), str(asked["field"]))
    made = client_of_any
    if "address" in asked:
        made = client(str(asked["address"]), is_trusted=made.is_trusted, user=made.user)
    if asked.get("is_trusted"):
        made = replace(made, is_trusted=True)
    sender = asked.get("sender", "bounce+x@news.example" if place % 2 else None)
    return Subject(
        client=made,
        reverse_path=None if sender is None else mailbox(str(sender)),
        recipients=tuple(Recipient(mailbox=mailbox(each)) for each in to),
        priority=priority,
        header=HeaderView(("\r\n".join(lines) + "\r\n\r\n").encode()),
        size=100 + place,
        sent=((600.0, sent, sent * 3),),
    )


clinical_messages = st.builds(
    clinical_message,
    reasons.map(lambda pair: pair[1]),
    noise,
    st.integers(0, 9),
    st.builds(
        lambda address, is_trusted, user: client(address, is_trusted=is_trusted, user=user),
        st.sampled_from(["192.0.2.1", "10.9.9.9", "2001:db8::1"]),
        st.booleans(),
        st.sampled_from(["", "svc"]),
    ),
    st.tuples(
        st.lists(
            st.sampled_from(["a@hospital.example", "all@lists.hospital.example"]),
            min_size=1,
            max_size=9,
        ),
        st.sampled_from([1, 50, 5000]),
        st.sampled_from([None, -9, 0, 9]),
    ),
)


@settings(deadline=None, max_examples=MIXES)
@given(clinical_messages, strange_rules)
def test_clinical_rules_beat_everything(message: Subject, others: tuple[Rule, ...]) -> None:
    """Whatever else the message says of itself, and whatever rules come behind."""
    policy = replace(
        SHIPPED, rules=(*CLINICAL_OF_THE_SITE, *SHIPPED.rules[:2], *others, *SHIPPED.rules[2:])
    )
    classifier = Classifier(policy)
    assert classifier.classify(message).traffic_class.name == "clinical"
    assert "clinical" in {each.name for each in reachable_on_the_way(classifier, message)}


def reachable_on_the_way(classifier: Classifier, message: Subject) -> list[TrafficClass]:
    """The best class that was left at every step: clinical, or it got an early 4xx."""
    best = []
    for known in Known:
        made = Subject(client=message.client, known=known)
        if known >= Known.MAIL:
            made.reverse_path, made.priority = message.reverse_path, message.priority
        if known is Known.RCPT:
            made.recipients = message.recipients[:1]
        if known >= Known.ENVELOPE:
            made.recipients = message.recipients
        best.append(classifier.reachable(message if known is Known.CONTENT else made)[0])
    assert {each.rank for each in best} == {0}
    return best
