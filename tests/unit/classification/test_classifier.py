"""Ordered rules over evidence: the first that holds names the class."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.classification.classifier import NO_RULE, Classifier, Verdict
from mailshed.classification.subject import Known, Subject, subject_of
from mailshed.config.policy import Rule, SenderRate
from mailshed.mail.envelope import Recipient
from mailshed.mail.header import HeaderView
from tests.support.builders import (
    BULK,
    CLINICAL,
    PERSONAL,
    TELEWORK,
    classification_policy,
    client,
    envelope,
    mailbox,
    rule,
    subject,
    wire,
)

NO_HEADER = HeaderView(b"\r\n")
BY_LIST = rule("list", BULK, headers=(("list-id", ()),))
BY_NETWORK = rule("ward", CLINICAL, client_networks=["10.1.0.0/16"])
BY_SENDER = rule("lab", CLINICAL, sender_domains=(".lab.example",))


def classify(*rules: Rule, head: HeaderView = NO_HEADER, **changes: object) -> Verdict:
    classifier = Classifier(classification_policy(*rules))
    made = envelope(**changes)  # type: ignore[arg-type]
    return classifier.classify(subject_of(made, head))


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
        classifier.classify(subject_of(made, HeaderView(bomb)))
        return time.perf_counter() - started

    assert min(take() for _ in range(3)) < 0.01


def test_says_which_windows_have_to_be_counted() -> None:
    def by_rate(within: float) -> Rule:
        rate = SenderRate(recipients=1, messages=1, within=within)
        return rule(f"rate-{within:g}", sender_rate=rate)

    policy = classification_policy(by_rate(60.0), by_rate(600.0), by_rate(60.0), BY_LIST)
    assert Classifier(policy).windows == (60.0, 600.0)
    assert Classifier(classification_policy(BY_LIST)).windows == ()


def test_an_excerpt_of_a_header_is_classified_like_the_whole() -> None:
    classifier = Classifier(
        classification_policy(rule("l", headers=(("list-*", ("no",)),)), BY_LIST)
    )
    whole = HeaderView(wire(List_Post="NO", X="y"))
    excerpt = classifier.excerpt(whole)
    assert classifier.classify(subject(header=excerpt)) == classifier.classify(
        subject(header=whole)
    )
    assert "x" not in excerpt


# What may still become of a message.


def test_before_anything_is_known_all_that_no_network_rules_out_can_be_reached() -> None:
    classifier = Classifier(classification_policy(BY_NETWORK, BY_SENDER, BY_LIST))
    inside = subject(client=client("10.1.2.3"), known=Known.CLIENT)
    outside = subject(known=Known.CLIENT)
    assert classifier.reachable(inside) == (CLINICAL,), "the first rule holds already"
    assert classifier.reachable(outside) == (CLINICAL, PERSONAL, BULK)


def test_what_the_sender_rules_out_is_out_at_mail() -> None:
    classifier = Classifier(classification_policy(BY_SENDER, BY_LIST))
    assert classifier.reachable(subject(known=Known.MAIL)) == (PERSONAL, BULK)
    lab = subject(sender="x@a.lab.example", known=Known.MAIL)
    assert classifier.reachable(lab) == (CLINICAL,)


def test_rules_after_one_that_holds_are_not_reached() -> None:
    anyone = rule("anyone", TELEWORK, null_sender=False)
    classifier = Classifier(classification_policy(BY_LIST, anyone, BY_NETWORK))
    one = subject(client=client("10.1.2.3"), known=Known.MAIL)
    assert classifier.reachable(one) == (TELEWORK, BULK)


def test_at_the_end_there_is_one_class() -> None:
    classifier = Classifier(classification_policy(BY_NETWORK, BY_SENDER, BY_LIST))
    for head in (b"\r\n", b"List-Id: x\r\n\r\n"):
        one = subject(head=head)
        assert classifier.reachable(one) == (classifier.classify(one).traffic_class,)


addresses = st.sampled_from(
    ["a@lab.example", "x@mail.lab.example", "n-list@news.example", "b@example.org"]
)
conditions = st.fixed_dictionaries(
    {},
    optional={
        "client_networks": st.sampled_from([["10.1.0.0/16"], ["192.0.2.0/24"]]),
        "not_client_networks": st.sampled_from([["10.1.0.0/16"], ["192.0.2.0/24"]]),
        "listeners": st.sampled_from([("smtp",), ("devices",)]),
        "trusted": st.booleans(),
        "users": st.sampled_from([("alice",), ("*",)]),
        "priority_min": st.integers(-2, 4),
        "senders": st.sampled_from([("*-list@*",), ("b@example.org",), ()]),
        "sender_domains": st.sampled_from([("lab.example",), (".lab.example",)]),
        "null_sender": st.booleans(),
        "recipients": st.sampled_from([("n-list@*",), ("@lab.example",)]),
        "recipient_domains": st.sampled_from([("lab.example",), ("example.org",)]),
        "recipients_min": st.integers(1, 4),
        "recipients_max": st.integers(1, 4),
        "size_min": st.sampled_from([1, 1000]),
        "headers": st.sampled_from([(("list-*", ()),), (("precedence", ("bulk",)),)]),
        "sender_rate": st.just(SenderRate(recipients=3, messages=2, within=60.0)),
    },
)
rules = st.lists(st.tuples(st.sampled_from([CLINICAL, PERSONAL, TELEWORK, BULK]), conditions))
clients = st.builds(
    lambda address, is_trusted, user, listener: client(
        address, is_trusted=is_trusted, user=user, listener=listener
    ),
    st.sampled_from(["10.1.2.3", "192.0.2.1"]),
    st.booleans(),
    st.sampled_from(["", "alice", "bob"]),
    st.sampled_from(["smtp", "devices"]),
)
heads = st.lists(
    st.sampled_from([b"List-Id: a\r\n", b"Precedence: bulk\r\n", b"Auto-Submitted: no\r\n"]),
    max_size=3,
).map(lambda lines: HeaderView(b"".join(lines) + b"\r\n"))
messages = st.builds(
    Subject,
    client=clients,
    reverse_path=st.none() | addresses.map(mailbox),
    recipients=st.lists(
        addresses.map(lambda each: Recipient(mailbox=mailbox(each))), min_size=1, max_size=5
    ).map(tuple),
    priority=st.none() | st.integers(-9, 9),
    header=heads,
    size=st.integers(0, 2000),
    sent=st.sampled_from([(), ((60.0, 5, 5),), ((60.0, 1, 9),)]),
)


def seen_so_far(message: Subject, known: Known, recipients: int) -> Subject:
    """What is there of the message at that step; a client may still authenticate at the first."""
    made = Subject(client=message.client, known=known)
    if known is Known.CLIENT and message.client.user:
        before = {"user": "", "is_trusted": False}
        made.client = client(
            message.client.address_text, listener=message.client.listener, **before
        )
    if known >= Known.MAIL:
        made.reverse_path, made.priority = message.reverse_path, message.priority
    if known is Known.RCPT:
        made.recipients = message.recipients[:recipients]
    if known >= Known.ENVELOPE:
        made.recipients = message.recipients
    return message if known is Known.CONTENT else made


@settings(deadline=None, max_examples=400)
@given(rules, messages, st.integers(0, 5))
def test_the_final_class_could_always_be_reached(
    drawn: list[tuple[object, dict[str, object]]], message: Subject, recipients: int
) -> None:
    """So nobody is told at MAIL what the message, once complete, would not have been told."""
    made = [
        rule(f"r{index}", names, **asked)  # type: ignore[arg-type]
        for index, (names, asked) in enumerate(drawn)
    ]
    classifier = Classifier(classification_policy(*made))
    final = classifier.classify(message).traffic_class
    before: tuple[object, ...] | None = None
    for known in Known:
        reachable = classifier.reachable(seen_so_far(message, known, recipients))
        assert final in reachable
        assert [each.rank for each in reachable] == sorted(each.rank for each in reachable)
        assert before is None or set(map(id, reachable)) <= set(map(id, before)), "classes only go"
        before = reachable
    assert before == (final,)
