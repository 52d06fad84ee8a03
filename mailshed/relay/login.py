"""Finding out whether a password is right by logging in with it, at a mail server that knows.

Each question has a connection of its own: greeting, EHLO, TLS, EHLO, AUTH, QUIT. Nothing else is
done on it, so no mail ever travels as somebody whose password we have, and the password is gone
when the question is answered. It goes over TLS, to a server with a certificate for its name, or it
does not leave this host; a server that should be on loopback and is not gets none either.

The server is asked in the client's mechanism, with the same octets, if it offers that; a name and a
password may be said as PLAIN or as LOGIN. A command line that would be longer than 512 octets is
split, as RFC 4954, 4 wants it.

What a reply means: 235 is a yes. A 5xx is a no, but for those that speak of the command and not of
the password (500 to 504, 530, 538: RFC 4954, 4 and 6), which are a setting that somebody has to
mend. Everything else is no answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from mailshed.authentication.sasl import Credentials, Mechanism
from mailshed.authentication.verdict import Accepted, Rejected, Unavailable, Verdict
from mailshed.config.authentication import Authentication
from mailshed.errors import ConfigError
from mailshed.mail.delivery import Deferred
from mailshed.mail.envelope import Client
from mailshed.mail.reply import Reply
from mailshed.relay.connection import Address, Connection, Timeouts, open_connection, stays_here
from mailshed.relay.security import BackendTls, Security, SecurityPolicy
from mailshed.supervisor import Supervisor
from mailshed.terms import Stage

COMMAND_OCTETS_MAX = 512
"""Octets of a command line with its end (RFC 5321, 4.5.3.1.4)."""

# AUTH has no stage of a message: it belongs to the greeting, as EHLO does.
_STAGE = (Stage.EHLO,)
_PROMPT, _ACCEPTED = 334, 235
_NOT_ABOUT_THE_PASSWORD = frozenset({500, 501, 502, 503, 504, 530, 538})


class LoginVerifier:
    """Asks one mail server. `timeout` (seconds) is for each step; the caller has one for all.

    `refresh` comes before the first question.
    """

    def __init__(
        self, address: Address, *, timeout: float, on_failure: Callable[[str, BaseException], None]
    ) -> None:
        self._address = address
        self._timeouts = Timeouts(connect=timeout, command=timeout, dot=timeout)
        self._tasks = Supervisor(on_failure)

    async def refresh(self) -> None:
        """Read the certificates of authorities again; raises ConfigError if they are of no use."""
        security = self._address.security
        try:
            material = await asyncio.to_thread(security.read)
        except ConfigError as error:
            raise ConfigError(f"authentication.{error}") from error
        security.use(material)

    async def verify(self, credentials: Credentials, client: Client) -> Verdict:  # noqa: ARG002 - a server is told nothing of the client
        """Log in, and out again."""
        opened = await open_connection(self._address, self._timeouts)
        if isinstance(opened, Deferred):
            return Unavailable(opened.detail or "no connection")
        try:
            verdict = await self._log_in(opened, credentials)
        except BaseException:
            opened.wire.abort()
            raise
        self._tasks.spawn(opened.quit(), "quit")
        return verdict

    async def close(self) -> None:
        """Break off the farewells that are still under way."""
        await self._tasks.cancel_all()

    async def _log_in(self, connection: Connection, credentials: Credentials) -> Verdict:
        wire, offered = connection.wire, connection.offers.mechanisms
        if not wire.is_encrypted and not stays_here(wire):
            return Unavailable("no password goes to another host without TLS")
        said = credentials.sayable(offered)
        if said is None:
            has = ", ".join(sorted(offered)) or "no AUTH at all"
            missing = f"it offers {has[:80]}, and not {credentials.mechanism.value}"
            return Unavailable(ascii(missing)[1:-1])

        async def say(command: bytes) -> Reply | None:
            timeout = self._timeouts.command
            replies = await wire.exchange((command,), _STAGE, timeout, intermediate=_PROMPT)
            return replies[0] if replies else None

        reply = await _converse(say, _commands(said), is_oauth=said.mechanism is Mechanism.XOAUTH2)
        if reply is None:
            return Unavailable("it does not answer AUTH, or not with SMTP")
        return _verdict(reply, credentials)


def address_of(section: Authentication, hostname: str) -> Address:
    """Where the mail server is that is asked, and how it is spoken to."""
    assert section.host is not None, "asked for where a listener has auth"
    policy = SecurityPolicy(
        tls=BackendTls(section.tls), name=section.tls_name or section.host, ca_file=section.ca_file
    )
    return Address(
        host=section.host, port=section.port, hostname=hostname, security=Security(policy)
    )


def _commands(credentials: Credentials) -> list[bytes]:
    """The lines of the dialog; the first response goes with the command if both fit."""
    verb = b"AUTH " + credentials.mechanism.value.encode()
    first, *others = credentials.encoded
    whole = b"%b %b" % (verb, first)
    if credentials.mechanism is Mechanism.LOGIN or len(whole) + 2 > COMMAND_OCTETS_MAX:
        return [verb, first, *others]
    return [whole, *others]


async def _converse(
    say: Callable[[bytes], Awaitable[Reply | None]], commands: Sequence[bytes], *, is_oauth: bool
) -> Reply | None:
    """Say one line after the other as long as the server asks for more; its last word, or None."""
    for command in commands:
        reply = await say(command)
        if reply is None or reply.code != _PROMPT:
            return reply
    # XOAUTH2: a challenge now is the reason of a refusal, which follows when we have taken note.
    # Any other mechanism is over, and we give up (RFC 4954, 4).
    return await say(b"" if is_oauth else b"*")


def _verdict(reply: Reply, credentials: Credentials) -> Verdict:
    if reply.code == _ACCEPTED:
        return Accepted(credentials.login)
    status = reply.enhanced_status
    # One that the reply did not have says no more than its code.
    said = f"it said {reply.code}" + ("" if status.endswith(".0.0") else f" {status}")
    if reply.is_permanent and reply.code not in _NOT_ABOUT_THE_PASSWORD:
        return Rejected(said)
    return Unavailable(said)
