"""Sets of addresses and user names."""

import pytest

from mailshed.classification.names import NameSet
from mailshed.mail.address import Mailbox
from tests.support.builders import mailbox

ENTRIES = ("Alice@Example.org", "@ward.example", "@.lab.example", "*-list@*.example", "svc?", "bob")


@pytest.mark.parametrize(
    ("address", "is_in"),
    [
        ("alice@example.org", True),
        ("ALICE@EXAMPLE.ORG", True),
        ("malice@example.org", False),
        ("alice@example.org.evil.example", False),
        ("x@ward.example", True),
        ("x@sub.ward.example", False),
        ("x@sub.lab.example", True),
        ("x@lab.example", False),
        ("all-list@any.example", True),
        ("all-list@any.org", False),
    ],
)
def test_finds_mailboxes_in_all_four_forms(address: str, is_in: bool) -> None:
    assert NameSet(ENTRIES).has_mailbox(mailbox(address)) is is_in


@pytest.mark.parametrize(
    ("name", "is_in"),
    [
        ("bob", True),
        ("BOB", True),
        ("bobby", False),
        ("svc1", True),
        ("svc12", False),
        ("x@ward.example", True),
        ("x@y.lab.example", True),
        ("ward.example", False),
        ("", False),
    ],
)
def test_finds_user_names_which_need_not_be_addresses(name: str, is_in: bool) -> None:
    assert NameSet(ENTRIES).has_name(name) is is_in


def test_a_name_of_any_characters_can_be_asked_for() -> None:
    assert NameSet(["é\udcff"]).has_name("É\udcff")


def test_a_quoted_local_part_is_compared_as_it_is_written() -> None:
    """Its @ and its dots are inside the quotes."""
    quoted = mailbox('"x@ward.example"@other.example')
    assert not NameSet(["@ward.example", "@.example"]).has_mailbox(
        Mailbox(b'"x@ward.example"@other.test', "other.test")
    )
    assert NameSet(["@other.example"]).has_mailbox(quoted)


def test_other_scripts_are_found_by_their_domain_in_ascii() -> None:
    """As the configuration has them; a pattern sees the same."""
    german = mailbox("jürgen@Bücher.example")
    for entry in ("@xn--bcher-kva.example", "*@xn--bcher-*", "j?rgen@*"):
        assert NameSet([entry]).has_mailbox(german), entry
    assert not NameSet(["@bucher.example", "jurgen@*"]).has_mailbox(german)
