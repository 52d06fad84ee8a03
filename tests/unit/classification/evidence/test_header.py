"""Evidence of the header section."""

import pytest

from mailshed.classification.evidence.header import conditions
from mailshed.classification.subject import Condition, Known
from tests.support.builders import rule, subject


def only(*fields: tuple[str, tuple[str, ...]]) -> Condition:
    (condition,) = conditions(rule(headers=fields))
    return condition


def holds(head: bytes, *fields: tuple[str, tuple[str, ...]]) -> bool:
    return only(*fields).holds(subject(head=head))


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


@pytest.mark.parametrize(
    ("value", "pattern", "matches"),
    [
        (b"auto-replied; x=y", "auto-*", True),
        (b"no", "auto-*", False),
        (b"Foo <talk.lists.example.org>", "*<talk.*", True),
        (b"Foo <shout.lists.example.org>", "*<talk.*", False),
        (b"ab", "a?", True),
        (b"abc", "a?", False),
    ],
)
def test_a_value_with_a_wildcard_is_compared_with_the_whole(
    value: bytes, pattern: str, matches: bool
) -> None:
    assert holds(b"X: " + value + b"\r\n\r\n", ("x", (pattern,))) is matches


def test_a_name_that_ends_in_a_star_stands_for_all_that_begin_like_it() -> None:
    assert holds(b"List-Archive: y\r\n\r\n", ("list-*", ()))
    assert not holds(b"X-List-Archive: y\r\nList: y\r\n\r\n", ("list-*", ()))
    head = b"List-Id: a\r\nList-Post: NO\r\n\r\n"
    assert holds(head, ("list-*", ("no",)))
    assert not holds(head, ("list-*", ("yes",)))


def test_is_known_with_the_content() -> None:
    assert only(("x", ())).known_at is Known.CONTENT


@pytest.mark.parametrize(
    ("head", "fields", "words"),
    [
        (b"\r\n", [("list-id", ()), ("x", ("a",))], "no list-id, x"),
        (b"List-Id: <a.example>\r\n\r\n", [("list-id", ())], 'list-id is "<a.example>"'),
        (b"List-Post: NO\r\n\r\n", [("list-*", ())], 'list-post is "NO"'),
        (
            b"Precedence: first-class\r\n\r\n",
            [("list-*", ()), ("precedence", ("bulk", "list"))],
            'no list-*; precedence is "first-class", not bulk, list',
        ),
        (
            b"Precedence: bulk\r\n\r\n",
            [("precedence", ("bulk", "l*"))],
            'precedence is "bulk", which is bulk, l*',
        ),
        (b"X-Priority: \x1b[2J\r\n\r\n", [("x-priority", ())], 'x-priority is "?[2J"'),
        (b"List-Id: " + b"x" * 99 + b"\r\n\r\n", [("list-id", ())], f'list-id is "{"x" * 57}..."'),
    ],
)
def test_says_what_is_there(
    head: bytes, fields: list[tuple[str, tuple[str, ...]]], words: str
) -> None:
    assert only(*fields).why(subject(head=head)) == words


def test_does_not_show_what_people_write() -> None:
    """The subject of a medical document is the patient's name and date of birth."""
    head = b"Subject: XDM/1.0/DDM+Result DOE Jane 01/02/1950\r\nTo: jane@example.org\r\n\r\n"
    found = only(("subject", ("xdm/1.0/ddm*",))).why(subject(head=head))
    assert found == "subject is there, which is xdm/1.0/ddm*"
    assert only(("to", ())).why(subject(head=head)) == "to is there"


def test_a_rule_without_fields_does_not_ask() -> None:
    assert list(conditions(rule(sender_domains=("example.org",)))) == []
