"""Evidence of the reverse-path and the forward-paths."""

import pytest

from mailshed.classification.evidence.envelope import compile_condition
from mailshed.classification.subject import Subject
from mailshed.mail.envelope import Envelope
from mailshed.mail.header import HeaderView
from tests.support.builders import BULK, envelope, rule


def holds(made: Envelope, **conditions: tuple[str, ...]) -> bool:
    condition = compile_condition(rule("domains", BULK, **conditions))
    assert condition is not None
    return condition(Subject(made, HeaderView(b"")))


@pytest.mark.parametrize(
    ("sender", "is_in"),
    [
        ("a@lab.example", True),
        ("a@LAB.Example", True),
        ("a@x.ward.example", True),
        ("a@ward.example", False),
        ("a@other.example", False),
        (None, False),
    ],
)
def test_holds_for_senders_of_the_domains(sender: str | None, is_in: bool) -> None:
    """The null reverse-path has no domain, so it is of none."""
    made = envelope(sender=sender)
    assert holds(made, sender_domains=("lab.example", ".ward.example")) is is_in


@pytest.mark.parametrize(
    ("to", "is_in"),
    [
        (["a@lab.example"], True),
        (["x@other.example", "a@lab.example"], True),
        (["x@other.example", "y@else.example"], False),
    ],
)
def test_any_recipient_of_the_domains_will_do(to: list[str], is_in: bool) -> None:
    assert holds(envelope(*to), recipient_domains=("lab.example",)) is is_in


@pytest.mark.parametrize(
    ("sender", "to", "both"),
    [
        ("a@s.example", "b@r.example", True),
        ("a@s.example", "b@x.example", False),
        ("a@x.example", "b@r.example", False),
    ],
)
def test_asked_for_both_it_wants_both(sender: str, to: str, both: bool) -> None:
    made = envelope(to, sender=sender)
    conditions = {"sender_domains": ("s.example",), "recipient_domains": ("r.example",)}
    assert holds(made, **conditions) is both


def test_a_rule_without_domains_does_not_ask() -> None:
    assert compile_condition(rule(headers=(("x", ()),))) is None
