"""A running mail server, as the tables see it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Pair = tuple[Path, Path]
"""A certificate and its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What there is to know of it."""

    name: str
    version: str
    port: int
    take: Callable[[], Sequence[bytes]]
    """What it has stored since the last time, with LF line endings; it is removed."""
    log: Callable[[], str]
    encrypted: str
    """A pattern that its trace has if the message came over TLS,"""
    authenticated: str
    """and one if it came with a login."""
    section: Mapping[str, Any] = field(default_factory=dict)
    """Keys of mailshed's configuration that it needs."""


def take_files(folder: Path) -> list[bytes]:
    """Read and remove all files of a folder (`new` of a Maildir), the oldest first."""
    if not folder.is_dir():
        return []
    paths = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    contents = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    return contents
