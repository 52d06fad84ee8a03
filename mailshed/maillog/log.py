"""`MailLog`: all events in one object, which every part of the service is given."""

from mailshed.maillog.mail import MailEvents
from mailshed.maillog.service import ServiceEvents
from mailshed.maillog.shedding import SheddingEvents


class MailLog(MailEvents, SheddingEvents, ServiceEvents):
    """The log of one service; see `EventWriter` for how it is made."""
