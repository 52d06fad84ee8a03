"""The outer form of a report: parts that stay parts, whatever is put into them."""

import pytest

from mailshed.drain.mime import (
    LINE_WIDTH,
    VALUE_OCTETS_MAX,
    clean,
    clean_bytes,
    fold,
    multipart_report,
    plain_text,
    stuff_dots,
    wrap,
)
from mailshed.drain.returned import Returned
from tests.support.reports import assert_wire_form, parsed, parts, subparts

HEADER = Returned("text/rfc822-headers", "Message header", "7bit", b"Subject: Results\r\n")
HEAD = ["From: Mail Delivery System <postmaster@example.org>", "Subject: report"]


def written(
    returned: Returned | None = HEADER,
    *,
    seed: str = "SEED",
    text: str = "Hello.",
    is_utf8: bool = False,
) -> bytes:
    return multipart_report(
        head=HEAD,
        text=[text],
        status=["Reporting-MTA: dns; mx.example.org", "", "Action: failed"],
        returned=returned,
        seed=seed,
        is_utf8=is_utf8,
    )


class TestForm:
    def test_is_what_was_put_in(self) -> None:
        wire = written()
        assert_wire_form(wire)
        message = parsed(wire)
        assert (message["Subject"], message["MIME-Version"]) == ("report", "1.0")
        assert message["Content-Transfer-Encoding"] == "7bit"
        assert message.get_content_type() == "multipart/report"
        text, status, header = parts(wire)
        assert text.get_payload() == "Hello.\r\n"
        assert [block.items() for block in subparts(status)] == [
            [("Reporting-MTA", "dns; mx.example.org")],
            [("Action", "failed")],
        ]
        assert header.get_payload() == "Subject: Results\r\n"
        assert header["Content-Description"] == "Message header"

    def test_has_two_parts_if_nothing_comes_back(self) -> None:
        assert len(subparts(parsed(written(None)))) == 2

    def test_is_eight_bit_if_a_part_is(self) -> None:
        """RFC 2045, 6.4: no multipart of 7 bits with a part of 8."""
        octets = b"A: b\r\n\r\n\xfc\r\n"
        wire = written(Returned("message/rfc822", "Undelivered Message", "8bit", octets))
        assert_wire_form(wire, is_ascii=False)
        assert parsed(wire)["Content-Transfer-Encoding"] == "8bit"
        assert octets in wire

    def test_no_line_of_the_text_can_end_the_message(self) -> None:
        wire = written(text=".")
        assert_wire_form(wire)
        assert parts(wire)[0].get_payload() == ".\r\n"
        assert stuff_dots(b"a\r\n.\r\n..b\r\n") == b"a\r\n..\r\n...b\r\n"

    @pytest.mark.parametrize("guessed", ["=_SEED.0", "--=_SEED.0--", "--=_SEED.1"])
    def test_the_boundary_is_nobodys_line(self, guessed: str) -> None:
        wire = written(text=guessed)
        assert len(parts(wire)) == 3
        assert parts(wire)[0].get_payload() == f"{guessed}\r\n"

    def test_of_utf8_says_so(self) -> None:
        wire = written(text="Gr\u00fc\u00dfe", is_utf8=True)
        assert_wire_form(wire, is_ascii=False)
        assert b"Content-Type: text/plain; charset=utf-8\r\n" in wire
        assert b"Content-Type: message/global-delivery-status\r\n" in wire
        assert parsed(wire)["Content-Transfer-Encoding"] == "8bit"
        payload = subparts(parsed(wire))[0].get_payload(decode=True)
        assert payload == "Gr\u00fc\u00dfe\r\n".encode()


def test_a_plain_text_is_a_whole_message() -> None:
    wire = plain_text(head=HEAD, text=["Hello.", ".", "Bye."])
    assert_wire_form(wire)
    message = parsed(wire)
    assert (message.get_content_type(), message["Subject"]) == ("text/plain", "report")
    assert message.get_payload() == "Hello.\r\n.\r\nBye.\r\n"
    in_utf8 = plain_text(head=HEAD, text=["Gr\u00fc\u00dfe"], is_utf8=True)
    assert parsed(in_utf8).get_payload(decode=True) == "Gr\u00fc\u00dfe\r\n".encode()


class TestText:
    def test_of_strangers_is_printable_ascii_of_bounded_length(self) -> None:
        assert clean("a\r\nb\x00c\u20ac") == "a??b?c?"
        assert clean_bytes(b"a\r\n\xff") == "a???"
        assert len(clean("x" * 5000)) == VALUE_OCTETS_MAX

    def test_of_utf8_is_printable_and_of_bounded_octets(self) -> None:
        assert clean("\u20ac\r\n\u2028\x9b\u202e", is_utf8=True) == "\u20ac?????"
        assert clean_bytes("\u20ac".encode(), is_utf8=True) == "\u20ac"
        assert clean_bytes(b"\xff", is_utf8=True) == "\ufffd"
        cut = clean("\u20ac" * 1000, is_utf8=True)
        assert cut == "\u20ac" * (VALUE_OCTETS_MAX // 3)

    def test_is_wrapped_without_breaking_words(self) -> None:
        lines = wrap("word " * 40 + "x" * 100, indent="    ")
        assert all(line.startswith("    ") for line in lines)
        assert max(map(len, lines[:-1])) <= LINE_WIDTH
        assert lines[-1] == "    " + "x" * 100

    def test_of_a_field_is_folded_so_that_it_unfolds(self) -> None:
        field = "Diagnostic-Code: smtp; 550 " + "no " * 60
        first, *more = fold(field)
        assert first.startswith("Diagnostic-Code:")
        assert all(line.startswith("    ") for line in more)
        assert " ".join(" ".join([first, *more]).split()) == field.strip()
