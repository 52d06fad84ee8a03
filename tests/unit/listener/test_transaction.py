"""The envelope while it is being told: what MAIL and RCPT may say, and what they are answered."""

import pytest

from mailshed.listener import transaction
from mailshed.listener.transaction import PendingTransaction
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.mail.reply import Reply
from tests.support.builders import session_limits

LIMITS = session_limits(message_size_max=1000, recipients_max=100)


def anyone(_mailbox: Mailbox) -> Reply | None:
    return None


def nobody(_mailbox: Mailbox) -> Reply | None:
    return reply.RELAY_DENIED


def begun(argument: bytes = b"FROM:<a@b.example>") -> PendingTransaction:
    made = PendingTransaction()
    assert made.begin(argument, LIMITS, 5.0) is reply.SENDER_OK
    return made


def test_mail_keeps_path_and_parameters_as_they_came_but_for_size() -> None:
    made = begun(b"FROM:<A@b.example> SIZE=10 BODY=8bitmime ENVID=Ab+2B RET=hdrs")
    assert made.mail is not None
    assert made.mail.mailbox is not None
    assert made.mail.mailbox.raw == b"A@b.example"
    assert made.mail.parameters == (b"BODY=8bitmime", b"ENVID=Ab+2B", b"RET=hdrs")
    assert made.started_at == 5.0


def test_the_null_reverse_path_begins_a_transaction() -> None:
    made = begun(b"FROM:<>")
    assert made.mail is not None
    assert made.mail.mailbox is None


@pytest.mark.parametrize(
    ("argument", "code", "text"),
    [
        (b"FROM:<a@b.example> SIZE=1001", 552, "5.3.4"),
        (b"FROM:<a@b.example> SIZE=x", 501, "SIZE"),
        (b"FROM:<a@b.example> SIZE=" + b"9" * 21, 501, "SIZE"),
        (b"FROM:<a@b.example> BODY=BINARYMIME", 501, "BODY"),
        (b"FROM:<a@b.example> HOLDFOR=3", 555, "not recognized"),
        (b"FROM:a@b.example", 501, "<>"),
        (b"TO:<a@b.example>", 501, "FROM:"),
        ("FROM:<é@b.example>".encode(), 553, "SMTPUTF8"),
    ],
)
def test_a_refused_mail_leaves_no_transaction(argument: bytes, code: int, text: str) -> None:
    made = PendingTransaction()
    refused = made.begin(argument, LIMITS, 0.0)
    assert refused.code == code
    assert text in refused.text
    assert made.mail is None


def test_rcpt_keeps_the_parameters_of_dsn_as_they_came() -> None:
    made = begun()
    answer = made.add_recipient(
        b"TO:<c@d.example> NOTIFY=Never ORCPT=rfc822;C@d.example", LIMITS, anyone
    )
    assert answer is reply.RECIPIENT_OK
    assert made.recipients[0].parameters == (b"NOTIFY=Never", b"ORCPT=rfc822;C@d.example")


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"TO:<>", 501),
        (b"TO:<c@d.example> SIZE=3", 555),
        (b"TO:<c@d.example", 501),
        ("TO:<ç@d.example>".encode(), 553),
    ],
)
def test_a_refused_rcpt_adds_nobody(argument: bytes, code: int) -> None:
    made = begun()
    assert made.add_recipient(argument, LIMITS, anyone).code == code
    assert made.recipients == []


def test_policy_refuses_with_its_own_reply() -> None:
    made = begun()
    assert made.add_recipient(b"TO:<c@d.example>", LIMITS, nobody) is reply.RELAY_DENIED
    assert made.recipients == []


def test_too_many_recipients_are_told_apart_from_far_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transaction, "RECIPIENT_EXCESS_MAX", 2)
    made = begun()
    for number in range(LIMITS.recipients_max):
        made.add_recipient(b"TO:<c%d@d.example>" % number, LIMITS, anyone)
    for is_overrun in (False, False, True):
        answer = made.add_recipient(b"TO:<more@d.example>", LIMITS, anyone)
        assert answer is reply.TOO_MANY_RECIPIENTS
        assert made.is_overrun is is_overrun
    assert len(made.recipients) == LIMITS.recipients_max
