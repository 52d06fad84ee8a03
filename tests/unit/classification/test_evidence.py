"""What holds for every kind of evidence, those to come included."""

from types import ModuleType

import pytest

from mailshed.classification.evidence import EVIDENCE
from mailshed.classification.subject import Subject
from mailshed.mail.header import HeaderView
from tests.support.builders import envelope, rule

EVERYTHING = rule(
    client_networks=["10.0.0.0/8"],
    sender_domains=("a.example",),
    recipient_domains=("b.example",),
    headers=(("x", ()),),
)


@pytest.mark.parametrize("evidence", EVIDENCE, ids=lambda module: module.__name__)
def test_each_kind_answers_for_its_part_of_a_rule(evidence: ModuleType) -> None:
    """None for a rule that asks nothing of it, else a function that answers and does not raise."""
    assert evidence.compile_condition(rule()) is None
    condition = evidence.compile_condition(EVERYTHING)
    for sender in ("a@a.example", None):
        for head in (b"", b"X: y\r\n\r\n", b"\x00\xff"):
            answer = condition(Subject(envelope(sender=sender), HeaderView(head)))
            assert isinstance(answer, bool)


def test_the_cheapest_and_earliest_comes_first() -> None:
    """The client is known at connect, the envelope before the data, the header with it."""
    names = [module.__name__.rpartition(".")[2] for module in EVIDENCE]
    assert names == ["client", "envelope", "header"]
