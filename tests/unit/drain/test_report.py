"""Reports: read back by two parsers that are not ours, from friendly and hostile input."""

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.drain.matter import ReportedRecipient
from mailshed.drain.report import parameters_for, write_report
from mailshed.terms import ReportKind
from tests.support.report_matter import (
    ABSENT,
    BOB,
    CONTENT,
    HEADER,
    LATE,
    REPORT_ID,
    TAKEN,
    WAITING,
    matter,
)
from tests.support.reports import (
    assert_wire_form,
    bounce_processor,
    fields,
    parsed,
    parts,
    subparts,
    unstuffed,
)

ALL_KINDS = st.sampled_from(ReportKind)
ASA = "\u00e5sa@example.org".encode()


def written(*about: ReportedRecipient, **changes: Any) -> bytes:
    """A report in wire form, by default of a failure."""
    return write_report(matter(*about, **changes), REPORT_ID)


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
        """RFC 3834: so that no other machine replies to it."""
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
            "Content-Transfer-Encoding": "7bit",
        }

    @pytest.mark.parametrize("kind", ReportKind)
    def test_is_the_same_for_the_strict_parser(self, kind: ReportKind) -> None:
        message = email.message_from_bytes(
            unstuffed(written(TAKEN, kind=kind)), policy=email.policy.SMTP
        )
        assert isinstance(message, EmailMessage)
        assert [part.get_content_type() for part in message.iter_parts()] == [
            "text/plain",
            "message/delivery-status",
            "text/rfc822-headers",
        ]
        assert [message.defects, *(part.defects for part in message.walk())] == [[]] * 7
        assert message["Auto-Submitted"] == "auto-replied"

    @pytest.mark.parametrize("kind", ReportKind)
    def test_is_in_wire_form(self, kind: ReportKind) -> None:
        assert_wire_form(written(BOB, LATE, WAITING, ABSENT, TAKEN, kind=kind))

    @pytest.mark.parametrize("kind", ReportKind)
    def test_is_never_written_about_mail_from_nobody(self, kind: ReportKind) -> None:
        with pytest.raises(AssertionError, match="null reverse-path"):
            written(reverse_path=b"", kind=kind)


class TestBounceProcessor:
    """What mailing list software makes of it: it must unsubscribe who is gone, and nobody else."""

    def test_finds_those_who_failed(self) -> None:
        delayed, failed = bounce_processor(written(BOB, LATE))
        assert failed == {b"bob@example.net", b"carol@example.net"}
        assert not delayed

    def test_takes_a_delay_for_no_failure(self) -> None:
        delayed, failed = bounce_processor(written(WAITING, ABSENT, kind=ReportKind.DELAYED))
        assert delayed == {b"dora@example.net", b"erik@example.net"}
        assert not failed

    @pytest.mark.parametrize("kind", [ReportKind.RELAYED, ReportKind.DELIVERED])
    def test_finds_nobody_in_a_success(self, kind: ReportKind) -> None:
        assert bounce_processor(written(TAKEN, kind=kind)) == (set(), set())

    def test_finds_those_who_failed_in_one_that_brings_all_back(self) -> None:
        _, failed = bounce_processor(written(BOB, parameters=(b"RET=FULL",)))
        assert failed == {b"bob@example.net"}


class TestWhatComesBack:
    """RET (RFC 3461, 4.3), and nothing without it."""

    def test_is_the_header_unless_all_is_asked_for(self) -> None:
        for parameters in ((), (b"RET=HDRS",), (b"RET=garbage",)):
            wire = written(parameters=parameters)
            header = parts(wire)[2]
            assert header.get_content_type() == "text/rfc822-headers"
            assert header.get_payload(decode=True) == HEADER
            assert b"nobody's business" not in wire

    def test_is_all_if_that_is_asked_for(self) -> None:
        part = parts(written(parameters=(b"ret=full",)))[2]
        assert part.get_content_type() == "message/rfc822"
        (returned,) = subparts(part)
        assert returned.as_bytes(policy=email.policy.compat32.clone(linesep="\r\n")) == CONTENT

    @pytest.mark.parametrize("kind", [ReportKind.DELAYED, ReportKind.RELAYED, ReportKind.DELIVERED])
    def test_is_the_header_if_nothing_failed(self, kind: ReportKind) -> None:
        """RFC 3461, 4.3: RET applies to reports of a failure."""
        part = parts(written(TAKEN, kind=kind, parameters=(b"RET=FULL",)))[2]
        assert part.get_content_type() == "text/rfc822-headers"

    def test_may_be_another_report_and_stays_inside_its_part(self) -> None:
        inner = written(LATE)
        wire = written(BOB, content=inner, parameters=(b"RET=FULL",))
        assert len(parts(wire)) == 3
        assert [block["Final-Recipient"] for block in fields(wire)[1:]] == [
            "rfc822; bob@example.net"
        ]


