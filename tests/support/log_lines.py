"""A log that a test reads line by line, and a message to write about."""

import io

from mailshed.maillog import Delays, LogFormat, LogLevel, Mail, MailLog

MAIL = Mail("01JZX4K7T2M8Q0RB", "clinical", b"a@b.example", (b"c@d.example",), 1234, "10.0.0.7")
DELAYS = Delays(0.012, 0.0, 0.02, 0.09)
WALL = 1795339862.1239


class Log:
    """A MailLog whose lines can be read; it has the same time for ever."""

    def __init__(self, log_format: LogFormat = "text", level: LogLevel = "debug") -> None:
        self.stream = io.StringIO()
        self.maillog = MailLog(self.stream, log_format, level, wall=lambda: WALL)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()
