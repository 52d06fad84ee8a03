"""Sets of domains, exact and with all below."""

import pytest

from mailshed.mail.domains import DomainSet


@pytest.mark.parametrize(
    ("domains", "domain", "is_in"),
    [
        (["example.org"], "example.org", True),
        (["example.org"], "mail.example.org", False),
        (["example.org"], "badexample.org", False),
        ([".example.org"], "mail.example.org", True),
        ([".example.org"], "a.b.example.org", True),
        ([".example.org"], "example.org", False),
        ([".example.org"], "badexample.org", False),
        (["example.org", ".example.org"], "example.org", True),
        ([".a.example", ".b.example"], "x.b.example", True),
        (["example.org"], "", False),
        ([".example.org"], "", False),
        ([], "example.org", False),
        ([], "", False),
    ],
)
def test_membership(domains: list[str], domain: str, is_in: bool) -> None:
    assert (domain in DomainSet(domains)) is is_in


def test_a_set_of_nothing_is_false() -> None:
    assert not DomainSet([])
    assert DomainSet(["a.example"])
    assert DomainSet([".a.example"])


def test_equal_sets_are_equal_whatever_the_order() -> None:
    """A reload that changes nothing is seen to change nothing."""
    one = DomainSet(["a.example", ".b.example", ".c.example"])
    other = DomainSet(iter([".c.example", "a.example", ".b.example", "a.example"]))
    assert one == other
    assert hash(one) == hash(other)
    assert one != DomainSet(["a.example", ".b.example"])
    assert one != {"a.example"}
