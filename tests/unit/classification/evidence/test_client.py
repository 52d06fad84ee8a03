"""Evidence of who connects."""

import pytest

from mailshed.classification.evidence.client import compile_condition
from mailshed.classification.subject import Subject
from mailshed.mail.header import HeaderView
from tests.support.builders import client, envelope, rule


def holds(address: str, *networks: str) -> bool:
    condition = compile_condition(rule(client_networks=networks))
    assert condition is not None
    return condition(Subject(envelope(client=client(address)), HeaderView(b"")))


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
    assert holds(address, *networks) is is_in


def test_a_rule_without_networks_does_not_ask() -> None:
    assert compile_condition(rule(sender_domains=("example.org",))) is None
