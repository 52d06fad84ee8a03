"""Failure reports: read back by two parsers that are not ours, from friendly and hostile input."""

import email
import email.policy
import re
from dataclasses import replace
from email.message import EmailMessage, Message
from typing import Any

import pytest
from flufl.bounce import all_failures
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.drain.notify import (
    HEADER_OCTETS_MAX,
    FailedRecipient,
    Original,
    ReportPolicy,
    failure_report,
    wants_failure_report,
)
from mailshed.terms import QueueId
from tests.support.builders import WALL

POLICY = ReportPolicy(
    hostname="mx.hospital.example", postmaster="postmaster@hospital.example", lifetime=86400.0
)
HEADER = b"From: alice@example.org\r\nSubject: Results\r\nMessage-ID: <1@example.org>\r\n"
REPORT_ID = QueueId("REPORT0000000001")
BOB = FailedRecipient(
    address=b"bob@example.net", status="5.1.1", reply="550 5.1.1 No such user here"
)
LATE = FailedRecipient(
    address=b"carol@example.net",
    status="4.4.7",
    reply="connect: connection refused",
    is_expired=True,
)


def original(**changes: Any) -> Original:
    made = Original(
        queue_id=QueueId("ORIGINAL00000001"),
        reverse_path=b"alice@example.org",
        received_wall=WALL,
        header=HEADER + b"\r\nThe body, which is nobody's business.\r\n",
    )
    return replace(made, **changes)


def written(*failed: FailedRecipient, remote_mta: str = "", **changes: Any) -> bytes:
    """A report in wire form."""
    return failure_report(
        original(**changes),
        failed or (BOB,),
        policy=POLICY,
        report_id=REPORT_ID,
        wall=WALL + 60,
        remote_mta=remote_mta,
    )


def unstuffed(wire: bytes) -> bytes:
    """What a receiver makes of the wire form (RFC 5321, 4.5.2)."""
    return re.sub(rb"(?m)^\.", b"", wire)


def parsed(wire: bytes) -> Message:
    return email.message_from_bytes(unstuffed(wire))


def subparts(message: Message) -> list[Message]:
    payload = message.get_payload()
    assert isinstance(payload, list)
    return [part for part in payload if isinstance(part, Message)]


def parts(wire: bytes) -> tuple[Message, Message, Message]:
    """The three parts, which must be three."""
    text, status, header = subparts(parsed(wire))
    return text, status, header


def fields(wire: bytes) -> list[Message]:
    """The blocks of the delivery status: about the message, then one for each recipient."""
    return subparts(parts(wire)[1])


def assert_wire_form(wire: bytes) -> None:
    assert wire.endswith(b"\r\n")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\x00", wire)
    assert not re.search(rb"(?m)^\.(?!\.)", wire)
    assert wire.isascii()
    assert max(map(len, wire.split(b"\r\n"))) <= 998


class TestForm:
    def test_is_a_multipart_report_of_three_parts(self) -> None:
        message = parsed(written())
        assert message.get_content_type() == "multipart/report"
        assert message.get_param("report-type") == "delivery-status"
        assert [part.get_content_type() for part in parts(written())] == [
            "text/plain",
            "message/delivery-status",
            "text/rfc822-headers",
        ]
        assert message.defects == []

    def test_has_the_header_of_an_automatic_reply(self) -> None:
        message = parsed(written())
        assert dict(message.items()) == {
            "From": "Mail Delivery System <postmaster@hospital.example>",
            "To": "<alice@example.org>",
            "Subject": "Undelivered Mail Returned to Sender",
            "Date": "Tue, 14 Nov 2023 22:14:20 +0000",
            "Message-ID": "<REPORT0000000001@mx.hospital.example>",
            "Auto-Submitted": "auto-replied",
            "MIME-Version": "1.0",
            "Content-Type": message["Content-Type"],
        }

    def test_is_the_same_for_the_strict_parser(self) -> None:
        message = email.message_from_bytes(unstuffed(written()), policy=email.policy.SMTP)
        assert isinstance(message, EmailMessage)
        assert [part.get_content_type() for part in message.iter_parts()] == [
            "text/plain",
            "message/delivery-status",
            "text/rfc822-headers",
        ]
        assert [message.defects, *(part.defects for part in message.walk())] == [[]] * 7

    def test_is_in_wire_form(self) -> None:
        assert_wire_form(written(BOB, LATE))

    def test_is_understood_by_a_bounce_processor(self) -> None:
        temporary, permanent = all_failures(parsed(written(BOB, LATE)))
        assert set(permanent) == {b"bob@example.net", b"carol@example.net"}
        assert not temporary

    def test_is_never_written_about_mail_from_nobody(self) -> None:
        with pytest.raises(AssertionError, match="null reverse-path"):
            written(reverse_path=b"")


