import pytest

from mailshed.authentication.senders import SenderPolicy, sender_policy
from mailshed.config.policy import AuthenticationPolicy, SenderRule
from mailshed.mail.address import parse_mailbox
from mailshed.mail.domains import DomainSet

DOMAINS = DomainSet(("hospital.example", ".hospital.example"))
OWN = sender_policy(AuthenticationPolicy(senders=SenderRule.OWN, domains=DOMAINS))
FILE = sender_policy(
    AuthenticationPolicy(
        senders=SenderRule.FILE,
        domains=DOMAINS,
        sender_entries=(
            ("alice", ("alice@hospital.example", "@lab.hospital.example")),
            ("alice", ("*-alerts@hospital.example",)),
            ("bob@hospital.example", ("bob@hospital.example",)),
        ),
    )
)


@pytest.mark.parametrize(
    ("login", "sender", "is_allowed"),
    [
        ("alice@hospital.example", "alice@hospital.example", True),
        ("alice@hospital.example", "Alice@Hospital.EXAMPLE", True),
        ("Alice@Hospital.example", "alice@hospital.example", True),
        ("alice@hospital.example", "alice@lab.hospital.example", False),
        ("alice@hospital.example", "alice+news@hospital.example", False),
        ("alice@hospital.example", "bob@hospital.example", False),
        ("alice@elsewhere.example", "alice@elsewhere.example", True),
        ("alice", "alice@hospital.example", True),
        ("alice", "ALICE@lab.hospital.example", True),
        ("alice", "alice@elsewhere.example", False),
        ("alice", "alice@evil-hospital.example", False),
        ("alice", "bob@hospital.example", False),
        ("alice", '"alice"@hospital.example', False),
        ("hospital\\alice", "alice@hospital.example", False),
        ("", "alice@hospital.example", False),
    ],
)
def test_ones_own_address_is_the_login_or_the_login_at_our_domains(
    login: str, sender: str, *, is_allowed: bool
) -> None:
    assert OWN.allows(login, parse_mailbox(sender)) is is_allowed


@pytest.mark.parametrize(
    ("login", "sender", "is_allowed"),
    [
        ("alice", "alice@hospital.example", True),
        ("ALICE", "Alice@hospital.example", True),
        ("alice", "anybody@lab.hospital.example", True),
        ("alice", "ward7-alerts@hospital.example", True),
        ("alice", "alice@lab2.hospital.example", False),
        ("alice", "bob@hospital.example", False),
        ("bob@hospital.example", "bob@hospital.example", True),
        ("bob", "bob@hospital.example", False),
        ("carol", "carol@hospital.example", False),
    ],
)
def test_a_file_says_all_that_a_login_may(login: str, sender: str, *, is_allowed: bool) -> None:
    assert FILE.allows(login, parse_mailbox(sender)) is is_allowed


def test_without_a_rule_anybody_may_be_anybody() -> None:
    policy = sender_policy(AuthenticationPolicy())

    assert policy.allows("alice", parse_mailbox("director@hospital.example"))


@pytest.mark.parametrize("policy", [OWN, FILE])
def test_the_null_reverse_path_is_everybodys(policy: SenderPolicy) -> None:
    assert policy.allows("carol", None)


def test_an_address_of_another_script_is_compared_as_it_is_written() -> None:
    assert OWN.allows("zoë@hospital.example", parse_mailbox("ZOË@hospital.example", is_utf8=True))
    assert not OWN.allows(
        "zoe@hospital.example", parse_mailbox("zoë@hospital.example", is_utf8=True)
    )
