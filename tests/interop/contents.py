"""What is sent: four kinds of mail, and whether one has arrived as it was sent.

The bodies have what servers stumble over: dots at line starts, a line `From `, blank lines, spaces
at the end of a line, and a line of nearly 998 octets (RFC 5322, 2.1.1). All end in one line ending.

Clients that send a message as it is given are compared octet for octet, header included; those that
compose one (s-nail, PHPMailer) by the decoded body. What stands above the message may only be trace
fields, and just one of them is ours.
"""

import base64
import email
import random
import re
from dataclasses import dataclass
from email.policy import compat32
from enum import StrEnum

DATE = "Sun, 22 Nov 2026 10:00:00 +0000"
BIG_OCTETS = 20 * 1024**2


class Content(StrEnum):
    """The kinds."""

    SMALL = "small"
    EIGHT_BIT = "8-bit"
    UTF8 = "SMTPUTF8"
    BIG = "20 MB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message to one recipient."""

    name: str
    """Unique in a run."""
    content: Content
    sender: str
    recipient: str
    subject: str
    body: bytes
    """With LF line endings."""

    @property
    def is_utf8(self) -> bool:
        """Whether its addresses and header need SMTPUTF8 (RFC 6531)."""
        return not f"{self.sender}{self.recipient}".isascii()

    @property
    def is_8bit(self) -> bool:
        """Whether it needs 8BITMIME (RFC 6152)."""
        return self.is_utf8 or not self.body.isascii()

    @property
    def text(self) -> bytes:
        """Header and body, with LF line endings."""
        coding = "8bit" if self.is_8bit else "7bit"
        header = (
            f"From: {self.sender}\nTo: {self.recipient}\nSubject: {self.subject}\nDate: {DATE}\n"
            f"Message-ID: <{self.name}@interop.example>\n"
            "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
            f"Content-Transfer-Encoding: {coding}\n\n"
        )
        return header.encode() + self.body


_LINES = (
    b".a dot at the start of a line\n..two\n.\n\nFrom here on, and >From there.\n"
    b"spaces at the end  \n" + b"x" * 990 + b"\n\n.\n"
)


def message(content: Content, name: str, *, domain: str) -> Message:
    """The message `name` for somebody of a domain."""
    is_utf8 = content is Content.UTF8
    return Message(
        name=name,
        content=content,
        sender="jürgen@bücher.example" if is_utf8 else "ward@personal.example",
        recipient=f"{'ärztin' if is_utf8 else 'keeper'}+{name}@{domain}",
        subject="Grüße aus dem Labor" if is_utf8 else "Results of the laboratory",
        body=_BODIES[content] + f"End of {name}.\n".encode(),
    )


def _big() -> bytes:
    chance = random.Random(1).randbytes(BIG_OCTETS // 77 * 57)
    return base64.encodebytes(chance)


_BODIES = {
    Content.SMALL: _LINES,
    Content.EIGHT_BIT: _LINES + "Blutdruck 120/80, Größe 1,80 m, 体温 36.6 °C\n".encode() * 20,
    Content.UTF8: _LINES + "Köln, 用户, ελληνικά\n".encode(),
    Content.BIG: _LINES + _big(),
}

# Fields that a server adds on top of what it takes.
_TRACE = re.compile(
    rb"(?:Received|Return-Path|Delivered-To|X-Original-To|Envelope-To|X-Envelope-To"
    rb"|Authentication-Results):",
    re.IGNORECASE,
)
_FIELD = re.compile(rb"[^\n]+\n(?:[ \t][^\n]*\n)*")


@dataclass(frozen=True, slots=True)
class Trace:
    """What stands above a message that arrived whole, unfolded."""

    ours: str
    """Our Received field."""
    theirs: str
    """All others, which the backend has added."""


class AlteredError(AssertionError):
    """What arrived is not what was sent; the text says where."""


def check_arrived(sent: Message, arrived: bytes, *, is_composed: bool) -> Trace:
    """Return the trace above the message; raise AlteredError if it is not what was sent.

    `arrived` has LF line endings. `is_composed`: the client made the header itself.
    """
    if is_composed:
        # PHPMailer ends the body once more.
        _compare(_decoded(arrived).rstrip(b"\n"), sent.body.rstrip(b"\n"))
        fields = _FIELD.findall(arrived.partition(b"\n\n")[0] + b"\n")
        top = [field for field in fields if _TRACE.match(field)]
    else:
        _compare(arrived[-len(sent.text) :], sent.text)
        above = arrived[: -len(sent.text)]
        top = _FIELD.findall(above)
        strange = [field for field in top if not _TRACE.match(field)]
        if b"".join(top) != above or strange:
            raise AlteredError(f"added on top: {above!r}")
    unfolded = [b" ".join(field.split()).decode() for field in top]
    ours = [field for field in unfolded if "(mailshed) with " in field]
    if len(ours) != 1:
        raise AlteredError(f"{len(ours)} Received fields of ours: {unfolded}")
    return Trace(ours[0], "\n".join(field for field in unfolded if field != ours[0]))


def _decoded(text: bytes) -> bytes:
    parsed = email.message_from_bytes(text, policy=compat32)
    decoded = parsed.get_payload(decode=True)
    assert isinstance(decoded, bytes), "it has parts"
    return decoded.replace(b"\r\n", b"\n")


def _compare(found: bytes, wanted: bytes) -> None:
    if found == wanted:
        return
    pairs = zip(found, wanted, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(wanted)))
    near = slice(max(0, at - 40), at + 40)
    raise AlteredError(
        f"{len(found)} octets in place of {len(wanted)}; octet {at}: "
        f"{found[near]!r} in place of {wanted[near]!r}"
    )
