"""What comes back of the original: its header, or all of it, and never more than that."""

import quopri
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.drain.returned import OCTETS_MAX, Returned, returned

HEADER = b"From: alice@example.org\r\nSubject: Results\r\nMessage-ID: <1@example.org>\r\n"
BODY = b"\r\nThe body, which is nobody's business.\r\n"


def back(content: bytes, *, is_full: bool = False, is_utf8: bool = False) -> Returned:
    """What comes back of a message of which all is known."""
    found = returned(content, len(content), is_full=is_full, is_utf8=is_utf8)
    assert found is not None
    return found


def decoded(found: Returned) -> bytes:
    if found.encoding == "quoted-printable":
        return quopri.decodestring(found.body)
    return found.body


class TestHeader:
    def test_is_the_header_section_as_it_came_and_nothing_of_the_body(self) -> None:
        assert back(HEADER + BODY) == Returned(
            "text/rfc822-headers", "Message header", "7bit", HEADER
        )

    @pytest.mark.parametrize(
        "field",
        [
            "Subject: Pr\u00fcfung\r\n".encode(),
            b"Subject: \xff\xfe\r\n",
            b"X-Long: " + b"x" * 10_000 + b"\r\n",
            b"X-Bare: a\rb\nc\x00d\r\n",
            b"X-Trailing: space \t\r\n",
            b"X-Equals: =3D=\r\n\t=\r\n",
        ],
    )
    def test_is_unchanged_if_it_is_eight_bit_or_has_long_lines(self, field: bytes) -> None:
        found = back(HEADER + field + BODY)
        assert decoded(found) == HEADER + field
        assert found.body.isascii()
        assert max(map(len, found.body.split(b"\r\n"))) <= 998

    def test_is_cut_at_the_end_of_a_line(self) -> None:
        field = b"X-Many: " + b"x" * 90 + b"\r\n"
        found = back(field * 1000 + b"\r\nbody")
        assert found.body == field * (OCTETS_MAX // len(field))

    def test_of_one_endless_line_is_cut_too(self) -> None:
        assert decoded(back(b"X" * 200_000)) == b"X" * OCTETS_MAX + b"\r\n"

    def test_of_a_header_that_was_cut_off_elsewhere_is_whole_lines(self) -> None:
        assert back(b"A: b\r\nSubject: cut o").body == b"A: b\r\nSubject: cut o\r\n"

    @pytest.mark.parametrize("content", [b"", b"\r\nno header at all\r\n"])
    def test_is_left_out_if_there_is_none(self, content: bytes) -> None:
        assert returned(content, len(content), is_full=False, is_utf8=False) is None

    def test_loses_the_dots_that_were_stuffed(self) -> None:
        """The content is in wire form; a line that begins with a dot has two there."""
        assert back(b"..odd: 1\r\nA: b\r\n..odd: 2\r\n\r\nbody").body == (
            b".odd: 1\r\nA: b\r\n.odd: 2\r\n"
        )


class TestWhole:
    def test_is_the_message(self) -> None:
        assert back(HEADER + BODY, is_full=True) == Returned(
            "message/rfc822", "Undelivered Message", "7bit", HEADER + BODY
        )

    def test_is_eight_bit_if_its_body_is(self) -> None:
        body = "\r\nGr\u00fc\u00dfe\r\n".encode("latin-1")
        found = back(HEADER + body, is_full=True)
        assert (found.content_type, found.encoding) == ("message/rfc822", "8bit")
        assert found.body == HEADER + body

    def test_loses_the_dots_and_gets_its_last_line_end(self) -> None:
        assert back(HEADER + b"\r\n..dot\r\n.. \r\nend", is_full=True).body == (
            HEADER + b"\r\n.dot\r\n. \r\nend\r\n"
        )

    def test_may_have_no_header(self) -> None:
        assert back(b"\r\nno header at all\r\n", is_full=True).body == b"\r\nno header at all\r\n"

    def test_of_the_largest_size_comes_back_and_nothing_larger(self) -> None:
        body = b"\r\n" + b"x" * 98 + b"\r\n"
        fits = HEADER + b"\r\n" + (b"x" * 98 + b"\r\n") * 1000
        fits = fits[: OCTETS_MAX - 2] + b"\r\n"
        assert back(fits, is_full=True).body == fits
        assert back(fits + body, is_full=True).content_type == "text/rfc822-headers"

    @pytest.mark.parametrize(
        "body",
        [b"x" * 10_000, b"a\rb", b"a\nb", b"nul\x00", b"ok\r\n" + b"\xff" * 999],
        ids=["long", "bare CR", "bare LF", "NUL", "long and 8-bit"],
    )
    def test_is_only_the_header_if_the_rest_is_no_mail(self, body: bytes) -> None:
        """A message may not be armoured (RFC 2046, 5.2.1), and this could not pass."""
        found = back(HEADER + b"\r\n" + body + b"\r\n", is_full=True)
        assert (found.content_type, found.body) == ("text/rfc822-headers", HEADER)

    def test_is_only_the_header_if_that_is_eight_bit_in_a_report_of_ascii(self) -> None:
        header = "Subject: Pr\u00fcfung\r\n".encode()
        found = back(header + BODY, is_full=True)
        assert (found.content_type, found.encoding) == ("text/rfc822-headers", "quoted-printable")

    def test_is_only_the_header_if_the_rest_is_not_known(self) -> None:
        found = returned(HEADER + BODY, 10_000, is_full=True, is_utf8=False)
        assert found is not None
        assert found.content_type == "text/rfc822-headers"
        assert returned(HEADER + BODY, 0, is_full=True, is_utf8=False) == found


class TestUtf8:
    """RFC 6533, for a reader whose own address is not ASCII."""

    SUBJECT = "Subject: Pr\u00fcfung\r\n".encode()

    def test_has_types_of_its_own(self) -> None:
        header = back(self.SUBJECT + BODY, is_utf8=True)
        assert (header.content_type, header.encoding) == ("message/global-headers", "8bit")
        assert header.body == self.SUBJECT
        whole = back(self.SUBJECT + BODY, is_full=True, is_utf8=True)
        assert (whole.content_type, whole.encoding) == ("message/global", "8bit")
        assert whole.body == self.SUBJECT + BODY

    def test_of_ascii_is_as_ever(self) -> None:
        assert back(HEADER + BODY, is_utf8=True) == back(HEADER + BODY)

    @pytest.mark.parametrize(
        "field", [b"Subject: \xff\xfe\r\n", "X: a\u2028b\r\n".encode(), "X: \x9b2J\r\n".encode()]
    )
    def test_is_armoured_if_it_is_no_text(self, field: bytes) -> None:
        for is_full in (False, True):
            found = back(field + BODY, is_full=is_full, is_utf8=True)
            assert found.encoding == "quoted-printable"
            assert decoded(found) == field


_OCTETS = st.lists(st.sampled_from([*b"\r\n.-=: \tAx\x00\xff", 10, 13]), max_size=120).map(bytes)


@settings(max_examples=300, deadline=None)
@given(_OCTETS, st.booleans(), st.booleans())
def test_whatever_comes_fits_into_a_part(data: bytes, is_full: bool, is_utf8: bool) -> None:
    found = returned(b"A: b\r\n" + data, 6 + len(data), is_full=is_full, is_utf8=is_utf8)
    assert found is not None
    assert found.body.endswith(b"\r\n")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\x00", found.body)
    assert found.body.isascii() or found.encoding == "8bit"
