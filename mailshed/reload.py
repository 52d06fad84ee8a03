"""Whether a configuration may replace the running one, and the refusal in one line.

The file is read and checked as at the start; then it may not change what only a restart can change,
and it may not take away a class of which the spool holds mail. Nothing is applied here.
"""

import asyncio
import re
from collections.abc import Callable
from pathlib import PurePath

from mailshed.config.schema import Config
from mailshed.errors import ConfigError, SpoolError
from mailshed.policies import needs_restart, removed_classes, stranded
from mailshed.spool.store import SpoolStore

# Characters of the first fault's words that the log's line has. The log cuts long values at their
# end, where the command is that shows the rest.
FAULT_MAX = 140

# The first line of each fault in a ConfigError about a file; the place is missing if a fault is
# about the file as a whole.
_FAULT = re.compile(
    r"^(?! *\d+ \| )(?P<file>.+?)(?P<place>(?::\d+:\d+)?: error: )(?P<words>.*)$", re.MULTILINE
)


class Reloader:
    """Reads the configuration again; `read_file` does the reading and the checks of the file."""

    def __init__(self, read_file: Callable[[], Config], spool: SpoolStore) -> None:
        self._read_file = read_file
        self._spool = spool

    async def read(self, current: Config) -> Config:
        """The configuration that may replace `current` now. Raises ConfigError."""
        config = await asyncio.to_thread(self._read_file)
        if keys := needs_restart(current, config):
            raise ConfigError(f"these changes need a restart of the service: {', '.join(keys)}")
        await self._refuse_stranded_mail(removed_classes(current, config))
        return config

    async def _refuse_stranded_mail(self, removed: list[str]) -> None:
        if not removed:
            return
        try:
            lost = stranded(removed, await self._spool.totals())
        except SpoolError as error:
            raise ConfigError(
                f"classes: cannot remove {', '.join(removed)} now, since the spool cannot say "
                f"whether it holds mail of them: {error}"
            ) from error
        if lost:
            raise ConfigError(
                f"classes: cannot remove {', '.join(lost)} while the spool holds mail of them; "
                "keep the class without rules until its queue is empty"
            )


def in_short(error: ConfigError) -> str:
    """One line for the log: the first fault, how many there are, and how to see them all."""
    faults = list(_FAULT.finditer(str(error)))
    if not faults:
        return str(error)  # not about a file's content, and one line already
    first = faults[0]
    count = f"{len(faults)} fault{'s' if faults[1:] else ''}"
    words = first["words"]
    if len(words) > FAULT_MAX:
        words = f"{words[:FAULT_MAX]}..."
    # The command has the whole path; twice it would leave no room for what is wrong.
    text = PurePath(first["file"]).name + first["place"] + words
    return f"{count}, first: {text}; run: mailshed config check {first['file']}"
