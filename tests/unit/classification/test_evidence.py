"""What holds for every kind of evidence, those to come included."""

from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.classification.evidence import EVIDENCE
from mailshed.classification.subject import Known, early_answer
from mailshed.config.policy import SenderRate
from tests.support.builders import rule, subject

EVERYTHING = rule(
    client_networks=["10.0.0.0/8"],
    not_client_networks=["10.1.0.0/16"],
    listeners=("smtp",),
    trusted=True,
    users=("alice",),
    priority_min=1,
    senders=("a@a.example",),
    sender_domains=("a.example",),
    null_sender=True,
    recipients=("b@b.example",),
    recipient_domains=("b.example",),
    recipients_min=2,
    recipients_max=3,
    size_min=1,
    headers=(("x", ()), ("y", ("z*",))),
    sender_rate=SenderRate(recipients=1, messages=1, within=60.0),
)

every_kind = pytest.mark.parametrize("evidence", EVIDENCE, ids=lambda module: module.__name__)


@every_kind
def test_each_kind_answers_for_its_part_of_a_rule(evidence: ModuleType) -> None:
    """Nothing for a rule that asks nothing of it, else answers with their reasons."""
    assert list(evidence.conditions(rule())) == []
    conditions = list(evidence.conditions(EVERYTHING))
    assert conditions
    for condition in conditions:
        for sender in ("a@a.example", None):
            for head in (b"", b"X: y\r\n\r\n", b"\x00\xff"):
                one = subject(sender=sender, head=head)
                assert isinstance(condition.holds(one), bool)
                words = condition.why(one)
                assert words
                assert words.isprintable()


@every_kind
@settings(deadline=None)
@given(known=st.sampled_from(Known), count=st.integers(0, 4))
def test_an_early_answer_is_the_final_one(evidence: ModuleType, known: Known, count: int) -> None:
    """Whatever the client sends after `known`; before the header nothing of it is used."""
    to = [f"b@{'b' if number % 2 else 'c'}.example" for number in range(4)]
    so_far = count if known is Known.RCPT else (0 if known < Known.RCPT else 4)
    final = subject(*to, head=b"X: y\r\n\r\n")
    for condition in evidence.conditions(EVERYTHING):
        early = subject(recipients=final.recipients[:so_far], known=known)
        if known is Known.CONTENT:
            early = final
        assert early_answer(condition, early) in (None, condition.holds(final))


def test_the_cheapest_and_earliest_comes_first() -> None:
    """The client is known at connect, the envelope before the data, the header with it."""
    names = [module.__name__.rpartition(".")[2] for module in EVIDENCE]
    assert names == ["client", "session", "priority", "envelope", "content", "header", "history"]
