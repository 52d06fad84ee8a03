"""The log: one event a line, one method per event, and the only place that knows their fields.

Every other part of mailshed calls a method of `MailLog`; nothing else writes to standard error. The
queue id comes first (before there is one, the session id; for the service itself, a dash), so that
one `grep` tells the story of a message::

    2026-11-22T09:31:02.123Z info 01JZX4K7T2M8Q0RB event=delivered class=clinical from=<a@b> ...

`mailshed.logline` says how a line is written, as text or as JSON, and why nothing a peer sends can
forge one. Where journald reads, a line begins with its priority, `<6>` (sd-daemon(3)), which
journald takes off and files the line under.

Level `warning` is for what an operator can act on, `error` for what is broken. Callers log a
repeated failure when it changes. Where lines go is the sink's business: `LineWriter` in the
service, any text stream in tests.
"""

from mailshed.maillog.libraries import configure_logging
from mailshed.maillog.log import MailLog
from mailshed.maillog.mail import Delays, Mail
from mailshed.maillog.writer import LogFormat, LogLevel, is_journal

__all__ = [
    "Delays",
    "LogFormat",
    "LogLevel",
    "Mail",
    "MailLog",
    "configure_logging",
    "is_journal",
]
