"""How one event becomes one line: text (logfmt) or JSON, with the same fields in the same order.

A value with spaces, quotes, '=' or anything that is not printable ASCII is written as a JSON
string. A line is therefore ASCII without control characters, whatever a client or a backend sent:
it cannot start a new line, colour a terminal or pass for another field, and a reader gets each
value back exactly. Values longer than `VALUE_MAX` characters lose their end, but for `traceback`,
which is bounded where it is made.

Replies and errors of other programs quote addresses, so those of patients are masked wherever they
stand in a value: `redacted` is applied to long values before they are cut, and by the caller to
all fields when `names_patient` says that a finished line needs it (which is cheaper than looking
at each value).
"""

import json
import re
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache

from mailshed.mail.privacy import PATIENT_DOMAIN, mask_text

VALUE_MAX = 256
"""Characters of one value, before escaping."""

Value = str | int | float | Enum | None
"""A field of an event; fields that are None are left out, an enum stands for its word."""
Fields = Mapping[str, Value]

# What may stand bare in logfmt: printable ASCII but space, quote, equals sign and backslash.
_is_bare = re.compile(r"[!#-<>-\[\]-~]+").fullmatch
_UNPRINTABLE = re.compile(r"[^ !#-\[\]-~]")


def text_line(stamp: str, level: str, identity: str, event: str, fields: Fields) -> str:
    """`stamp level identity event=... key=value ...` and a newline."""
    parts = [stamp, level, identity if _is_bare(identity) else _quoted(identity), "event=" + event]
    for key, value in fields.items():
        # By exact type, the common one first: this loop is most of the price of a line.
        if type(value) is str and len(value) <= VALUE_MAX:
            parts.append(f"{key}={_quoted(value) if ' ' in value else _word(value)}")
        elif type(value) is int or type(value) is float:
            parts.append(f"{key}={value}")
        elif value is not None:
            text = _bounded(key, value)
            parts.append(f"{key}={text if _is_bare(text) else _quoted(text)}")
    return " ".join(parts) + "\n"


def json_line(stamp: str, level: str, identity: str, event: str, fields: Fields) -> str:
    """One JSON object and a newline."""
    record: dict[str, str | int | float] = {
        "time": stamp,
        "level": level,
        "id": identity,
        "event": event,
    }
    for key, value in fields.items():
        if isinstance(value, int | float):
            record[key] = value
        elif value is not None:
            record[key] = _bounded(key, value)
    return json.dumps(record).replace("\x7f", "\\u007f") + "\n"


def names_patient(line: str) -> bool:
    """Whether a patient's domain stands in this line, masked already or not."""
    return PATIENT_DOMAIN in line.lower()


def redacted(fields: Fields) -> Fields:
    """The fields with each patient's address masked, wherever in a text it stands."""
    return {
        key: mask_text(value) if isinstance(value, str) else value for key, value in fields.items()
    }


def _bounded(key: str, value: str | float | Enum) -> str:
    text = str(value.value if isinstance(value, Enum) else value)
    if len(text) > VALUE_MAX and key != "traceback":
        return mask_text(text)[: VALUE_MAX - 3] + "..."
    return text


@lru_cache(maxsize=4096)
def _word(text: str) -> str:
    """`text`, which has no space, bare or quoted: names and addresses come again and again."""
    return text if _is_bare(text) else _quoted(text)


def _quoted(text: str) -> str:
    """`text` as a JSON string in ASCII; DEL too, the one control that JSON lets through."""
    if _UNPRINTABLE.search(text) is None:
        return f'"{text}"'
    return json.dumps(text).replace("\x7f", "\\u007f")
