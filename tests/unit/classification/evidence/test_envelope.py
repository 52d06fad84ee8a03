"""Evidence of the reverse-path and the forward-paths."""

from typing import Any

import pytest

from mailshed.classification.evidence.envelope import conditions
from mailshed.classification.subject import Condition, Known, early_answer
from mailshed.mail.address import Mailbox
from mailshed.mail.envelope import Recipient
from tests.support.builders import rule, subject


def only(**asked: Any) -> Condition:
    (condition,) = conditions(rule(**asked))
    return condition


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
    condition = only(sender_domains=("lab.example", ".ward.example"))
    assert condition.holds(subject(sender=sender)) is is_in
    assert condition.known_at is Known.MAIL


@pytest.mark.parametrize(
    ("sender", "is_among"),
    [
        ("alice@lab.example", True),
        ("ALICE@LAB.example", True),
        ("bob@lab.example", False),
        ("x@his.example", True),
        ("x@y.his.example", False),
        ("x@y.pacs.example", True),
        ("x@pacs.example", False),
        ("news-list@any.example", True),
        ("list@any.example", False),
        (None, False),
    ],
)
def test_holds_for_senders_that_are_listed(sender: str | None, is_among: bool) -> None:
    entries = ("alice@lab.example", "@his.example", "@.pacs.example", "*-list@*")
    assert only(senders=entries).holds(subject(sender=sender)) is is_among


@pytest.mark.parametrize("is_wanted", [True, False])
def test_the_null_reverse_path_can_be_asked_for(is_wanted: bool) -> None:
    condition = only(null_sender=is_wanted)
    assert condition.holds(subject(sender=None)) is is_wanted
    assert condition.holds(subject()) is not is_wanted


@pytest.mark.parametrize(
    ("to", "is_in"),
    [
        (["a@lab.example"], True),
        (["x@other.example", "a@lab.example"], True),
        (["x@other.example", "y@else.example"], False),
    ],
)
def test_any_recipient_will_do(to: list[str], is_in: bool) -> None:
    one = subject(*to)
    assert only(recipient_domains=("lab.example",)).holds(one) is is_in
    assert only(recipients=("a@lab.example",)).holds(one) is is_in
    assert only(recipients=("*@lab.*",)).holds(one) is is_in


def test_each_thing_that_is_asked_for_is_a_condition_of_its_own() -> None:
    made = rule(
        null_sender=False,
        sender_domains=("s.example",),
        senders=("a@s.example",),
        recipient_domains=("r.example",),
        recipients=("b@r.example",),
    )
    assert len(list(conditions(made))) == 5
    assert all(
        each.holds(subject("b@r.example", sender="a@s.example")) for each in conditions(made)
    )


def test_an_empty_list_holds_nobody() -> None:
    assert not only(senders=()).holds(subject())
    assert not only(recipients=()).holds(subject())


def test_a_recipient_who_is_there_stays_and_others_may_come() -> None:
    for condition in (only(recipient_domains=("lab.example",)), only(recipients=("@lab.example",))):
        asked = subject("a@other.example", known=Known.RCPT)
        assert early_answer(condition, asked) is None
        assert early_answer(condition, subject("a@lab.example", known=Known.RCPT)) is True
        assert early_answer(condition, subject("a@other.example", known=Known.ENVELOPE)) is False


def test_the_bare_postmaster_is_a_recipient_of_no_domain() -> None:
    one = subject(recipients=(Recipient(mailbox=Mailbox(b"Postmaster", "")),))
    assert not only(recipient_domains=("lab.example",)).holds(one)
    assert only(recipients=("postmaster*",)).holds(one)


@pytest.mark.parametrize(
    ("asked", "to", "sender", "words"),
    [
        ({"null_sender": True}, [], None, "sender is <>"),
        ({"null_sender": True}, [], "a@b.example", "sender is not <>"),
        ({"sender_domains": ("x.example",)}, [], None, "sender <> has no domain"),
        (
            {"sender_domains": ("x.example",)},
            [],
            "a@b.example",
            "sender domain b.example is not in x.example",
        ),
        ({"senders": ("a@b.example",)}, [], None, "sender <> is no address"),
        (
            {"senders": ("a@b.example",)},
            [],
            "a@b.example",
            "sender a@b.example is among a@b.example",
        ),
        (
            {"recipient_domains": ("x.example",)},
            ["a@x.example"],
            None,
            "recipient domain x.example is in x.example",
        ),
        (
            {"recipient_domains": ("x.example",)},
            ["a@b.example"],
            None,
            "no recipient's domain is in x.example",
        ),
        (
            {"recipients": ("c@x.example",)},
            ["a@x.example"],
            None,
            "no recipient is among c@x.example",
        ),
        (
            {"recipients": ("@patient.mssante.fr",)},
            ["189027512345678@patient.mssante.fr"],
            None,
            "recipient ***@patient.mssante.fr is among ***@patient.mssante.fr",
        ),
    ],
)
def test_says_why_and_masks_patients(
    asked: dict[str, object], to: list[str], sender: str | None, words: str
) -> None:
    assert only(**asked).why(subject(*to, sender=sender)) == words


def test_a_rule_without_any_of_them_does_not_ask() -> None:
    assert list(conditions(rule(headers=(("x", ()),)))) == []
