"""Failure reports as their reader sees them: what a delivered file says about another message.

Parsed with the library's own parser and judged by RFC 3464 and RFC 6522, not by how mailshed writes
them. One report has one Message-ID; two files with the same are two copies of one report, while two
ids about the same recipient are two reports.
"""

import email
import email.policy
from dataclasses import dataclass
from email.message import Message

from tests.support.postfix import Delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureReport:
    """A delivery status notification that says 'failed'."""

    message_id: str
    addressee: str
    """Whose mailbox it is in."""
    about: tuple[str, ...]
    """The addresses of Final-Recipient."""
    has_null_reverse_path: bool
    """As it must (RFC 5321, 4.5.5), or two servers could report to each other for ever."""


def read_report(delivered: Delivered) -> FailureReport | None:
    """What `delivered` reports, or None if it is no report."""
    if b"multipart/report" not in delivered.content:
        return None  # spares the parser nearly all files
    parsed = email.message_from_bytes(delivered.content, policy=email.policy.compat32)
    if parsed.get_content_type() != "multipart/report":
        return None
    about = tuple(
        block["Final-Recipient"].partition(";")[2].strip()
        for block in _status_blocks(parsed)
        if block["Action"] == "failed"
    )
    return FailureReport(
        message_id=str(parsed["Message-ID"]),
        addressee=delivered.recipient,
        about=about,
        has_null_reverse_path=parsed["Return-Path"] == "<>",
    )


def _status_blocks(parsed: Message) -> list[Message]:
    """The blocks about one recipient each: all of the status part but its first."""
    for part in parsed.walk():
        if part.get_content_type() == "message/delivery-status":
            blocks = part.get_payload()
            assert isinstance(blocks, list), "the parser makes a list of blocks"
            return [block for block in blocks[1:] if isinstance(block, Message)]
    return []
