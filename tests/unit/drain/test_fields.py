"""What programs read: the fields of RFC 3464, and what they are only there for."""

from dataclasses import replace
from email.parser import Parser
from typing import Any

import pytest

from mailshed.drain.fields import fields
from mailshed.drain.matter import ReportedRecipient
from mailshed.terms import ReportKind
from tests.support.builders import WALL
from tests.support.report_matter import ABSENT, BOB, LATE, TAKEN, WAITING, matter

BACKEND = "backend.hospital.example"


def blocks(*about: ReportedRecipient, **changes: Any) -> list[dict[str, str]]:
    """The blocks as their reader sees them."""
    text = "\n".join(fields(matter(*about, **changes)))
    return [
        {name: " ".join(value.split()) for name, value in Parser().parsestr(block).items()}
        for block in text.split("\n\n")
    ]


def test_names_the_message_and_the_recipient() -> None:
    about_message, about_bob = blocks(remote_mta=BACKEND)
    assert about_message == {
        "Reporting-MTA": "dns; mx.hospital.example",
        "X-Mailshed-Queue-Id": "ORIGINAL00000001",
        "Arrival-Date": "Tue, 14 Nov 2023 22:13:20 +0000",
    }
    assert about_bob == {
        "Final-Recipient": "rfc822; bob@example.net",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": f"dns; {BACKEND}",
        "Diagnostic-Code": "smtp; 550 5.1.1 No such user here",
    }


def test_our_own_words_have_a_type_of_our_own_and_no_remote_mta() -> None:
    _, about_carol = blocks(LATE, remote_mta=BACKEND)
    assert about_carol["Diagnostic-Code"] == "x-mailshed; connect: connection refused"
    assert "Remote-MTA" not in about_carol


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (ReportKind.FAILED, "delivery time expired"),
        (ReportKind.DELAYED, "still waiting"),
        (ReportKind.RELAYED, "handed over"),
        (ReportKind.DELIVERED, "stored in the mailbox"),
    ],
)
def test_where_nobody_said_anything_we_do(kind: ReportKind, words: str) -> None:
    _, about = blocks(replace(TAKEN, reply=""), kind=kind, remote_mta=BACKEND)
    assert about["Diagnostic-Code"] == f"x-mailshed; {words}"
    assert about["Action"] == kind.value


def test_a_delay_says_until_when_it_is_tried() -> None:
    _, about_dora, about_erik = blocks(WAITING, ABSENT, kind=ReportKind.DELAYED, remote_mta=BACKEND)
    assert about_dora == {
        "Final-Recipient": "rfc822; dora@example.net",
        "Action": "delayed",
        "Status": "4.2.2",
        "Remote-MTA": f"dns; {BACKEND}",
        "Diagnostic-Code": "smtp; 452 4.2.2 Mailbox full",
        "Will-Retry-Until": "Sat, 18 Nov 2023 22:13:20 +0000",
    }
    assert about_erik["Diagnostic-Code"] == "x-mailshed; the mail server cannot be reached"


def test_a_success_says_who_took_it_when() -> None:
    _, about_fred = blocks(TAKEN, kind=ReportKind.RELAYED, remote_mta=BACKEND)
    assert about_fred == {
        "Final-Recipient": "rfc822; fred@example.net",
        "Action": "relayed",
        "Status": "2.1.5",
        "Remote-MTA": f"dns; {BACKEND}",
        "Diagnostic-Code": "smtp; 250 2.1.5 Ok: queued as 12345",
        "Last-Attempt-Date": "Tue, 14 Nov 2023 22:13:50 +0000",
    }


def test_a_deadline_of_the_senders_own_is_there_if_it_has_set_one() -> None:
    about_message, _ = blocks(deadline_wall=WALL + 3600)
    assert about_message["Deliver-By-Date"] == "Tue, 14 Nov 2023 23:13:20 +0000"


def test_each_recipient_has_a_block_in_order() -> None:
    many = [replace(BOB, address=f"r{index}@example.net".encode()) for index in range(50)]
    assert [block["Final-Recipient"] for block in blocks(*many)[1:]] == [
        f"rfc822; r{index}@example.net" for index in range(50)
    ]


def test_gives_back_what_the_sender_named_its_mail_by() -> None:
    """ENVID and ORCPT are xtext, and are decoded (RFC 3461, 4 and 6.3)."""
    named = replace(BOB, parameters=(b"orcpt=rfc822;Bob+2BTest@example.net",))
    about_message, about_bob = blocks(named, parameters=(b"ENVID=QQ+3D314159",))
    assert about_message["Original-Envelope-Id"] == "QQ=314159"
    assert about_bob["Original-Recipient"] == "rfc822; Bob+Test@example.net"
    assert list(about_bob)[:2] == ["Original-Recipient", "Final-Recipient"]


def test_folds_a_long_reply() -> None:
    _, about_bob = blocks(replace(BOB, reply="550 5.7.1 " + "word " * 300))
    assert about_bob["Diagnostic-Code"].startswith("smtp; 550 5.7.1 word word")
    assert len(about_bob["Diagnostic-Code"]) > 800
