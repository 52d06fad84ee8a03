"""What each backend offered in its last reply to EHLO, also while it is away and after a restart.

What we offer clients is ours, but some of it is a promise on behalf of the backends: whoever gives
us a message with SMTPUTF8 (RFC 6531), or of the size we announced, must not get it back since the
server behind us takes neither. So the front asks here, and what it hears is the intersection of all
backends: one that lacks an extension is enough, and one that was never seen makes it unknown.

A neighbour that serves nobody by itself and only helps out is not asked: it may not be seen for
years, and what it does not take waits for its own server.

Only the reply that counts is noted, the one after TLS. It is kept in a file (`statefile`), which is
saved within a minute after a change. Nothing depends on it but what EHLO says: a file that cannot
be read is a line in the log, and the first connection to each backend fills the gap. All of it
belongs to the main loop.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mailshed.autosave import save_every, save_last
from mailshed.errors import StateError
from mailshed.maillog import MailLog
from mailshed.relay.offers import Offers, as_mapping
from mailshed.statefile import StateFile

FILE_NAME = "capabilities"
SAVE_SECONDS = 60.0
LINES_MAX = 100
LINE_MAX = 500
"""What is kept of one backend: so many lines of so many characters."""
TRACE_OCTETS = 2048
"""What our trace line may add to a message; a backend's SIZE has to have room for it, too."""
SIZE_LEAST = 64 * 1024
"""Every server takes messages of that size (RFC 5321, 4.5.3.1.7); less is not believed."""


class Capabilities:
    """Of all `backends` that speak SMTP, by name; `helpers` are those that only help out."""

    def __init__(
        self,
        backends: Iterable[str],
        *,
        helpers: Iterable[str] = (),
        file: StateFile,
        maillog: MailLog,
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self.on_change: Callable[[], None] = lambda: None
        """Called when something is offered that was not, or no more."""
        self._names = tuple(backends)
        self._servants = frozenset(self._names).difference(helpers)
        self._file = file
        self._log = maillog
        self._on_failure = on_failure
        self._lines: dict[str, tuple[str, ...]] = {}
        self._offers: dict[str, Offers] = {}
        self._keywords: dict[str, frozenset[str]] = {}
        self._is_saved = True

    # What others ask.

    def offers(self, keyword: str) -> bool | None:
        """Whether all backends offer the extension, named in upper case; None: nobody knows yet."""
        known = self._servants.intersection(self._keywords)
        if any(keyword not in self._keywords[each] for each in known):
            return False
        return True if known == self._servants else None

    @property
    def message_size_max(self) -> int | None:
        """Octets of the largest message that a client may hand us for any of them; None: any."""
        offers = [self._offers[each] for each in self._servants.intersection(self._offers)]
        sizes = [each.size_max for each in offers if each.size_max is not None]
        return max(min(sizes) - TRACE_OCTETS, SIZE_LEAST) if sizes else None

    def of(self, backend: str) -> Offers | None:
        """What this backend offered last; None if it was never seen."""
        return self._offers.get(backend)

    def lines_of(self, backend: str) -> tuple[str, ...]:
        """The lines of a backend's last reply to EHLO, sorted; none if it was never seen."""
        return self._lines.get(backend, ())

    # What connections tell.

    def note(self, backend: str, lines: Sequence[str]) -> None:
        """Learn what a backend offers: the lines of its reply to EHLO without the first."""
        kept = tuple(sorted(line[:LINE_MAX] for line in lines[:LINES_MAX]))
        if self._lines.get(backend) == kept or backend not in self._names:
            return
        self._keep(backend, kept)
        self._is_saved = False
        self.on_change()

    def _keep(self, backend: str, lines: tuple[str, ...]) -> None:
        self._lines[backend] = lines
        self._offers[backend] = Offers.from_extensions(lines)
        self._keywords[backend] = frozenset(as_mapping(lines))

    # The file.

    async def load(self) -> None:
        """Take up what was known before, to be called before the first connection."""
        try:
            document = await asyncio.to_thread(self._file.load)
            found = {} if document is None else _read(document)
        except StateError as error:
            self._log.capabilities_lost(detail=str(error))
            return
        for backend, lines in found.items():
            if backend in self._names:
                self._keep(backend, lines)
        self.on_change()

    async def run(self) -> None:
        """Save what has changed, until cancelled; a failure is told once."""
        await save_every(SAVE_SECONDS, self.save, "capabilities", self._on_failure)

    async def save(self) -> None:
        """Keep what is known, if it has changed. Raises StateError if that fails."""
        if self._is_saved:
            return
        self._is_saved = True
        document = {"backends": {name: list(lines) for name, lines in self._lines.items()}}
        try:
            await asyncio.to_thread(self._file.save, document)
        except BaseException:
            self._is_saved = False
            raise

    async def close(self) -> None:
        """Save a last time; a failure is told."""
        await save_last(self.save, "capabilities", self._on_failure)


def _read(document: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    backends = document.get("backends")
    if not isinstance(backends, dict):
        raise StateError("the file of capabilities is damaged: backends is missing")
    found = {}
    for name, lines in backends.items():
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise StateError(f"the file of capabilities is damaged at {name[:32]!a}")
        found[name] = tuple(line[:LINE_MAX] for line in lines[:LINES_MAX])
    return found
