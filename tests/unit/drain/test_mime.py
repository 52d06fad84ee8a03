"""The outer form of a report: parts that stay parts, whatever is put into them."""

from email.message import Message

import pytest

from mailshed.drain.mime import (
    HEADER_OCTETS_MAX,
    LINE_WIDTH,
    VALUE_OCTETS_MAX,
    clean,
    clean_bytes,
    fold,
    multipart_report,
    wrap,
)
from tests.support.reports import assert_wire_form, parsed, parts, subparts

HEADER = b"From: alice@example.org\r\nSubject: Results\r\nMessage-ID: <1@example.org>\r\n"
BODY = b"\r\nThe body, which is nobody's business.\r\n"


def written(header: bytes = HEADER + BODY, *, seed: str = "SEED", text: str = "Hello.") -> bytes:
    return multipart_report(
        head=["From: Mail Delivery System <postmaster@example.org>", "Subject: report"],
        text=[text],
        status=["Reporting-MTA: dns; mx.example.org", "", "Action: failed"],
        content=header,
        seed=seed,
    )


def header_part(wire: bytes) -> Message:
    return parts(wire)[2]


class TestForm:
    def test_is_what_was_put_in(self) -> None:
        wire = written()
        assert_wire_form(wire)
        message = parsed(wire)
        assert (message["Subject"], message["MIME-Version"]) == ("report", "1.0")
        assert message.get_content_type() == "multipart/report"
        text, status, _ = parts(wire)
        assert text.get_payload() == "Hello.\r\n"
        assert [block.items() for block in subparts(status)] == [
            [("Reporting-MTA", "dns; mx.example.org")],
            [("Action", "failed")],
        ]

    def test_no_line_of_the_text_can_end_the_message(self) -> None:
        wire = written(text=".")
        assert_wire_form(wire)
        assert parts(wire)[0].get_payload() == ".\r\n"

    @pytest.mark.parametrize("guessed", ["=_SEED.0", "--=_SEED.0--", "--=_SEED.1"])
    def test_the_boundary_is_nobodys_line(self, guessed: str) -> None:
        wire = written(text=guessed)
        assert len(parts(wire)) == 3
        assert parts(wire)[0].get_payload() == f"{guessed}\r\n"


class TestHeaderPart:
    def test_is_the_header_section_as_it_came_and_nothing_of_the_body(self) -> None:
        part = header_part(written())
        assert part.get_payload(decode=True) == HEADER
        assert part["Content-Transfer-Encoding"] == "7bit"
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
            wire = written(header + b"\r\nbody\r\n")
            assert_wire_form(wire)
            assert header_part(wire).get_payload(decode=True) == header

    def test_is_cut_at_the_end_of_a_line(self) -> None:
        field = b"X-Many: " + b"x" * 90 + b"\r\n"
        payload = header_part(written(field * 1000 + b"\r\nbody")).get_payload(decode=True)
        assert isinstance(payload, bytes)
        assert payload == field * (HEADER_OCTETS_MAX // len(field))

    def test_of_one_endless_line_is_cut_too(self) -> None:
        wire = written(b"X" * 200_000)
        assert_wire_form(wire)
        payload = header_part(wire).get_payload(decode=True)
        assert payload == b"X" * HEADER_OCTETS_MAX + b"\r\n"

    def test_of_a_header_that_was_cut_off_elsewhere_is_whole_lines(self) -> None:
        payload = header_part(written(b"A: b\r\nSubject: cut o")).get_payload(decode=True)
        assert payload == b"A: b\r\nSubject: cut o\r\n"

    @pytest.mark.parametrize("content", [b"", b"\r\nno header at all\r\n"])
    def test_is_left_out_if_there_is_no_header(self, content: bytes) -> None:
        assert len(subparts(parsed(written(content)))) == 2

    def test_loses_the_dots_that_were_stuffed_and_gets_its_own(self) -> None:
        """The header arrives in wire form; a line that begins with a dot has two there."""
        wire = written(b"..odd: 1\r\nA: b\r\n..odd: 2\r\n\r\nbody")
        assert_wire_form(wire)
        payload = header_part(wire).get_payload(decode=True)
        assert payload == b".odd: 1\r\nA: b\r\n.odd: 2\r\n"


class TestText:
    def test_of_strangers_is_printable_ascii_of_bounded_length(self) -> None:
        assert clean("a\r\nb\x00c\u20ac") == "a??b?c?"
        assert clean_bytes(b"a\r\n\xff") == "a???"
        assert len(clean("x" * 5000)) == VALUE_OCTETS_MAX

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
