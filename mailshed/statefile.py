"""What the service has learned and should know again after a restart: one small JSON file a topic.

The files live in the spool's folder, which is ours alone. Each is replaced as a whole: written
beside the old one, synced, renamed over it. So there is always a complete old or new one, whatever
happens in between; and no mail depends on any of them. A file that cannot be read is not a reason
not to start: `load` says what is wrong with it, and whoever asked begins anew.

Both calls block; they belong in a thread, or before the service has begun.
"""

import json
import os
import threading
from pathlib import Path
from typing import Any

from mailshed.errors import StateError

Document = dict[str, Any]

OCTETS_MAX = 8 * 1024**2
"""A larger file is not one of ours."""
INTEGER_MAX = 2**63
"""Nor is one with a larger whole number."""


def _parse_int(digits: str) -> int:
    """Read a whole number; one that no float is as large as would break any sum it came into."""
    number = int(digits)
    if abs(number) > INTEGER_MAX:
        raise ValueError(f"a number of {len(digits)} digits")
    return number


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


class StateFile:
    """The file of one topic in `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.json"
        self._saving = threading.Lock()

    def load(self) -> Document | None:
        """What was saved last; None if nothing was. Raises StateError if it is not readable."""
        try:
            with self.path.open("rb") as file:
                text = file.read(OCTETS_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self.path} cannot be read: {error.strerror}") from error
        if len(text) > OCTETS_MAX:
            raise StateError(f"{self.path} is damaged: more than {OCTETS_MAX} octets")
        try:
            document = json.loads(text, parse_int=_parse_int, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise StateError(f"{self.path} is damaged: {error}") from error
        if not isinstance(document, dict):
            raise StateError(f"{self.path} is damaged: not a JSON object")
        return document

    def save(self, document: Document) -> None:
        """Replace the file, durably.

        Raises StateError if that fails. The old one stays then; only if the very last step fails,
        the new one is there, and may be the old one again after a power cut.
        """
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        with self._saving:  # a caller that gave up waiting may have left one under way
            self._replace(text)

    def _replace(self, text: bytes) -> None:
        beside = self.path.with_suffix(".new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StateError(f"{self.path} cannot be written: {error.strerror}") from error
