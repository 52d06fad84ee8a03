"""The outer form of a report: a text for people, fields for programs, what goes back of the mail.

RFC 6522 (multipart/report) says what the parts are, RFC 6533 what they are called in UTF-8. What is
put into them has come from outside (replies, addresses, the original itself) and is hostile until
shown otherwise: field values are printable and of bounded length, and the boundary occurs in none
of the parts. What is in ASCII can go anywhere; only a report to an address that is itself not ASCII
is written in UTF-8, since whoever has that address can read it.

Pure.
"""

import re
import textwrap
from collections.abc import Sequence

from mailshed.drain.returned import Returned

# RFC 5322, 2.1.1 allows 998 octets a line; field name and fold need some.
VALUE_OCTETS_MAX = 900
LINE_WIDTH = 76

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def multipart_report(
    *,
    head: Sequence[str],
    text: Sequence[str],
    status: Sequence[str],
    returned: Returned | None,
    seed: str,
    is_utf8: bool = False,
) -> bytes:
    """Write a report in wire form without the final dot.

    `head` are its header fields, but for those of MIME; `text` and `status` the lines of the first
    two parts. `seed` makes the boundary; all of these lines are clean.
    """
    charset, status_type = ("utf-8", "global-delivery") if is_utf8 else ("us-ascii", "delivery")
    encoding = "8bit" if is_utf8 else "7bit"
    parts = [
        _part(f"text/plain; charset={charset}", "Notification", encoding, _lines(*text)),
        _part(f"message/{status_type}-status", "Delivery report", encoding, _lines(*status)),
    ]
    if returned is not None:
        about, its_encoding = returned.description, returned.encoding
        parts.append(_part(returned.content_type, about, its_encoding, returned.body))
        encoding = "8bit" if its_encoding == "8bit" else encoding
    boundary = _boundary(seed, parts)
    delimiter = b"--" + boundary
    mime = _lines(
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary.decode()}"',
        f"Content-Transfer-Encoding: {encoding}",
        "",
        "This is a delivery report in MIME format (RFC 3464).",
        "",
    )
    body = b"".join(delimiter + b"\r\n" + part for part in parts)
    return stuff_dots(_lines(*head) + mime + body + delimiter + b"--\r\n")


def plain_text(*, head: Sequence[str], text: Sequence[str], is_utf8: bool = False) -> bytes:
    """Write a message of one text, in wire form without the final dot; all lines are clean."""
    charset, encoding = ("utf-8", "8bit") if is_utf8 else ("us-ascii", "7bit")
    mime = (
        "MIME-Version: 1.0",
        f"Content-Type: text/plain; charset={charset}",
        f"Content-Transfer-Encoding: {encoding}",
    )
    return stuff_dots(_lines(*head, *mime, "", *text))


def clean(text: str, *, is_utf8: bool = False) -> str:
    """Printable text of a length that fits a field: ASCII, or any with `is_utf8`."""
    if not is_utf8 or text.isascii():
        return _UNPRINTABLE.sub("?", text)[:VALUE_OCTETS_MAX]
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown.encode("utf-8", "replace")[:VALUE_OCTETS_MAX].decode("utf-8", "ignore")


def clean_bytes(octets: bytes, *, is_utf8: bool = False) -> str:
    """The same of octets; their encoding is UTF-8, or nobody knows."""
    if octets.isascii():
        return clean(octets.decode("ascii"))
    if not is_utf8:
        return clean(octets.decode("latin-1"))
    return clean(octets.decode("utf-8", "replace"), is_utf8=True)


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


def stuff_dots(content: bytes) -> bytes:
    """RFC 5321, 4.5.2. Our own first line does not begin with a dot."""
    return content.replace(b"\r\n.", b"\r\n..")


def _part(content_type: str, description: str, encoding: str, body: bytes) -> bytes:
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
    return "".join(f"{line}\r\n" for line in lines).encode()
