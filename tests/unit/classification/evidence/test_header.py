"""Evidence of the header section."""

import pytest

from mailshed.classification.evidence.header import compile_condition
from mailshed.classification.subject import Subject
from mailshed.mail.header import HeaderView
from tests.support.builders import envelope, rule


def holds(head: bytes, *fields: tuple[str, tuple[str, ...]]) -> bool:
    condition = compile_condition(rule(headers=fields))
    assert condition is not None
    return condition(Subject(envelope(), HeaderView(head)))


@pytest.mark.parametrize(
    ("head", "is_there"),
    [
        (b"List-Id: <news.example>\r\n\r\n", True),
        (b"LIST-ID:\r\n\r\n", True),
        (b"List-Identity: x\r\n\r\n", False),
        (b"Subject: List-Id: x\r\n\r\n", False),
        (b"Subject: x\r\n\r\nList-Id: in the body\r\n", False),
        (b"", False),
    ],
)
def test_a_field_without_values_holds_by_its_presence(head: bytes, is_there: bool) -> None:
    assert holds(head, ("list-id", ())) is is_there


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        (b"bulk", True),
        (b" BULK ", True),
        (b"junk", True),
        (b"bulk; because", True),
        (b"bulk, list", True),
        (b"bulk (comment)", True),
        (b"\r\n bulk", True),
        (b"bulky", False),
        (b"no bulk", False),
        (b"", False),
        (b" ; ,", False),
        (b"\xe9", False),
    ],
)
def test_a_value_is_compared_by_its_first_word(value: bytes, matches: bool) -> None:
    head = b"Precedence:" + value + b"\r\n\r\n"
    assert holds(head, ("precedence", ("bulk", "junk"))) is matches


def test_any_of_several_fields_of_one_name_will_do() -> None:
    head = b"Precedence: first-class\r\nPrecedence: bulk\r\n\r\n"
    assert holds(head, ("precedence", ("bulk",)))


def test_any_of_the_rules_fields_will_do() -> None:
    fields = (("list-id", ()), ("precedence", ("bulk",)))
    assert holds(b"Precedence: bulk\r\n\r\n", *fields)
    assert holds(b"List-Id: x\r\nPrecedence: urgent\r\n\r\n", *fields)
    assert not holds(b"Precedence: urgent\r\n\r\n", *fields)


def test_a_rule_without_fields_does_not_ask() -> None:
    assert compile_condition(rule(sender_domains=("example.org",))) is None
