"""AUTH: a client says who it is (RFC 4954), over TLS only.

The dialog is here: who may say it when, challenges and responses in base64, giving up with `*`.
What the responses mean is `authentication.sasl`, and whether they are true is asked of the handler;
until it knows, nothing that the client has sent meanwhile is read, and its timer stands still.

A response that goes beyond the limit is read to its end and refused, else its rest would be taken
for a command. The command itself is a command line and no longer than others: a client with a long
token leaves it for the first response (RFC 4954, 4).

After a success `session.client` is another value, with the user's name; it is the only place where
that is kept, so whoever makes the client anew (STARTTLS) forgets it. RSET and EHLO do not.
"""

import base64
from functools import partial
from typing import TYPE_CHECKING

from mailshed.authentication import sasl
from mailshed.authentication.sasl import Credentials, Mechanism
from mailshed.config.policy import AuthMode
from mailshed.errors import CredentialsEncodingError, CredentialsError
from mailshed.listener.lines import take_line
from mailshed.mail import reply
from mailshed.mail.reply import Reply
from mailshed.terms import Stage

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession

_LINE_OCTETS_MAX = sasl.RESPONSE_OCTETS_MAX + len(b"\r\n")


def keyword(session: "SmtpSession") -> str | None:
    """What the reply to EHLO says of AUTH; None while it is not to be had."""
    policy, client = session.policy, session.client
    if policy.auth is AuthMode.NONE or client.tls is None or client.user:
        return None
    return " ".join(("AUTH", *(each.value for each in policy.mechanisms)))


def refusal_of_mail(session: "SmtpSession") -> Reply | None:
    """Why MAIL comes too early: the listener wants to know who sends."""
    is_required = session.policy.auth is AuthMode.REQUIRED
    return reply.AUTH_REQUIRED if is_required and not session.client.user else None


def refusal_of_sender(session: "SmtpSession", argument: bytes) -> Reply | None:
    """Why this user may not send as who MAIL says; it is noted."""
    if not session.client.user:
        return None
    refused = session.handler.sender(session)
    if refused is not None:
        session.handler.rejected(session, Stage.MAIL, argument, refused)
    return refused


def run(session: "SmtpSession", argument: bytes) -> None:
    """The command AUTH."""
    session.count_idle_command()
    name, _, initial = argument.partition(b" ")
    refusal = _refusal(session, name)
    mechanism = sasl.mechanism_of(name)
    if refusal is not None or mechanism is None:
        session.answer("auth", refusal or reply.AUTH_UNKNOWN_MECHANISM)
        return
    conversation = _Conversation(mechanism)
    if initial := initial.strip(b" \t"):
        # RFC 4954, 4: a lone equals sign is a response of no octets.
        conversation.hear(session, b"" if initial == b"=" else initial)
    else:
        conversation.go_on(session)


def _refusal(session: "SmtpSession", name: bytes) -> Reply | None:
    """Why AUTH is not to be had now."""
    policy, client, library = session.policy, session.client, session.session
    found: Reply | None = None
    if policy.auth is AuthMode.NONE:
        found = reply.NOT_IMPLEMENTED
    elif client.tls is None:
        found = reply.AUTH_NEEDS_TLS
    elif library is None or not (library.host_name and library.extended_smtp):
        found = reply.AUTH_NEEDS_EHLO
    elif client.user:
        found = reply.AUTH_TWICE
    elif not session.is_idle:
        found = reply.AUTH_IN_TRANSACTION
    elif not name:
        found = reply.AUTH_SYNTAX
    elif sasl.mechanism_of(name) not in policy.mechanisms:
        found = reply.AUTH_UNKNOWN_MECHANISM
    return found


class _Conversation:
    """Asks for one response after the other; takes the session's lines while they come."""

    __slots__ = ("_mechanism", "_responses")

    def __init__(self, mechanism: Mechanism) -> None:
        self._mechanism = mechanism
        self._responses: list[bytes] = []

    def __call__(self, session: "SmtpSession") -> bool:
        line = take_line(session, _LINE_OCTETS_MAX)
        if line is None:
            return False
        if not line:
            _end(session, reply.AUTH_TOO_LONG)
        elif not line.endswith(b"\r\n"):
            _end(session, reply.BARE_LF_IN_COMMAND)
        elif line == b"*\r\n":
            _end(session, reply.AUTH_CANCELLED)
        else:
            self.hear(session, line[:-2])
        return True

    def hear(self, session: "SmtpSession", response: bytes) -> None:
        """Take a response, and go on."""
        try:
            self._responses.append(sasl.decoded(response))
        except CredentialsEncodingError:
            _end(session, reply.AUTH_NOT_DECODED)
        else:
            self.go_on(session)

    def go_on(self, session: "SmtpSession") -> None:
        """Ask for the next response, or have the credentials judged if there is none left."""
        heard, challenges = len(self._responses), self._mechanism.challenges
        if heard < len(challenges):
            challenge = base64.b64encode(challenges[heard]).decode("ascii")
            session.answer("auth", reply.make(334, challenge))
            session.take_with(self)
            return
        said: Credentials | CredentialsError
        try:
            said = sasl.credentials(self._mechanism, self._responses)
        except CredentialsError as error:
            said = error
        session.take_commands()
        session.wait_for(
            partial(session.handler.authenticate, session, said), partial(_judged, session)
        )


def _end(session: "SmtpSession", answer: Reply) -> None:
    """The client gives up, or says what cannot be a response."""
    session.take_commands()
    session.answer("auth", answer)


def _judged(session: "SmtpSession", answer: Reply) -> None:
    """Say what came of it; after too many failures the session ends."""
    session.answer("auth", answer)
    if answer == reply.AUTH_FAILED:
        session.auth_failures += 1
        if session.auth_failures >= session.limits.auth_failures_max:
            session.end(reply.TOO_MANY_AUTH_FAILURES, "auth")
