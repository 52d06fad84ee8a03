"""Open one connection to a backend: aiosmtplib connects, reads the greeting and says EHLO.

When that has worked, the transport is handed to `WireProtocol` and aiosmtplib's client object is
forgotten; no method of it may be used afterwards. When it has not, the result is a `Deferred`:
whatever a server says before the first MAIL concerns the connection, not a message, so even a 554
greeting does not bounce anybody's mail. The reply of such a result is kept only if it is a 4xx;
a 5xx is told in the detail, so that it can never be passed on to a client as a permanent refusal.

Limits: no TLS and no authentication (the backend is expected on a trusted network), and no HELO
for servers that do not know EHLO.
"""

import asyncio
from dataclasses import dataclass

import aiosmtplib
from aiosmtplib import SMTPResponseException

from mailshed.mail import reply as replies
from mailshed.mail.delivery import Deferred, NoReply
from mailshed.mail.reply import Reply
from mailshed.relay.offers import Offers
from mailshed.relay.wire import WireProtocol
from mailshed.terms import Stage

QUIT_TIMEOUT = 5.0
"""Seconds that a server may take for the reply to QUIT, which nobody needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a backend is, and who we say we are (the EHLO name)."""

    host: str
    port: int
    hostname: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds a backend may take.

    `connect` covers the connection and the greeting, `command` each reply before the final dot
    and each stretch without progress in the mail data, `dot` the reply to the final dot.
    """

    connect: float
    command: float
    dot: float


@dataclass(slots=True, kw_only=True, eq=False)
class Connection:
    """An open session with a backend, after EHLO."""

    wire: WireProtocol
    offers: Offers
    timeouts: Timeouts
    connect_seconds: float = 0.0
    """What connecting took; for the first message only."""
    messages: int = 0
    """Mail transactions begun on it."""

    async def quit(self) -> None:
        """Say QUIT, wait a little for the reply, and close. Never raises."""
        await self.wire.exchange((b"QUIT",), (Stage.QUIT,), QUIT_TIMEOUT)
        self.wire.close()


async def open_connection(address: Address, timeouts: Timeouts) -> Connection | Deferred:
    """Connect, read the greeting, say EHLO; Deferred if any of it fails."""
    client = aiosmtplib.SMTP(
        hostname=address.host,
        port=address.port,
        local_hostname=address.hostname,
        start_tls=False,
        timeout=None,  # one deadline per stage, set here, rather than one per step inside
    )
    stage = Stage.CONNECT
    try:
        async with asyncio.timeout(timeouts.connect):
            await client.connect()
        stage = Stage.EHLO
        async with asyncio.timeout(timeouts.command):
            await client.ehlo()
    except TimeoutError:
        client.close()
        said = f"no {_AWAITED[stage]} from {_name(address)} in time"
        return Deferred(stage, None, said, NoReply.TIMED_OUT)
    except SMTPResponseException as error:
        client.close()
        return _refused(stage, address, error)
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        client.close()
        cause = _cause(error)
        said = f"{_name(address)}: {str(cause) or type(cause).__name__}"
        is_late = isinstance(cause, TimeoutError)  # the operating system lost patience before us
        return Deferred(stage, None, said, NoReply.TIMED_OUT if is_late else NoReply.NO_CONNECTION)
    except BaseException:
        client.close()
        raise
    return _take_over(client, address, timeouts)


_AWAITED = {Stage.CONNECT: "greeting", Stage.EHLO: "reply to EHLO"}


def _take_over(
    client: aiosmtplib.SMTP, address: Address, timeouts: Timeouts
) -> Connection | Deferred:
    """Move the transport of a greeted client to a `WireProtocol`."""
    transport, stock = client.transport, client.protocol
    if transport is None or stock is None or transport.is_closing():
        client.close()
        said = f"{_name(address)} closed the connection after EHLO"
        return Deferred(Stage.EHLO, None, said, NoReply.NO_CONNECTION)
    # The stock parser stops after one reply and keeps the rest where nobody would look again.
    if stock._buffer:  # noqa: SLF001 - WireProtocol must not start in the middle of a reply
        client.close()
        said = f"{_name(address)} sent more than a reply to EHLO"
        return Deferred(Stage.EHLO, None, said, NoReply.NOT_SMTP)
    wire = WireProtocol(asyncio.get_running_loop())
    transport.set_protocol(wire)
    wire.connection_made(transport)
    lines = (f"{keyword} {value}" for keyword, value in client.esmtp_extensions.items())
    offers = Offers.from_extensions(lines)
    return Connection(wire=wire, offers=offers, timeouts=timeouts)


def _refused(stage: Stage, address: Address, error: SMTPResponseException) -> Deferred:
    """Map a greeting or a reply to EHLO that was not positive, or not SMTP (code -1)."""
    reply: Reply | None = None
    why = NoReply.NO_CONNECTION if error.code > 0 else NoReply.NOT_SMTP
    if 400 <= error.code < 500:
        why = NoReply.UNKNOWN
        reply = replies.make(error.code, *error.message.split("\n")[: replies.LINES_MAX])
    said = f"{error.code} {error.message}" if error.code > 0 else error.message
    return Deferred(stage, reply, f"{_name(address)} said: {ascii(said[:200])[1:-1]}", why)


def _cause(error: Exception) -> Exception:
    """The innermost cause: the operating system's words rather than three wrappings of them."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _name(address: Address) -> str:
    return f"{address.host}:{address.port}"