class TestText:
    def test_says_who_what_why_and_what_to_do(self) -> None:
        text = " ".join(str(parts(written(BOB, LATE))[0].get_payload()).split())
        for said in (
            "mail system at mx.hospital.example",
            "Your message of Tue, 14 Nov 2023 22:13:20 +0000",
            "<bob@example.net> The mail server refused it: 550 5.1.1 No such user here",
            "<carol@example.net> It was tried for too long",
            "connect: connection refused",
            "for example by telephone",
            "forward this report to postmaster@hospital.example",
            "ORIGINAL00000001",
        ):
            assert said in text

    def test_does_not_blame_the_address_for_what_was_only_late(self) -> None:
        expired = " ".join(str(parts(written(LATE))[0].get_payload()).split())
        assert "send the message again later" in expired
        assert "check the address" not in expired
        refused = " ".join(str(parts(written(BOB))[0].get_payload()).split())
        assert "check the address and send the message again" in refused

    def test_stays_within_the_width_of_a_screen(self) -> None:
        long = replace(BOB, reply="550 5.7.1 " + "a rather long explanation " * 20)
        lines = str(parts(written(long))[0].get_payload()).splitlines()
        assert max(map(len, lines)) <= 76


class TestStatus:
    def test_names_the_message_and_the_recipient(self) -> None:
        about_message, about_bob = fields(written(remote_mta="backend.hospital.example"))
        assert about_message.items() == [
            ("Reporting-MTA", "dns; mx.hospital.example"),
            ("X-Mailshed-Queue-Id", "ORIGINAL00000001"),
            ("Arrival-Date", "Tue, 14 Nov 2023 22:13:20 +0000"),
        ]
        assert about_bob.items() == [
            ("Final-Recipient", "rfc822; bob@example.net"),
            ("Action", "failed"),
            ("Status", "5.1.1"),
            ("Remote-MTA", "dns; backend.hospital.example"),
            ("Diagnostic-Code", "smtp; 550 5.1.1 No such user here"),
        ]

    def test_has_our_own_type_for_our_own_words_and_no_remote_mta(self) -> None:
        _, about_carol = fields(written(LATE, remote_mta="backend.hospital.example"))
        assert about_carol["Diagnostic-Code"] == "x-mailshed; connect: connection refused"
        assert about_carol["Remote-MTA"] is None

    def test_of_an_untried_message_says_that_its_time_was_over(self) -> None:
        _, about_carol = fields(written(replace(LATE, reply="")))
        assert about_carol["Diagnostic-Code"] == "x-mailshed; delivery time expired"

    def test_has_a_block_for_each_recipient_in_order(self) -> None:
        many = [replace(BOB, address=f"r{index}@example.net".encode()) for index in range(50)]
        blocks = fields(written(*many))[1:]
        assert [block["Final-Recipient"] for block in blocks] == [
            f"rfc822; r{index}@example.net" for index in range(50)
        ]

    def test_gives_back_what_the_sender_named_its_mail_by(self) -> None:
        """ENVID and ORCPT are xtext, and are decoded (RFC 3461, 4)."""
        named = replace(BOB, parameters=(b"orcpt=rfc822;Bob+2BTest@example.net",))
        about_message, about_bob = fields(written(named, parameters=(b"ENVID=QQ+3D314159",)))
        assert about_message["Original-Envelope-Id"] == "QQ=314159"
        assert about_bob["Original-Recipient"] == "rfc822; Bob+Test@example.net"

    def test_folds_a_long_reply(self) -> None:
        words = "550 5.7.1 " + "word " * 300
        _, about_bob = fields(written(replace(BOB, reply=words)))
        diagnostic = " ".join(about_bob["Diagnostic-Code"].split())
        assert diagnostic.startswith("smtp; 550 5.7.1 word word")
        assert len(diagnostic) > 800


