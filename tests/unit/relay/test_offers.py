"""Reading what a server offers, and what it only seems to offer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.relay.offers import Offers, as_mapping


def test_everything_is_read_in_any_case() -> None:
    offers = Offers.from_extensions(
        (
            "PIPELINING",
            "size 10240000",
            "StartTLS",
            "AUTH PLAIN login",
            "CHUNKING",
            "SMTPUTF8",
            "MT-PRIORITY MIXER",
            "DELIVERBY 240",
            "XCLIENT NAME ADDR port LOGIN",
            "XFORWARD NAME ADDR",
            "LIMITS RCPTMAX=50 MAILMAX=7 rcptdomainmax=2",
        )
    )
    assert offers == Offers(
        pipelining=True,
        starttls=True,
        chunking=True,
        size=True,
        size_max=10_240_000,
        keywords=frozenset({b"SMTPUTF8", b"MT-PRIORITY", b"BY"}),
        mechanisms=frozenset({"PLAIN", "LOGIN"}),
        xclient=frozenset({"NAME", "ADDR", "PORT", "LOGIN"}),
        xforward=frozenset({"NAME", "ADDR"}),
        mail_max=7,
        rcpt_max=50,
    )


def test_nothing_offered_is_nothing() -> None:
    assert Offers.from_extensions(()) == Offers()


def test_the_old_form_of_auth_counts_too() -> None:
    """Exchange and others send both forms."""
    offers = Offers.from_extensions(("AUTH=LOGIN", "AUTH PLAIN NTLM"))
    assert offers.mechanisms == {"LOGIN", "PLAIN", "NTLM"}


@pytest.mark.parametrize(
    "line", ["SIZE 0", "SIZE", "SIZE -5", "SIZE 10k", "SIZE \u0665", "SIZE " + "9" * 5000]
)
def test_a_size_that_says_nothing_is_none(line: str) -> None:
    offers = Offers.from_extensions((line,))
    assert offers.size
    assert offers.size_max is None


@pytest.mark.parametrize("line", ["LIMITS", "LIMITS RCPTMAX", "LIMITS RCPTMAX=", "LIMITS =5"])
def test_limits_that_say_nothing_are_none(line: str) -> None:
    offers = Offers.from_extensions((line,))
    assert offers.rcpt_max is None
    assert offers.mail_max is None


def test_only_whole_keywords_count() -> None:
    """The greeting's text, or a keyword with something before it, offers nothing."""
    lines = ("X-PIPELINING", "PIPELINING-NOT", "\u0130STARTTLS", "", " ", "-SIZE 5")
    assert Offers.from_extensions(lines) == Offers()


@given(st.lists(st.text(max_size=80), max_size=20))
def test_any_text_is_read_without_a_fault(lines: list[str]) -> None:
    offers = Offers.from_extensions(lines)
    assert offers.size_max is None or 0 < offers.size_max < 10**18
    assert all(keyword == keyword.upper() for keyword in as_mapping(lines))
