"""The last decisions, kept for whoever asks why."""

from mailshed.classification.classifier import Classifier
from mailshed.classification.decisions import DecisionRing
from mailshed.classification.subject import subject_of
from mailshed.mail.envelope import Envelope
from mailshed.mail.header import HeaderView
from mailshed.terms import Reason
from tests.support.builders import classification_policy, envelope, rule, wire

CLASSIFIER = Classifier(classification_policy(rule("lists", headers=(("list-*", ()), ("x", ())))))
HEAD = wire(List_Id="<a.example>", X="1", Y="2")


def add(ring: DecisionRing, made: Envelope, head: bytes = HEAD) -> str:
    one = subject_of(made, HeaderView(head), size=77)
    ring.add(CLASSIFIER, one, made, CLASSIFIER.classify(one))
    return made.queue_id


def test_keeps_what_the_class_was_decided_from() -> None:
    ring, made = DecisionRing(), envelope()
    decision = ring.get(add(ring, made))
    assert decision is not None
    assert decision.envelope is made
    assert decision.verdict.rule == "lists"
    assert decision.classifier.classify(decision.subject) == decision.verdict
    assert (decision.subject.size, decision.action) == (77, "")


def test_keeps_of_the_header_only_what_rules_ask_for() -> None:
    """A subject may name a patient, and nobody asks for it."""
    ring = DecisionRing()
    decision = ring.get(add(ring, envelope()))
    assert decision is not None
    header = decision.subject.header
    assert ("list-id" in header, "x" in header) == (True, True)
    assert ("y" in header, "subject" in header, "from" in header) == (False, False, False)


def test_what_became_of_it_is_noted_once() -> None:
    ring = DecisionRing()
    queue_id = add(ring, envelope())
    ring.end(queue_id, "spooled", Reason.SATURATED, "250 2.0.0 Ok")
    ring.end(queue_id, "delivered", Reason.ROOM, "250 other")
    decision = ring.get(queue_id)
    assert decision is not None
    found = (decision.action, decision.reason, decision.reply)
    assert found == ("spooled", Reason.SATURATED, "250 2.0.0 Ok")


def test_the_end_of_what_nobody_knows_is_ignored() -> None:
    ring = DecisionRing()
    ring.end("NOBODY", "spooled", None, "")
    assert ring.get("NOBODY") is None
    assert len(ring) == 0


def test_the_oldest_is_forgotten_first() -> None:
    ring = DecisionRing(decisions_max=2)
    ids = [add(ring, envelope()) for _ in range(3)]
    assert [ring.get(each) is not None for each in ids] == [False, True, True]
    assert len(ring) == 2


def test_a_message_with_many_recipients_counts_for_many() -> None:
    ring = DecisionRing(decisions_max=100, recipients_max=10)
    small = [add(ring, envelope()) for _ in range(9)]
    large = add(ring, envelope(*(f"r{number}@example.net" for number in range(8))))
    assert [ring.get(each) is not None for each in small] == [False] * 7 + [True] * 2
    assert ring.get(large) is not None
    huge = add(ring, envelope(*(f"r{number}@example.net" for number in range(50))))
    assert ring.get(huge) is not None, "the last one is always kept"
    assert len(ring) == 1
    add(ring, envelope())
    assert len(ring) == 1, "and does not keep others out"


def test_an_id_that_comes_again_counts_once() -> None:
    ring, made = DecisionRing(recipients_max=3), envelope()
    for _ in range(10):
        add(ring, made)
    add(ring, envelope())
    assert len(ring) == 2


def test_a_header_of_any_size_is_kept_in_a_few_kilobytes() -> None:
    ring = DecisionRing()
    bomb = b"".join(b"List-%d: %s\r\n" % (number, b"x" * 500) for number in range(100)) + b"\r\n"
    decision = ring.get(add(ring, envelope(), bomb))
    assert decision is not None
    kept = decision.subject.header.keys_with(b"list-")
    assert 0 < len(kept) < 10
