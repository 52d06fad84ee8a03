"""Why a connection is not ready for MAIL: each way in which its beginning fails, as a `Deferred`.

All of them are about the connection and none about a message, so nothing here is ever permanent,
and a reply is kept only if it is a 4xx to the greeting or to EHLO. `name` is the backend's place as
people write it; what a server said is shortened, and safe for a log line.
"""

import ssl

from aiosmtplib import SMTPResponseException

from mailshed.errors import BackendError, ProtocolViolation, TimedOut
from mailshed.mail import reply as replies
from mailshed.mail.delivery import Deferred, NoReply
from mailshed.mail.reply import Reply
from mailshed.relay.tls import fault_of
from mailshed.terms import Stage

_SAID_MAX = 200
_UNKNOWN_COMMAND = frozenset({500, 502})
_OTHER_PROTOCOL = {
    "EHLO": " (if it speaks LMTP, set protocol to lmtp)",
    "LHLO": " (if it speaks SMTP, set protocol to smtp, or port to that where it speaks LMTP)",
}


def closed(name: str, stage: Stage, text: str) -> Deferred:
    """There is no connection, or no more, and `text` says why."""
    return Deferred(stage, None, f"{name} {text}", NoReply.NO_CONNECTION)


def stopping() -> Deferred:
    """None is begun any more, and that is not the backend's doing."""
    return Deferred(Stage.CONNECT, None, "the service is stopping", NoReply.OUR_CHOICE)


def late(name: str, stage: Stage, what: str) -> Deferred:
    """What was awaited has not come in time."""
    return Deferred(stage, None, f"no {what} from {name} in time", NoReply.TIMED_OUT)


def not_greeted(name: str, error: SMTPResponseException) -> Deferred:
    """A greeting that was not positive, or not SMTP (code -1)."""
    reply: Reply | None = None
    why = NoReply.NO_CONNECTION if error.code > 0 else NoReply.NOT_SMTP
    if 400 <= error.code < 500:
        why = NoReply.UNKNOWN
        reply = replies.make(error.code, *error.message.split("\n")[: replies.LINES_MAX])
    said = f"{error.code} {error.message}" if error.code > 0 else error.message
    return Deferred(Stage.CONNECT, reply, f"{name} said: {ascii(said[:_SAID_MAX])[1:-1]}", why)


def not_connected(name: str, error: Exception, certificate_name: str) -> Deferred:
    """No connection, or none over TLS to who should be `certificate_name`."""
    # The operating system's words, or OpenSSL's, rather than three wrappings of them.
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    match error:
        case TimeoutError():  # ours, or the operating system lost patience before us
            return late(name, Stage.CONNECT, "greeting")
        case ssl.SSLError():
            text = fault_of(error, certificate_name)
        case OSError() if error.strerror:
            text = error.strerror
        case _:
            text = str(error) or type(error).__name__
    return closed(f"{name}:", Stage.CONNECT, text)


def unwelcome(name: str, reply: Reply, command: str = "EHLO") -> Deferred:
    """A reply to EHLO, or to LHLO, that was not positive."""
    kept = reply if reply.is_transient else None
    why = NoReply.NO_CONNECTION if kept is None else NoReply.UNKNOWN
    said = f"{name} said: {reply.text[:_SAID_MAX]}"
    if reply.code in _UNKNOWN_COMMAND:
        said += _OTHER_PROTOCOL[command]
    return Deferred(Stage.EHLO, kept, said, why)


def silent(name: str, fault: BackendError | None, command: str) -> Deferred:
    """A dialog that broke while the reply to `command` was awaited."""
    match fault:
        case TimedOut():
            return late(name, Stage.EHLO, f"reply to {command}")
        case ProtocolViolation():
            said = f"{name} sent more or other than a reply to {command}: {fault}"
            return Deferred(Stage.EHLO, None, said, NoReply.NOT_SMTP)
        case _:
            return closed(name, Stage.EHLO, f"closed the connection after {command}")
