"""Whether a list that the configuration names has changed since it was read.

Looking is one `stat` for each file, and may block on a network file system, so it belongs into a
thread. Each change is told once: a file that makes the reload fail does not make it fail again
every few seconds, only when it has changed once more. A file that is being written may be seen half
done; whoever keeps a list writes a new file and renames it.
"""

from pathlib import Path

from mailshed.config.lists import signature_of
from mailshed.config.schema import Config
from mailshed.config.sources import Signature

INTERVAL = 10.0
"""Seconds between two looks that are soon enough for people and cheap enough for disks."""


class ListWatch:
    """Remembers what was seen."""

    def __init__(self) -> None:
        self._seen: dict[Path, Signature | None] = {}

    def changed(self, config: Config) -> list[Path]:
        """The lists of `config`, which is in force, that have changed since they were read."""
        found: list[Path] = []
        loaded = config.sources.signatures
        now = {path: signature_of(path) for path in loaded}
        for path, signature in now.items():
            if signature not in (loaded[path], self._seen.get(path, loaded[path])):
                found.append(path)
        self._seen = now
        return found
