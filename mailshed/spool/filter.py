"""Which messages of the queue are meant: one grammar for command line, admin socket and reader.

A filter is a set of conditions, and a message matches if it meets all of them. Within a condition
the values are alternatives, however they are written: `--class bulk,telework` is the same as
`--class bulk --class telework`.

===============  ===============================================================================
`class`          name of a traffic class
`state`          the message's state: that of its liveliest recipient
`from`, `rcpt`   an address, `@example.org`, or `@.example.org` for all domains below that one
                 (as `domains` in the configuration has it); `<>` is the null reverse-path.
                 Letters count alike in both cases. A message matches with any of its recipients
                 that have not ended
`older-than`,    age since arrival: `10m`, `4h`, `2d`; one value each
`younger-than`
`backend`        name of the backend that it is for
`id`             queue id
===============  ===============================================================================

On its way to the service a filter is text again: `parse_filter(wanted.parameters)` is `wanted`. Its
length is bounded, so that a request with it is.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mailshed.config.units import format_duration, parse_duration
from mailshed.errors import AddressSyntaxError, RequestError
from mailshed.mail.address import parse_mailbox
from mailshed.terms import QueueId, SpoolState

T = TypeVar("T")

NULL_PATH = "<>"
NAMES = ("class", "state", "from", "rcpt", "backend", "older-than", "younger-than", "id")
"""Of the conditions, wherever a filter is text."""

VALUES_MAX = 1000
"""Values of one condition."""
CHARACTERS_MAX = 20_000
"""Of all values together: a thousand queue ids with their commas."""
CLASS_NAME_MAX = 64

_QUEUE_ID = re.compile(r"[0-9A-Za-z]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFilter:
    """Conditions on messages; a condition without values is met by all."""

    classes: tuple[str, ...] = ()
    states: tuple[SpoolState, ...] = ()
    senders: tuple[str, ...] = ()
    """Lower case: `alice@example.org`, `@example.org`, `@.example.org` or `<>`."""
    recipients: tuple[str, ...] = ()
    """The same, without `<>`."""
    backends: tuple[str, ...] = ()
    older_than: float | None = None
    """Seconds since arrival, at least."""
    younger_than: float | None = None
    """Seconds since arrival, less than this."""
    ids: tuple[QueueId, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it is met by every message."""
        return self == QueueFilter()

    @property
    def names_messages(self) -> bool:
        """Whether it is a list of queue ids and nothing else."""
        return bool(self.ids) and self == QueueFilter(ids=self.ids)

    @property
    def parameters(self) -> dict[str, tuple[str, ...]]:
        """The conditions as text, by name; those without values are left out."""
        ages = {"older-than": self.older_than, "younger-than": self.younger_than}
        found: dict[str, tuple[str, ...]] = {
            "class": self.classes,
            "state": tuple(state.value for state in self.states),
            "from": self.senders,
            "rcpt": self.recipients,
            "backend": self.backends,
            **{name: (format_duration(age),) for name, age in ages.items() if age is not None},
            "id": self.ids,
        }
        return {name: values for name, values in found.items() if values}


EVERYTHING = QueueFilter()


def parse_filter(given: Mapping[str, Sequence[str]]) -> QueueFilter:
    """Read conditions by name, each with its values as they were typed.

    Raises RequestError, which begins with the name of the condition.
    """
    for name in given:
        if name not in NAMES:
            raise RequestError(f"{name}: no such condition; there are {', '.join(NAMES)}")
    if sum(len(value) for values in given.values() for value in values) > CHARACTERS_MAX:
        raise RequestError(
            f"the filter has more than {CHARACTERS_MAX:,} characters; use several, or wider ones"
        )
    return QueueFilter(
        classes=_each("class", given, _class_name),
        states=_each("state", given, _state),
        senders=_each("from", given, _sender),
        recipients=_each("rcpt", given, _address),
        backends=_each("backend", given, _backend_name),
        older_than=_age("older-than", given),
        younger_than=_age("younger-than", given),
        ids=_each("id", given, _queue_id),
    )


def _each(
    name: str, given: Mapping[str, Sequence[str]], parse: Callable[[str], T]
) -> tuple[T, ...]:
    """The alternatives of one condition, each once, in order."""
    texts = [text.strip() for value in given.get(name, ()) for text in _alternatives(value)]
    if len(texts) > VALUES_MAX:
        raise RequestError(f"{name}: more than {VALUES_MAX:,} values; give them in several calls")
    try:
        return tuple(dict.fromkeys(parse(text) for text in texts))
    except ValueError as error:
        raise RequestError(f"{name}: {error}") from None


def _alternatives(value: str) -> list[str]:
    """What stands between commas; those in a quoted local part do not count."""
    parts, begin, is_quoted, is_escaped = [], 0, False, False
    for place, character in enumerate(value):
        if character == "," and not is_quoted:
            parts.append(value[begin:place])
            begin = place + 1
        elif character == '"' and not is_escaped:
            is_quoted = not is_quoted
        is_escaped = character == "\\" and not is_escaped
    return [*parts, value[begin:]]


def _class_name(text: str) -> str:
    if not text or len(text) > CLASS_NAME_MAX or not (text.isascii() and text.isprintable()):
        raise ValueError("expected the name of a traffic class")
    return text


def _backend_name(text: str) -> str:
    if not text or len(text) > CLASS_NAME_MAX or not (text.isascii() and text.isprintable()):
        raise ValueError("expected the name of a backend")
    return text


def _state(text: str) -> SpoolState:
    try:
        return SpoolState(text)
    except ValueError:
        known = ", ".join(state.value for state in SpoolState)
        raise ValueError(f"{text!r} is no state of a message; there are {known}") from None


def _sender(text: str) -> str:
    return NULL_PATH if text == NULL_PATH else _address(text)


def _address(text: str) -> str:
    bare = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    if bare.lower() == "postmaster":  # the one that needs no domain: RFC 5321, 4.1.1.3
        return bare.lower()
    # A domain is right if an address in it is.
    whole = f"x@{bare[1:].removeprefix('.')}" if bare.startswith("@") else bare
    try:
        parse_mailbox(whole, is_utf8=True)
    except (AddressSyntaxError, UnicodeError):
        raise ValueError(
            f"expected an address, @example.org, @.example.org (what is below it), or <> for the"
            f" null sender, not {text!r}"
        ) from None
    return bare.encode().lower().decode()  # as SQLite does it: ASCII alone


def _age(name: str, given: Mapping[str, Sequence[str]]) -> float | None:
    values = given.get(name, ())
    if not values:
        return None
    if len(values) > 1:
        raise RequestError(f"{name}: give it once")
    try:
        return parse_duration(values[0].strip())
    except ValueError as error:
        raise RequestError(f"{name}: {error}") from None


def _queue_id(text: str) -> QueueId:
    if _QUEUE_ID.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no queue id; they look like 01JZX4K7T2M8Q0RB")
    return QueueId(text.upper())
