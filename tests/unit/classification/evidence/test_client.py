"""Evidence of who connects."""

from typing import Any

import pytest

from mailshed.classification.evidence.client import conditions
from mailshed.classification.subject import Condition, Known
from tests.support.builders import client, rule, subject


def only(**asked: Any) -> Condition:
    (condition,) = conditions(rule(**asked))
    return condition


@pytest.mark.parametrize(
    ("address", "networks", "is_in"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("192.0.2.7", ["10.0.0.0/8", "192.0.2.7/32"], True),
        ("192.0.2.8", ["10.0.0.0/8", "192.0.2.7/32"], False),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("2001:db8::1", ["0.0.0.0/0"], False),
        ("192.0.2.1", ["::/0"], False),
    ],
)
def test_holds_for_clients_in_any_of_the_networks(
    address: str, networks: list[str], is_in: bool
) -> None:
    one = subject(client=client(address))
    assert only(client_networks=networks).holds(one) is is_in
    assert only(not_client_networks=networks).holds(one) is not is_in


def test_says_which_networks_it_looked_at() -> None:
    one = subject(client=client("10.1.2.3"))
    named = only(client_networks=["10.20.8.0/24"], client_network_names=("laboratory",))
    assert named.why(one) == "client 10.1.2.3 is not in laboratory (10.20.8.0/24)"
    several = only(not_client_networks=[f"10.{number}.0.0/16" for number in range(5)])
    assert several.why(one) == (
        "client 10.1.2.3 is in 10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16, 2 more"
    )


def test_networks_of_an_empty_list_hold_nobody() -> None:
    """The list may come from a file; a rule that asks for it must not match everybody."""
    one = subject()
    assert not only(client_network_names=("lab",)).holds(one)
    assert only(not_client_network_names=("lab",)).holds(one)
    assert only(client_network_names=("lab",)).why(one) == (
        "client 192.0.2.1 is not in lab (empty)"
    )


def test_is_known_as_soon_as_somebody_connects() -> None:
    assert only(client_networks=["10.0.0.0/8"]).known_at is Known.CLIENT


def test_a_rule_without_networks_does_not_ask() -> None:
    assert list(conditions(rule(sender_domains=("example.org",)))) == []
