"""Broken promises of what lies below us, as one tree; expected outcomes are values instead.

::

    MailshedError
    +-- ConfigError            the configuration file cannot be used
    +-- StartError             the service cannot start: a port is taken, a path is not writable
    +-- SpoolError             the spool cannot do what was asked
    |   +-- SpoolFull          a limit or the disk reserve is reached: later it may work
    |   +-- SpoolSick          the store failed (I/O error): no promise until it is verified
    |   +-- SpoolCorrupt       stored mail data does not match its checksum
    |   +-- SpoolLocked        another process owns this spool
    +-- BackendError           the backend broke the dialog; says at which stage
    |   +-- TimedOut           no reply within the stage's timeout
    |   +-- ConnectionLost     the connection ended in mid-dialog
    |   +-- ProtocolViolation  the reply was not SMTP
    +-- AddressSyntaxError     a path or parameter breaks the grammar of RFC 5321
    +-- ProxyHeaderError       a connection does not begin with a header of the PROXY protocol
    +-- CredentialsError       what a client says with AUTH is not what the mechanism asks for
    |   +-- CredentialsEncodingError  it is not even base64
    +-- SecretFileError        a file with a secret cannot be read, or others could read it
    +-- StateError             what was learned before a restart cannot be read or saved
    +-- RequestError           what an operator asks of the queue cannot be understood
    +-- BudgetExceeded         the budget for mail data in transit is used up
    +-- ClientGone             the client left before our dot: nothing was promised

The message of each is written for the log of an operator, never for an SMTP client.
"""

from mailshed.terms import Stage


class MailshedError(Exception):
    """Root of all errors that mailshed raises itself."""


class ConfigError(MailshedError):
    """The configuration cannot be used; the text lists every fault, ready to print."""


class StartError(MailshedError):
    """The service cannot start; the text says what to do."""


class SpoolError(MailshedError):
    """The spool cannot do what was asked."""


class SpoolFull(SpoolError):
    """A limit of the spool or the disk reserve is reached."""


class SpoolSick(SpoolError):
    """The store failed; nothing it was asked to keep may be promised."""


class SpoolCorrupt(SpoolError):
    """Stored mail data does not match its checksum."""


class SpoolLocked(SpoolError):
    """Another process owns this spool."""


class BackendError(MailshedError):
    """The dialog with the backend broke at `stage`."""

    def __init__(self, message: str, stage: Stage) -> None:
        super().__init__(message)
        self.stage = stage


class TimedOut(BackendError):
    """The backend did not answer within the stage's timeout."""


class ConnectionLost(BackendError):
    """The connection ended in mid-dialog."""


class ProtocolViolation(BackendError):
    """The backend sent something that is not an SMTP reply."""


class AddressSyntaxError(MailshedError):
    """A path or an ESMTP parameter breaks the grammar; the text may be shown to the client."""


class ProxyHeaderError(MailshedError):
    """What a proxy sent first is no header of the PROXY protocol, or one that is too long."""


class CredentialsError(MailshedError):
    """What a client says with AUTH is not what the mechanism asks for; the text quotes nothing."""


class CredentialsEncodingError(CredentialsError):
    """A response to a challenge of AUTH is not base64 (RFC 4954, 4)."""


class SecretFileError(MailshedError):
    """A file with a secret is not usable or not secret; the text says what to do, and no secret."""


class StateError(MailshedError):
    """What was learned before a restart cannot be read or saved; the text names the file."""


class RequestError(MailshedError):
    """What an operator asks of the queue cannot be understood; the text says what is expected."""


class BudgetExceeded(MailshedError):
    """The budget for mail data in transit is used up."""


class ClientGone(MailshedError):
    """The client left before our final dot; nothing was promised to anyone."""
