"""Reports: read back by two parsers that are not ours, from friendly and hostile input."""

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.drain.report import (
    Original,
    ReportedRecipient,
    ReportKind,
    ReportPolicy,
    write_report,
)
from mailshed.terms import QueueId
from tests.support.builders import WALL
from tests.support.reports import (
    assert_wire_form,
    bounce_processor,
    fields,
    parsed,
    parts,
    subparts,
    text_of,
    unstuffed,
)

POLICY = ReportPolicy(
    hostname="mx.hospital.example", postmaster="postmaster@hospital.example", lifetime=86400.0
)
HEADER = b"From: alice@example.org\r\nSubject: Results\r\nMessage-ID: <1@example.org>\r\n"
REPORT_ID = QueueId("REPORT0000000001")
BOB = ReportedRecipient(
    address=b"bob@example.net", status="5.1.1", reply="550 5.1.1 No such user here"
)
LATE = ReportedRecipient(
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
        expires_wall=WALL + 4 * 86400,
        header=HEADER + b"\r\nThe body, which is nobody's business.\r\n",
    )
    return replace(made, **changes)


def written(
    *about: ReportedRecipient,
    kind: ReportKind = ReportKind.FAILED,
    remote_mta: str = "",
    **changes: Any,
) -> bytes:
    """A report in wire form, by default of a failure."""
    return write_report(
        kind,
        original(**changes),
        about or (BOB,),
        policy=POLICY,
        report_id=REPORT_ID,
        wall=WALL + 60,
        remote_mta=remote_mta,
    )


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
        delayed, failed = bounce_processor(written(BOB, LATE))
        assert failed == {b"bob@example.net", b"carol@example.net"}
        assert not delayed

    def test_is_never_written_about_mail_from_nobody(self) -> None:
        with pytest.raises(AssertionError, match="null reverse-path"):
            written(reverse_path=b"")


class TestText:
    def test_says_who_what_why_and_what_to_do(self) -> None:
        text = text_of(written(BOB, LATE))
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
        expired = text_of(written(LATE))
        assert "send the message again later" in expired
        assert "check the address" not in expired
        refused = text_of(written(BOB))
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


class TestDelay:
    """The other kind: nothing has ended, and nothing is asked of the reader."""

    WAITING = ReportedRecipient(
        address=b"dora@example.net", status="4.2.2", reply="452 4.2.2 Mailbox full"
    )
    ABSENT = ReportedRecipient(
        address=b"erik@example.net", status="4.4.1", reply="the mail server cannot be reached"
    )

    def written(self, *about: ReportedRecipient, **changes: Any) -> bytes:
        return written(*about or (self.WAITING,), kind=ReportKind.DELAYED, **changes)

    def test_says_that_nothing_is_lost_and_until_when_it_is_tried(self) -> None:
        text = text_of(self.written(self.WAITING, self.ABSENT))
        for said in (
            "has not been delivered yet",
            "WARNING ONLY",
            "you do not need to send it again",
            "again and again until Sat, 18 Nov 2023 22:13:20 +0000",
            "<dora@example.net> The mail server does not take it yet: 452 4.2.2 Mailbox full",
            "<erik@example.net> It is still waiting: the mail server cannot be reached",
            "for example by telephone",
            "ORIGINAL00000001",
        ):
            assert said in text
        assert "could not be delivered to" not in text
        assert "send the message again later" not in text

    def test_tells_programs_the_same(self) -> None:
        wire = self.written(self.WAITING, self.ABSENT, remote_mta="backend.hospital.example")
        about_message, about_dora, about_erik = fields(wire)
        assert about_message["Reporting-MTA"] == "dns; mx.hospital.example"
        assert about_dora.items() == [
            ("Final-Recipient", "rfc822; dora@example.net"),
            ("Action", "delayed"),
            ("Status", "4.2.2"),
            ("Remote-MTA", "dns; backend.hospital.example"),
            ("Diagnostic-Code", "smtp; 452 4.2.2 Mailbox full"),
            ("Will-Retry-Until", "Sat, 18 Nov 2023 22:13:20 +0000"),
        ]
        assert about_erik.items() == [
            ("Final-Recipient", "rfc822; erik@example.net"),
            ("Action", "delayed"),
            ("Status", "4.4.1"),
            ("Diagnostic-Code", "x-mailshed; the mail server cannot be reached"),
            ("Will-Retry-Until", "Sat, 18 Nov 2023 22:13:20 +0000"),
        ]

    def test_is_no_failure_to_a_bounce_processor(self) -> None:
        """It must not unsubscribe anyone."""
        delayed, failed = bounce_processor(self.written(self.WAITING, self.ABSENT))
        assert delayed == {b"dora@example.net", b"erik@example.net"}
        assert not failed

    def test_differs_from_a_failure_at_first_sight(self) -> None:
        message = parsed(self.written())
        assert message["Subject"].startswith("Delayed Mail")
        assert message["Auto-Submitted"] == "auto-replied"
        assert message.get_param("report-type") == "delivery-status"
        assert_wire_form(self.written())

    def test_is_never_written_about_mail_from_nobody(self) -> None:
        with pytest.raises(AssertionError, match="null reverse-path"):
            self.written(reverse_path=b"")


