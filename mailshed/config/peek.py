"""The two paths that the command line needs, without loading or judging the whole configuration.

`mailshed queue` must start fast and must work when half of the file is wrong, so this reads only
`admin.socket` and `spool.path`, and does not know the schema.
"""

from dataclasses import dataclass
from pathlib import Path

from mailshed.config.faults import render
from mailshed.config.marks import read
from mailshed.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the service's socket and spool are; None for what the file does not say."""

    admin_socket: Path | None
    spool: Path | None


def peek(path: Path) -> Places:
    """Read where the service lives; raises ConfigError if the file cannot be read as YAML."""
    document = read(path)
    if document.value is None and document.faults:
        raise ConfigError(render(path, document.lines, document.faults))
    spool = _path(document.value, "spool", "path")
    socket = _path(document.value, "admin", "socket")
    if socket is None and spool is not None:
        socket = spool / "admin.sock"
    return Places(admin_socket=socket, spool=spool)


def _path(value: object, *steps: str) -> Path | None:
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return Path(value) if isinstance(value, str) and value else None
