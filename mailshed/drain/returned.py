"""The part of a report that brings back the original: its header section, or all of it.

All of it only if the sender asked for that (RET=FULL), if something failed (RFC 3461, 4.3), and if
it is not too long; a report is not to be a way to have a virus sent from a trusted place, nor to
fill a mailbox. The header section otherwise, cut at the end of a line.

What comes from outside is armoured wherever it is more than plain ASCII in short lines: a header
section as quoted-printable. A whole message may not be encoded (RFC 2046, 5.2.1), so it comes back
as 8-bit text, or not at all if it has lines that no server would pass.

In a report of UTF-8 (RFC 6533) the types are `message/global` and `message/global-headers`.

Pure.
"""

import re
from binascii import b2a_qp
from dataclasses import dataclass

OCTETS_MAX = 50_000
"""Most of the original that a report carries; Postfix's bounce_size_limit."""

# RFC 5322, 2.1.1: 998 octets in a line.
_PLAIN = re.compile(rb"(?:[\t\x20-\x7e]{0,998}\r\n)*")
_EIGHT_BIT = re.compile(rb"(?:[^\x00\r\n]{0,998}\r\n)*")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Returned:
    """A body for a part of a report, and what the part's header says of it."""

    content_type: str
    description: str
    encoding: str
    body: bytes


def returned(content: bytes, size: int, *, is_full: bool, is_utf8: bool) -> Returned | None:
    """What goes back of a message of `size` octets that begins with `content`, in wire form.

    None if it has no header section, so that there is nothing to show.
    """
    if is_full and 0 < size <= OCTETS_MAX and len(content) == size:
        whole = _whole(_unstuffed(_with_line_end(content)), is_utf8=is_utf8)
        if whole is not None:
            return whole
    header = _header_section(content)
    return _header(header, is_utf8=is_utf8) if header else None


def _whole(message: bytes, *, is_utf8: bool) -> Returned | None:
    """All of it, as it is; None if it cannot be shown so."""
    if _PLAIN.fullmatch(message):
        return Returned("message/rfc822", "Undelivered Message", "7bit", message)
    if not _EIGHT_BIT.fullmatch(message):
        return None
    header = message.partition(b"\r\n\r\n")[0]
    if header.isascii():
        return Returned("message/rfc822", "Undelivered Message", "8bit", message)
    if is_utf8 and _is_utf8_text(header):
        return Returned("message/global", "Undelivered Message", "8bit", message)
    return None


def _header(header: bytes, *, is_utf8: bool) -> Returned:
    """The header section, armoured unless it is plain."""
    if _PLAIN.fullmatch(header):
        return Returned("text/rfc822-headers", "Message header", "7bit", header)
    if is_utf8 and _EIGHT_BIT.fullmatch(header) and _is_utf8_text(header):
        return Returned("message/global-headers", "Message header", "8bit", header)
    encoded = b"".join(_quoted_printable(line) for line in header.split(b"\r\n")[:-1])
    return Returned("text/rfc822-headers", "Message header", "quoted-printable", encoded)


def _header_section(content: bytes) -> bytes:
    """Header lines at the start of `content`, undotted, whole lines, at most the bound."""
    if not content or content.startswith(b"\r\n"):
        return b""
    end = content.find(b"\r\n\r\n")
    section = content[: end + 2] if end >= 0 else content
    if len(section) > OCTETS_MAX:
        last_line_end = section.rfind(b"\r\n", 0, OCTETS_MAX)
        section = section[: last_line_end if last_line_end >= 0 else OCTETS_MAX]
    return _unstuffed(_with_line_end(section))


def _with_line_end(content: bytes) -> bytes:
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def _unstuffed(content: bytes) -> bytes:
    """RFC 5321, 4.5.2, the way back."""
    return content.removeprefix(b".").replace(b"\r\n.", b"\r\n")


def _is_utf8_text(octets: bytes) -> bool:
    """Whether it is UTF-8, and nothing in it moves a cursor."""
    try:
        return _CONTROL.search(octets.decode()) is None
    except UnicodeDecodeError:
        return False


def _quoted_printable(line: bytes) -> bytes:
    # Not in text mode, so a bare CR or LF is encoded too; the LF that remain are soft breaks.
    return b2a_qp(line, istext=False).replace(b"\n", b"\r\n") + b"\r\n"
