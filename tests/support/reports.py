"""Reports as their readers see them: two parsers that are not ours, and the bare form.

`email` takes a report apart; `flufl.bounce` is what mailing list software finds failed and delayed
recipients with.
"""

import email
import re
from email.message import Message

from flufl.bounce import all_failures


def unstuffed(wire: bytes) -> bytes:
    """What a receiver makes of the wire form (RFC 5321, 4.5.2)."""
    return re.sub(rb"(?m)^\.", b"", wire)


def parsed(wire: bytes) -> Message:
    """The message as the standard library reads it."""
    return email.message_from_bytes(unstuffed(wire))


def subparts(message: Message) -> list[Message]:
    """The parts of a multipart."""
    payload = message.get_payload()
    assert isinstance(payload, list)
    return [part for part in payload if isinstance(part, Message)]


def parts(wire: bytes) -> tuple[Message, Message, Message]:
    """The three parts, which must be three."""
    text, status, header = subparts(parsed(wire))
    return text, status, header


def fields(wire: bytes) -> list[Message]:
    """The blocks of the delivery status: about the message, then one for each recipient."""
    return subparts(subparts(parsed(wire))[1])


def text_of(wire: bytes) -> str:
    """The part for people, on one line."""
    return " ".join(str(subparts(parsed(wire))[0].get_payload()).split())


def bounce_processor(wire: bytes) -> tuple[set[bytes], set[bytes]]:
    """Whom a bounce processor takes for delayed, and whom for failed."""
    delayed, failed = all_failures(parsed(wire))
    return set(delayed), set(failed)


def assert_wire_form(wire: bytes, *, is_ascii: bool = True) -> None:
    """Lines end in CRLF and are short enough, dots are stuffed, all is ASCII (or 8-bit)."""
    assert wire.endswith(b"\r\n")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\x00", wire)
    assert not re.search(rb"(?m)^\.(?!\.)", wire)
    assert wire.isascii() or not is_ascii
    assert max(map(len, wire.split(b"\r\n"))) <= 998
