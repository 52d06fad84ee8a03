"""A header section as an operator may see it: what explains the way of a message, and no more.

Which fields there are is always shown. Values are shown of those that servers write or that name
the kind of mail (trace, identification, list and precedence fields); of the originator and
recipient fields the addresses alone, since the names beside them may be patients'; of content
fields the type alone, since file names are in their parameters. Everything else, `Subject` above
all, is a number of characters. Addresses of patients are masked wherever they stand.
"""

import re
from typing import NamedTuple

from mailshed.mail.header import HeaderView
from mailshed.mail.privacy import mask_text

FIELDS_SHOWN_MAX = 200
VALUE_SHOWN_MAX = 500
"""Characters of one value; its end is left out."""

_WHOLE = frozenset(
    {
        *("received", "return-path", "delivered-to", "x-original-to"),
        *("date", "message-id", "in-reply-to", "resent-date", "resent-message-id"),
        *("list-id", "precedence", "auto-submitted", "importance", "priority", "x-priority"),
        *("mime-version", "content-transfer-encoding"),
        *("authentication-results", "received-spf"),
    }
)
_ADDRESSES = frozenset(
    {
        *("from", "sender", "reply-to", "to", "cc", "errors-to", "disposition-notification-to"),
        *("resent-from", "resent-sender", "resent-to", "resent-cc"),
    }
)
_TYPES = frozenset({"content-type", "content-disposition"})
# Only where a word begins: else each of its characters would be a beginning, and one long word cost
# seconds, in which no other thread runs.
_ADDRESS = re.compile(r'(?<![^\s<>()\[\],;:"@])[^\s<>()\[\],;:"@]++@[^\s<>()\[\],;:"@]++')
_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+/-]+")


class ShownField(NamedTuple):
    """One field: its name in lower case, and as much of its value as may be seen."""

    name: str
    value: str


def redacted(head: bytes) -> list[ShownField]:
    """The fields of the header section at the start of `head` (wire form), alike names together."""
    fields = HeaderView(head).items()[:FIELDS_SHOWN_MAX]
    return [ShownField(_bounded(name), _shown(name, value)) for name, value in fields]


def _shown(name: str, value: str) -> str:
    if name in _WHOLE:
        text = value
    elif name in _ADDRESSES:
        text = ", ".join(_ADDRESS.findall(value)) or _length(value)
    elif name in _TYPES and (match := _TYPE.match(value)):
        text = match[0]
    else:
        text = _length(value)
    return _bounded(text)


def _length(value: str) -> str:
    return f"({len(value)} character{'' if len(value) == 1 else 's'})"


def _bounded(text: str) -> str:
    masked = mask_text(text)
    shown = "".join(each if each.isprintable() else "?" for each in masked)
    return shown if len(shown) <= VALUE_SHOWN_MAX else shown[: VALUE_SHOWN_MAX - 3] + "..."
