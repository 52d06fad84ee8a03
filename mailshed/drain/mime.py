"""The outer form of a report: a text for people, fields for programs, the original's header.

RFC 6522 (multipart/report) says what the parts are. What is put into them has come from outside
(replies, addresses, the original's header) and is hostile until shown otherwise: field values are
printable ASCII of bounded length, the header section is quoted-printable unless it is plain, and
the boundary occurs in none of the parts.
"""

import re
import textwrap
from binascii import b2a_qp
from collections.abc import Sequence

HEADER_OCTETS_MAX = 50_000
"""Most of the original's header section that a report carries; Postfix's bounce_size_limit."""
# RFC 5322, 2.1.1 allows 998 octets a line; field name and fold need some.
VALUE_OCTETS_MAX = 900
LINE_WIDTH = 76

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_PLAIN = re.compile(rb"(?:[\t\x20-\x7e]{0,998}\r\n)*")


def multipart_report(
    *, head: Sequence[str], text: Sequence[str], status: Sequence[str], content: bytes, seed: str
) -> bytes:
    """Write a report in wire form without the final dot.

    `head` are its header fields, but for those of MIME; `text` and `status` the lines of the first
    two parts; `content` is the start of the original's content, of which only the header section
    is used. `seed` makes the boundary; all of these lines are clean.
    """
    parts = [
        _part("text/plain; charset=us-ascii", "Notification", _lines(*text)),
        _part("message/delivery-status", "Delivery report", _lines(*status)),
    ]
    if header := _header_section(content):
        parts.append(_header_part(header))
    boundary = _boundary(seed, parts)
    delimiter = b"--" + boundary
    mime = _lines(
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary.decode()}"',
        "",
        "This is a delivery report in MIME format (RFC 3464).",
        "",
    )
    body = b"".join(delimiter + b"\r\n" + part for part in parts)
    return _stuff_dots(_lines(*head) + mime + body + delimiter + b"--\r\n")


def clean(text: str) -> str:
    """Printable ASCII of a length that fits a field."""
    return _UNPRINTABLE.sub("?", text)[:VALUE_OCTETS_MAX]


def clean_bytes(octets: bytes) -> str:
    """The same of octets whose encoding nobody knows."""
    return clean(octets.decode("latin-1"))


def wrap(text: str, indent: str = "") -> list[str]:
    """A paragraph on as many lines as it needs, without breaking words."""
    return textwrap.wrap(
        text,
        LINE_WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def fold(field: str) -> list[str]:
    """A header field on as many lines as it needs, without breaking words (RFC 5322, 2.2.3)."""
    return textwrap.wrap(
        field, LINE_WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def _header_part(header: bytes) -> bytes:
    """The original's header section, armoured unless it is plain ASCII in short lines."""
    if _PLAIN.fullmatch(header):
        return _part("text/rfc822-headers", "Message header", header)
    encoded = b"".join(_quoted_printable(line) for line in header.split(b"\r\n")[:-1])
    return _part("text/rfc822-headers", "Message header", encoded, "quoted-printable")


def _quoted_printable(line: bytes) -> bytes:
    # Not in text mode, so a bare CR or LF is encoded too; the LF that remain are soft breaks.
    return b2a_qp(line, istext=False).replace(b"\n", b"\r\n") + b"\r\n"


def _header_section(content: bytes) -> bytes:
    """Header lines at the start of `content`, undotted, whole lines, at most the bound."""
    if not content or content.startswith(b"\r\n"):
        return b""
    end = content.find(b"\r\n\r\n")
    section = content[: end + 2] if end >= 0 else content
    if len(section) > HEADER_OCTETS_MAX:
        last_line_end = section.rfind(b"\r\n", 0, HEADER_OCTETS_MAX)
        section = section[: last_line_end if last_line_end >= 0 else HEADER_OCTETS_MAX]
    if not section.endswith(b"\r\n"):
        section += b"\r\n"
    return section.removeprefix(b".").replace(b"\r\n.", b"\r\n")


def _part(content_type: str, description: str, body: bytes, encoding: str = "7bit") -> bytes:
    return (
        _lines(
            f"Content-Type: {content_type}",
            f"Content-Description: {description}",
            f"Content-Transfer-Encoding: {encoding}",
            "",
        )
        + body
        + b"\r\n"
    )


def _boundary(seed: str, parts: Sequence[bytes]) -> bytes:
    """A delimiter that occurs in none of the parts."""
    attempt = 0
    while True:
        boundary = f"=_{seed}.{attempt}".encode()
        if not any(boundary in part for part in parts):
            return boundary
        attempt += 1


def _lines(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _stuff_dots(content: bytes) -> bytes:
    """RFC 5321, 4.5.2. Our own first line does not begin with a dot."""
    return content.replace(b"\r\n.", b"\r\n..")
