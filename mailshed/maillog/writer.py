"""One event becomes one line: time stamp, level, whom it is about, name of the event, fields.

What the events are called and which fields they have is said by the classes that build on this one.
Here each line gets its stamp and, where journald reads, its priority; lines below the level are not
made; and a line that names a patient's mailbox is made again with it masked.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from mailshed.logline import Fields, json_line, names_patient, redacted, text_line

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
_LEVELS: Mapping[LogLevel, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# sd-daemon(3): syslog's severities, as journald reads them at the start of a line.
_PRIORITIES: Mapping[LogLevel, str] = {
    "debug": "<7>",
    "info": "<6>",
    "warning": "<4>",
    "error": "<3>",
}


class Sink(Protocol):
    """Where finished lines go."""

    def write(self, line: str, /) -> object:
        """Take one line with its newline."""
        ...


class EventWriter:
    """Writes events to `sink`. `level` filters by severity; `wall` is the clock of the time stamps.

    `has_priorities` begins each line with its priority, for journald and nobody else.
    """

    def __init__(
        self,
        sink: Sink,
        log_format: LogFormat = "text",
        level: LogLevel = "info",
        wall: Callable[[], float] = time.time,
        *,
        has_priorities: bool = False,
    ) -> None:
        self._write = sink.write
        self._priorities = _PRIORITIES if has_priorities else dict.fromkeys(_PRIORITIES, "")
        self._render = text_line if log_format == "text" else json_line
        self._threshold = _LEVELS[level]
        self._wall = wall
        self._second = -1
        self._stamp = ""

    def _writes(self, level: LogLevel) -> bool:
        """Whether events of this level are written; asked where the fields cost much."""
        return _LEVELS[level] >= self._threshold

    def _event(self, level: LogLevel, identity: str, event: str, fields: Fields) -> None:
        if _LEVELS[level] < self._threshold:
            return
        stamp = self._time()
        line = self._render(stamp, level, identity, event, fields)
        if names_patient(line):
            line = self._render(stamp, level, identity, event, redacted(fields))
        self._write(self._priorities[level] + line)

    def _time(self) -> str:
        """RFC 3339 in UTC with milliseconds; what is above the second is kept for the next."""
        wall = self._wall()
        second = int(wall)
        if second != self._second:
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            self._second = second
        return f"{self._stamp}{int((wall - second) * 1000):03d}Z"


def is_journal(fd: int, journal_stream: str) -> bool:
    """Whether journald reads `fd`; `journal_stream` is $JOURNAL_STREAM, or empty.

    The variable alone says only where a descriptor once led, which somebody may have redirected;
    systemd.exec(5) tells to compare device and inode.
    """
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


def rounded(seconds: float | None) -> float | None:
    """Seconds as the log has them, to a tenth."""
    return None if seconds is None else round(seconds, 1)
