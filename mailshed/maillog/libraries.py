"""The bridge from the standard `logging`, which libraries use, to the log.

Their warnings and errors become `library` events, in the same format as all others, so that what
reads the log has one kind of line to understand.
"""

import logging

from mailshed.maillog.service import ServiceEvents
from mailshed.maillog.writer import LogLevel


def configure_logging(maillog: ServiceEvents) -> None:
    """Send warnings and errors of all libraries through `maillog`, in its format.

    Replaces the handlers of the root logger, and lowers aiosmtpd, asyncio and aiohttp, which
    narrate every command, to warnings.
    """
    root = logging.getLogger()
    root.handlers[:] = [_Handler(maillog)]
    root.setLevel(logging.WARNING)
    for name in ("mail.log", "asyncio", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


class _Handler(logging.Handler):
    """The bridge from `logging`; its records become `library` events."""

    def __init__(self, maillog: ServiceEvents) -> None:
        super().__init__(logging.WARNING)
        self._maillog = maillog

    def emit(self, record: logging.LogRecord) -> None:
        level: LogLevel = "error" if record.levelno >= logging.ERROR else "warning"
        error = record.exc_info[1] if record.exc_info else None
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit their format
            message = str(record.msg)
        self._maillog.library(record.name, level, message, error)