class TestUtf8:
    """RFC 6533: for a sender whose own address is not ASCII."""

    def test_is_utf8_in_all_its_parts(self) -> None:
        bob = replace(BOB, address="b\u00f6b@example.net".encode())
        wire = written(bob, reverse_path=ASA, content="Subject: \u00e5\r\n\r\n".encode())
        assert_wire_form(wire, is_ascii=False)
        assert [part.get_content_type() for part in subparts(parsed(wire))] == [
            "text/plain",
            "message/global-delivery-status",
            "message/global-headers",
        ]
        for line in (
            "To: <\u00e5sa@example.org>",
            "Final-Recipient: utf-8; b\u00f6b@example.net",
            "Subject: \u00e5",
        ):
            assert f"\r\n{line}\r\n".encode() in wire

    def test_needs_smtputf8_and_eight_bits_on_its_way(self) -> None:
        wire = written(reverse_path=ASA)
        assert parameters_for(ASA, wire) == (b"BODY=8BITMIME", b"SMTPUTF8")

    def test_of_ascii_needs_nothing(self) -> None:
        bob = replace(BOB, address="b\u00f6b@example.net".encode())
        wire = written(bob, content="Subject: \u00e5\r\n\r\n".encode(), parameters=(b"SMTPUTF8",))
        assert_wire_form(wire)
        assert parameters_for(b"alice@example.org", wire) == ()
        _, about_bob = fields(wire)
        assert about_bob["Final-Recipient"] == "utf-8; b\\x{F6}b@example.net"

    def test_with_eight_bit_mail_inside_needs_that_only(self) -> None:
        content = HEADER + b"\r\n\xfc\r\n"
        wire = written(content=content, parameters=(b"RET=FULL",))
        assert parameters_for(b"alice@example.org", wire) == (b"BODY=8BITMIME",)


class TestHostileInput:
    def test_the_original_cannot_end_its_part(self) -> None:
        """It may guess the boundary, since queue ids are not secret."""
        guesses = b"".join(b"--=_%s.%d--\r\n" % (REPORT_ID.encode(), n) for n in range(3))
        wire = written(content=b"A: b\r\n" + guesses + b"\r\n")
        assert parts(wire)[2].get_payload(decode=True) == b"A: b\r\n" + guesses
        full = written(content=b"A: b\r\n\r\n" + guesses, parameters=(b"RET=FULL",))
        assert len(parts(full)) == 3
        assert guesses.replace(b"\r\n", b"\n") in parts(full)[2].as_bytes()

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

    def test_a_sender_cannot_add_a_field(self) -> None:
        for path in (b"a@b>\r\nBcc: <x@y", "\u00e5@b>\r\nBcc: <x@y\u2028\x85".encode()):
            message = parsed(written(reverse_path=path))
            assert message["Bcc"] is None
            assert message["Auto-Submitted"] == "auto-replied"
            assert len(subparts(message)) == 3

    @pytest.mark.parametrize(
        "header",
        [
            b"Subject: x\r\nX-Long: " + b"y" * 10_000,
            b"Subject: a\x00b",
            b"Subject: \xff\xfe\x80",
            b"Content-Type: multipart/report; boundary=x\r\n--x",
            b"Subject: x\r\n\tContent-Type: text/html\r\n \r\n <script>",
        ],
        ids=["long", "NUL", "8-bit", "boundary", "folded"],
    )
    @pytest.mark.parametrize("ret", [b"RET=FULL", b"RET=HDRS"])
    def test_no_original_leaves_its_part(self, header: bytes, ret: bytes) -> None:
        content = b"From: x\r\n" + header + b"\r\n\r\n--boundary\r\n..\r\nbody\r\n"
        wire = written(content=content, parameters=(ret,))
        assert_wire_form(wire, is_ascii=False)
        text, status, _ = parts(wire)
        assert text.get_content_type() == "text/plain"
        assert [block["Action"] for block in subparts(status)] == [None, "failed"]
        assert "Subject" not in text
        assert parsed(wire).get_all("Subject") == ["Undelivered Mail Returned to Sender"]
        assert bounce_processor(wire) == (set(), {b"bob@example.net"})

    @settings(max_examples=200, deadline=None)
    @given(
        ALL_KINDS,
        st.lists(st.sampled_from([*b"\r\n.-=: \tAx\x00\xff", 10, 13]), max_size=80).map(bytes),
        st.text(max_size=60),
        st.tuples(st.binary(max_size=40), st.binary(max_size=40)),
        st.sampled_from([b"RET=FULL", b"RET=HDRS"]),
    )
    def test_whatever_comes_in_three_parts_come_out(
        self, kind: ReportKind, header: bytes, reply: str, names: tuple[bytes, bytes], ret: bytes
    ) -> None:
        address, xtext = names
        about = ReportedRecipient(
            address=address,
            parameters=(b"ORCPT=rfc822;" + xtext,),
            status="5.0.0",
            reply=reply,
        )
        original_header = b"A: b\r\n" + header
        wire = written(
            about, kind=kind, content=original_header, parameters=(b"ENVID=" + xtext, ret)
        )
        assert_wire_form(wire, is_ascii=False)
        text, status, returned = parts(wire)
        assert text.get_content_type() == "text/plain"
        _, about_recipient = subparts(status)
        assert about_recipient.get_all("Action") == [kind.value]
        if returned.get_content_type() == "message/rfc822":
            assert (kind, ret) == (ReportKind.FAILED, b"RET=FULL")
            return
        assert returned.get_content_type() == "text/rfc822-headers"
        payload = returned.get_payload(decode=True)
        assert isinstance(payload, bytes)
        section = original_header.split(b"\r\n\r\n")[0].removesuffix(b"\r\n")
        assert payload.removesuffix(b"\r\n") == section.replace(b"\r\n.", b"\r\n")

    @settings(max_examples=100, deadline=None)
    @given(
        st.sampled_from([ReportKind.DELAYED, ReportKind.FAILED]),
        st.lists(st.sampled_from([*b"\r\n.-=: \tAx<>@\x00\xff", 10, 13]), max_size=80).map(bytes),
        st.text(max_size=60),
    )
    def test_a_bounce_processor_finds_the_recipient_in_whatever_comes(
        self, kind: ReportKind, header: bytes, reply: str
    ) -> None:
        about = replace(BOB, status="4.0.0" if kind is ReportKind.DELAYED else "5.0.0", reply=reply)
        delayed, failed = bounce_processor(written(about, kind=kind, content=b"A: b\r\n" + header))
        found = {ReportKind.DELAYED: delayed, ReportKind.FAILED: failed}[kind]
        assert b"bob@example.net" in found
