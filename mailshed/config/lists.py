"""Lists in files: one entry a line, for networks, addresses and users that others maintain.

Empty lines do not count, nor does what follows a `#` at the start of a line or after a space. An
entry is checked like one in the configuration itself, and a fault names file, line and column. A
file is bounded in octets and entries; one with a fault is not used, not even in part.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailshed.config.classification import PATTERNS_MAX
from mailshed.config.faults import Fault, Span
from mailshed.config.fields import (
    parse_address_entry,
    parse_network,
    parse_sender_entry,
    parse_user_entry,
)
from mailshed.config.sources import ListKind, Signature
from mailshed.mail.pattern import is_pattern

OCTETS_MAX = 1024 * 1024
ENTRIES_MAX = 20_000
FAULTS_MAX = 20
"""Faults of one file that are shown; a wrong file has one in every line."""

_COMMENT = re.compile(r"(?:^|\s)#.*")
_PARSERS: dict[ListKind, Callable[[object], Any]] = {
    "networks": parse_network,
    "addresses": parse_address_entry,
    "users": parse_user_entry,
    "sender_logins": parse_sender_entry,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFile:
    """A list that was read: its entries, or what is wrong with it."""

    path: Path
    entries: tuple[Any, ...] = ()
    lines: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    signature: Signature | None = None
    unreadable: str = ""
    """Why there is nothing of it at all."""


def signature_of(path: Path) -> Signature | None:
    """What the file looks like from outside; None if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return _signature(found)


def _signature(found: os.stat_result) -> Signature:
    # The mode and the owner count, too: who was told to change them wants to see that it helped.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def read_list(path: Path, kind: ListKind) -> ListFile:
    """Read the file at `path` as entries of `kind`."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            octets = file.read(OCTETS_MAX + 1)
    except OSError as error:
        return ListFile(path=path, unreadable=f"cannot be read: {error.strerror or error}")
    signature = _signature(found)
    if len(octets) > OCTETS_MAX:
        return ListFile(
            path=path, signature=signature, unreadable=f"is larger than {OCTETS_MAX} octets"
        )
    lines = tuple(octets.decode("utf-8-sig", "replace").splitlines())
    entries, faults = _parse(lines, _PARSERS[kind])
    return ListFile(
        path=path, entries=tuple(entries), lines=lines, faults=tuple(faults), signature=signature
    )


def _parse(lines: tuple[str, ...], parse: Callable[[object], Any]) -> tuple[list[Any], list[Fault]]:
    entries: list[Any] = []
    faults: list[Fault] = []
    patterns = 0
    for number, line in enumerate(lines):
        text = _COMMENT.sub("", line).strip()
        if not text:
            continue
        span = Span(line=number, column=line.index(text), width=len(text))
        try:
            entry = parse(text)
        except ValueError as error:
            faults.append(Fault(span=span, message=str(error)))
        else:
            entries.append(entry)
            patterns += isinstance(entry, str) and is_pattern(entry)
        if patterns > PATTERNS_MAX or len(entries) > ENTRIES_MAX:
            what = f"{ENTRIES_MAX} entries" if len(entries) > ENTRIES_MAX else None
            message = f"more than {what or f'{PATTERNS_MAX} patterns'} in one list"
            faults.append(Fault(span=span, message=message))
            break
        if len(faults) == FAULTS_MAX:
            faults.append(Fault(span=None, message="has more faults than are shown here"))
            break
    return entries, faults
