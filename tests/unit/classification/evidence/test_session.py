"""Evidence of the session."""

from typing import Any

import pytest

from mailshed.classification.evidence.session import conditions
from mailshed.classification.subject import Condition, Known
from tests.support.builders import client, rule, subject


def only(**asked: Any) -> Condition:
    (condition,) = conditions(rule(**asked))
    return condition


def test_the_listener_is_one_of_those_named() -> None:
    condition = only(listeners=("devices", "smtp"))
    assert condition.holds(subject())
    assert condition.why(subject()) == "listener smtp is devices, smtp"
    other = subject(client=client(listener="internal"))
    assert not condition.holds(other)
    assert condition.why(other) == "listener internal is not devices, smtp"
    assert condition.known_at is Known.CLIENT


@pytest.mark.parametrize("is_trusted", [True, False])
@pytest.mark.parametrize("is_wanted", [True, False])
def test_the_client_is_trusted_or_not(is_trusted: bool, is_wanted: bool) -> None:
    condition = only(trusted=is_wanted)
    one = subject(client=client(is_trusted=is_trusted))
    assert condition.holds(one) is (is_trusted is is_wanted)
    assert condition.why(one) == f"client is {'trusted' if is_trusted else 'a stranger'}"
    assert condition.known_at is Known.MAIL, "it may still authenticate"


@pytest.mark.parametrize(
    ("user", "is_among"),
    [
        ("alice", True),
        ("ALICE", True),
        ("svc-his", True),
        ("bob@hospital.example", True),
        ("bob", False),
        ("", False),
    ],
)
def test_the_user_is_one_of_those_named(user: str, is_among: bool) -> None:
    condition = only(users=("alice", "svc-*", "@hospital.example"))
    one = subject(client=client(user=user))
    assert condition.holds(one) is is_among
    if user:
        verb = "is" if is_among else "is not"
        expected = f"user {user} {verb} among alice, svc-*, @hospital.example"
    else:
        expected = "client has not authenticated"
    assert condition.why(one) == expected


def test_a_star_is_anyone_who_has_authenticated() -> None:
    condition = only(users=("*",))
    assert condition.holds(subject(client=client(user="x")))
    assert not condition.holds(subject())


def test_an_empty_list_of_users_holds_nobody() -> None:
    condition = only(users=())
    assert not condition.holds(subject(client=client(user="alice")))
    assert condition.why(subject(client=client(user="a"))) == "user a is not among an empty list"


def test_a_rule_without_any_of_them_does_not_ask() -> None:
    assert list(conditions(rule(sender_domains=("example.org",)))) == []
