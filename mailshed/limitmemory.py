"""What an adaptive limit has learned of its backend, kept for the next start.

Without it each start would begin with the lowest limit and learn what an unloaded backend is like
from one that may be full. Each backend has a file of its own, saved every few minutes and at a
stop, in a thread. A crash costs a few minutes of learning. What cannot be read, or is about a
backend of another name, is a line in the log and a new beginning; a fixed limit has nothing to
remember.

Versions with one backend wrote one file, without a name (`OLD_FILE_NAME`). It is read by the
backend that it is about, as long as that has none of its own.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from mailshed.autosave import save_every, save_last
from mailshed.clock import Clock
from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit import Limit
from mailshed.control.limit_picture import LimitPicture
from mailshed.errors import StateError
from mailshed.maillog import MailLog
from mailshed.statefile import StateFile

OLD_FILE_NAME = "limit"
SAVE_SECONDS = 300.0


class LimitMemory:
    """The memory of one limit. All of it belongs to the main loop."""

    def __init__(
        self,
        limit: Limit,
        backend: str,
        *,
        file: StateFile,
        old_file: StateFile | None = None,
        maillog: MailLog,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._limit = limit if isinstance(limit, AdaptiveLimit) else None
        self._backend = backend
        self._file = file
        self._old_file = old_file
        self._log = maillog
        self._clock = clock
        self._on_failure = on_failure
        self._is_loaded = False

    def picture(self) -> LimitPicture | None:
        """How the limit stands; None if it is fixed."""
        return None if self._limit is None else self._limit.picture()

    async def load(self) -> None:
        """Take up what was learned before; to be called before the first message."""
        if self._limit is None:
            return
        try:
            document = await asyncio.to_thread(self._load)
            reason = None if document is None else self._restore(self._limit, document)
        except StateError as error:
            reason = str(error)
        if reason is not None:
            self._log.baseline_lost(self._backend, detail=reason)
        self._is_loaded = True

    def _load(self) -> dict[str, Any] | None:
        """What was kept, here or by an older version about this backend; may raise StateError."""
        document = self._file.load()
        if document is None and self._old_file is not None:
            old = self._old_file.load()
            document = old if old is not None and old.get("backend") == self._backend else None
        return document

    def _restore(self, limit: AdaptiveLimit, document: dict[str, Any]) -> str | None:
        """Returns why the document is of no use, or None."""
        if document.get("backend") != self._backend:
            return f"it is about the backend {document.get('backend')!r}"
        saved, learned = document.get("saved_wall"), document.get("learned")
        if not isinstance(saved, int | float) or not isinstance(learned, dict):
            return f"{self._file.path} is damaged: saved_wall or learned is missing"
        return limit.restore(learned, self._clock.wall() - saved)

    async def run(self) -> None:
        """Save every few minutes, until cancelled; a failure is told once."""
        await save_every(SAVE_SECONDS, self.save, "limit memory", self._on_failure)

    async def save(self) -> None:
        """Keep what was learned. Raises StateError if that fails."""
        limit = self._limit
        if limit is None or not self._is_loaded or not limit.picture().is_baseline_known:
            return  # nothing is no replacement for what may be in the file
        document = {
            "backend": self._backend,
            "saved_wall": self._clock.wall(),
            "learned": limit.to_document(),
        }
        await asyncio.to_thread(self._file.save, document)

    async def close(self) -> None:
        """Save a last time; a failure is told."""
        await save_last(self.save, "limit memory", self._on_failure)


def file_name(backend: str) -> str:
    """Of the file of one backend; names of backends have no characters that a file's has not."""
    return f"{OLD_FILE_NAME}-{backend}"