class TestHeaderPart:
    def test_is_the_header_section_as_it_came_and_nothing_of_the_body(self) -> None:
        header = parts(written())[2]
        assert header.get_payload(decode=True) == HEADER
        assert header["Content-Transfer-Encoding"] == "7bit"
        assert b"nobody's business" not in written()

    def test_is_unchanged_if_it_is_eight_bit_or_has_long_lines(self) -> None:
        for field in (
            "Subject: Pr\u00fcfung\r\n".encode(),
            b"Subject: \xff\xfe\r\n",
            b"X-Long: " + b"x" * 2000 + b"\r\n",
            b"X-Bare: a\rb\nc\x00d\r\n",
            b"X-Trailing: space \t\r\n",
            b"X-Equals: =3D=\r\n\t=\r\n",
        ):
            header = HEADER + field
            wire = written(header=header + b"\r\nbody\r\n")
            assert_wire_form(wire)
            assert parts(wire)[2].get_payload(decode=True) == header

    def test_is_cut_at_the_end_of_a_line(self) -> None:
        field = b"X-Many: " + b"x" * 90 + b"\r\n"
        payload = parts(written(header=field * 1000 + b"\r\nbody"))[2].get_payload(decode=True)
        assert isinstance(payload, bytes)
        assert payload == field * (HEADER_OCTETS_MAX // len(field))

    def test_of_one_endless_line_is_cut_too(self) -> None:
        wire = written(header=b"X" * 200_000)
        assert_wire_form(wire)
        payload = parts(wire)[2].get_payload(decode=True)
        assert payload == b"X" * HEADER_OCTETS_MAX + b"\r\n"

    def test_of_a_header_that_was_cut_off_elsewhere_is_whole_lines(self) -> None:
        payload = parts(written(header=b"A: b\r\nSubject: cut o"))[2].get_payload(decode=True)
        assert payload == b"A: b\r\nSubject: cut o\r\n"

    @pytest.mark.parametrize("content", [b"", b"\r\nno header at all\r\n"])
    def test_is_left_out_if_there_is_no_header(self, content: bytes) -> None:
        assert len(subparts(parsed(written(header=content)))) == 2

    def test_loses_the_dots_that_were_stuffed_and_gets_its_own(self) -> None:
        """The header arrives in wire form; a line that begins with a dot has two there."""
        wire = written(header=b"..odd: 1\r\nA: b\r\n..odd: 2\r\n\r\nbody")
        assert_wire_form(wire)
        payload = parts(wire)[2].get_payload(decode=True)
        assert payload == b".odd: 1\r\nA: b\r\n.odd: 2\r\n"


class TestHostileInput:
    def test_the_original_cannot_end_its_part(self) -> None:
        """It may guess the boundary, since queue ids are not secret."""
        guesses = b"".join(b"--=_%s.%d--\r\n" % (REPORT_ID.encode(), n) for n in range(3))
        wire = written(header=b"A: b\r\n" + guesses + b"\r\n")
        assert parts(wire)[2].get_payload(decode=True) == b"A: b\r\n" + guesses

    def test_replies_and_parameters_cannot_add_a_field(self) -> None:
        evil = FailedRecipient(
            address=b"x@example.net>\r\nAction: delivered",
            parameters=(b"ORCPT=rfc822;x+0D+0AAction:+20delivered+00",),
            status="5.0.0",
            reply="550 no\r\nAction: delivered\r\n\r\n--=_REPORT0000000001.0",
        )
        wire = written(evil, parameters=(b"ENVID=x+0D+0AX-Evil:+201",))
        assert_wire_form(wire)
        about_message, about_evil = fields(wire)
        assert about_message["X-Evil"] is None
        assert about_evil.get_all("Action") == ["failed"]
        assert len(parts(wire)) == 3

    @settings(max_examples=200)
    @given(
        st.lists(st.sampled_from([*b"\r\n.-=: \tAx\x00\xff", 10, 13]), max_size=80).map(bytes),
        st.text(max_size=60),
        st.binary(max_size=40),
        st.binary(max_size=40),
    )
    def test_whatever_comes_in_three_parts_come_out(
        self, header: bytes, reply: str, address: bytes, xtext: bytes
    ) -> None:
        failed = FailedRecipient(
            address=address,
            parameters=(b"ORCPT=rfc822;" + xtext,),
            status="5.0.0",
            reply=reply,
        )
        wire = written(failed, header=b"A: b\r\n" + header, parameters=(b"ENVID=" + xtext,))
        assert_wire_form(wire)
        text, status, original_header = parts(wire)
        assert text.get_content_type() == "text/plain"
        assert len(subparts(status)) == 2
        assert original_header.get_content_type() == "text/rfc822-headers"
        payload = original_header.get_payload(decode=True)
        assert isinstance(payload, bytes)
        section = (b"A: b\r\n" + header).split(b"\r\n\r\n")[0].removesuffix(b"\r\n")
        assert payload.removesuffix(b"\r\n") == section.replace(b"\r\n.", b"\r\n")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ((), True),
        ((b"NOTIFY=FAILURE",), True),
        ((b"notify=success,failure",), True),
        ((b"NOTIFY=NEVER",), False),
        ((b"NOTIFY=SUCCESS,DELAY",), False),
        ((b"ORCPT=rfc822;a@x", b"NOTIFY=DELAY"), False),
    ],
)
def test_notify_decides_who_hears_of_a_failure(
    parameters: tuple[bytes, ...], expected: bool
) -> None:
    assert wants_failure_report(parameters) is expected