class TestHostileInput:
    def test_the_original_cannot_end_its_part(self) -> None:
        """It may guess the boundary, since queue ids are not secret."""
        guesses = b"".join(b"--=_%s.%d--\r\n" % (REPORT_ID.encode(), n) for n in range(3))
        wire = written(header=b"A: b\r\n" + guesses + b"\r\n")
        assert parts(wire)[2].get_payload(decode=True) == b"A: b\r\n" + guesses

    def test_replies_and_parameters_cannot_add_a_field(self) -> None:
        evil = ReportedRecipient(
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

    @settings(max_examples=200, deadline=None)
    @given(
        st.sampled_from(ReportKind),
        st.lists(st.sampled_from([*b"\r\n.-=: \tAx\x00\xff", 10, 13]), max_size=80).map(bytes),
        st.text(max_size=60),
        st.binary(max_size=40),
        st.binary(max_size=40),
    )
    def test_whatever_comes_in_three_parts_come_out(
        self, kind: ReportKind, header: bytes, reply: str, address: bytes, xtext: bytes
    ) -> None:
        about = ReportedRecipient(
            address=address,
            parameters=(b"ORCPT=rfc822;" + xtext,),
            status="5.0.0",
            reply=reply,
        )
        original_header = b"A: b\r\n" + header
        wire = written(about, kind=kind, header=original_header, parameters=(b"ENVID=" + xtext,))
        assert_wire_form(wire)
        text, status, header_part = parts(wire)
        assert text.get_content_type() == "text/plain"
        _, about_recipient = subparts(status)
        assert about_recipient.get_all("Action") == [kind.value]
        assert header_part.get_content_type() == "text/rfc822-headers"
        payload = header_part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        section = original_header.split(b"\r\n\r\n")[0].removesuffix(b"\r\n")
        assert payload.removesuffix(b"\r\n") == section.replace(b"\r\n.", b"\r\n")

    @settings(max_examples=100, deadline=None)
    @given(
        st.sampled_from(ReportKind),
        st.lists(st.sampled_from([*b"\r\n.-=: \tAx<>@\x00\xff", 10, 13]), max_size=80).map(bytes),
        st.text(max_size=60),
    )
    def test_a_bounce_processor_finds_the_recipient_in_whatever_comes(
        self, kind: ReportKind, header: bytes, reply: str
    ) -> None:
        about = replace(BOB, status="4.0.0" if kind is ReportKind.DELAYED else "5.0.0", reply=reply)
        delayed, failed = bounce_processor(written(about, kind=kind, header=b"A: b\r\n" + header))
        found = {ReportKind.DELAYED: delayed, ReportKind.FAILED: failed}[kind]
        assert b"bob@example.net" in found
