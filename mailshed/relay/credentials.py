"""Our own login at a backend: the file with it, and the dialog of AUTH (RFC 4954).

The file has the user's name on its first line and the password on its second, as UTF-8; it is read
at the start and at each reload, and has to be private (`secretfile`). Of the mechanisms, PLAIN is
used if it is offered (RFC 4616), else LOGIN, which old servers have instead. Both send the password
itself, so the caller sees to it that the connection is encrypted or does not leave the host.

What a server says to AUTH is not repeated: a server that does not understand a command likes to
quote it. Its code and its enhanced status code say enough. The password is in no `repr`.
"""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from aiosmtplib.auth import auth_login_encode, auth_plain_encode

from mailshed.errors import ConnectionLost, TimedOut
from mailshed.mail.delivery import NoReply
from mailshed.mail.reply import Reply
from mailshed.relay.offers import Offers
from mailshed.relay.wire import WireProtocol
from mailshed.secretfile import read_login
from mailshed.terms import Stage

OCTETS_MAX = 4096
"""A longer file is not one of these."""

COMMAND_OCTETS_MAX = 512
"""Octets of a command line with its end (RFC 5321, 4.5.3.1.4); what is longer waits for a prompt
(RFC 4954, 4)."""

# Nothing of a message depends on AUTH, so it has no stage; it belongs to the greeting.
_STAGE = (Stage.EHLO,)
_PROMPT = 334
_ACCEPTED = 235


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A name and a password."""

    user: str
    password: str = field(repr=False)


class Refusal(Enum):
    """What a failed login means."""

    WRONG = "wrong"  # name or password: the same ones will not do better, and may lock an account
    LATER = "later"  # the server cannot say now, or fell silent
    UNUSABLE = "unusable"  # it offers no mechanism that we have


@dataclass(frozen=True, slots=True)
class LoginFailure:
    """A login that did not succeed; `detail` is for people."""

    refusal: Refusal
    detail: str
    why: NoReply = NoReply.NO_CONNECTION


def read_credentials(path: Path) -> Credentials:
    """Read the file at `path`. Raises SecretFileError with what is wrong, and nothing of it."""
    user, password = read_login(path)
    return Credentials(user=user, password=password)


async def log_in(
    wire: WireProtocol, offers: Offers, credentials: Credentials, timeout: float
) -> LoginFailure | None:
    """Authenticate; None if the server has let us in. Each reply may take `timeout` seconds."""
    user, password = credentials.user, credentials.password
    if "PLAIN" in offers.mechanisms:
        response = auth_plain_encode(user, password)
        steps = [b"AUTH PLAIN " + response]
        if len(steps[0]) + 2 > COMMAND_OCTETS_MAX:
            steps = [b"AUTH PLAIN", response]
    elif "LOGIN" in offers.mechanisms:
        steps = [b"AUTH LOGIN", *auth_login_encode(user, password)]
    else:
        offered = ", ".join(sorted(offers.mechanisms)) or "no AUTH at all"
        said = f"it offers {offered}, and we have PLAIN and LOGIN"
        return LoginFailure(Refusal.UNUSABLE, ascii(said[:200])[1:-1])
    for step in steps:
        replies = await wire.exchange((step,), _STAGE, timeout, intermediate=_PROMPT)
        failure = _failure(wire, replies)
        if failure is not None:
            return failure
        if replies[0].code == _ACCEPTED:
            return None
        if replies[0].code != _PROMPT:
            return LoginFailure(Refusal.LATER, "its replies make no sense", NoReply.NOT_SMTP)
    return LoginFailure(Refusal.LATER, "it asks for more than a password", NoReply.NOT_SMTP)


def _failure(wire: WireProtocol, replies: list[Reply]) -> LoginFailure | None:
    """What ends the dialog, if anything does; a connection that broke, or a refusal."""
    if replies and replies[0].code >= 400:
        reply = replies[0]
        refusal = Refusal.WRONG if reply.is_permanent else Refusal.LATER
        status = reply.enhanced_status
        # One that the reply did not have says no more than its code.
        code = f"{reply.code}" if status.endswith(".0.0") else f"{reply.code} {status}"
        return LoginFailure(refusal, f"it said {code}")
    match wire.fault:
        case None:
            return None
        case TimedOut():
            return LoginFailure(Refusal.LATER, "it does not answer AUTH", NoReply.TIMED_OUT)
        case ConnectionLost():
            return LoginFailure(Refusal.LATER, "it closed the connection at AUTH")
        case _:
            said = "it answers AUTH with something that is not SMTP"
            return LoginFailure(Refusal.LATER, said, NoReply.NOT_SMTP)
