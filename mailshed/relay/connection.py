"""Open one connection to a backend: connect, greeting, EHLO, TLS, login.

aiosmtplib connects, over TLS if that comes first, and reads the greeting; then the transport is
handed to `WireProtocol`, which lets no octet pass that nobody asked for, and aiosmtplib's client
object is forgotten. EHLO is said again after STARTTLS, and what was offered before it does not
count (RFC 3207, 4.2).

When any of it fails, the result is a `Deferred`: whatever a server says before the first MAIL
concerns the connection, not a message, so even a 554 greeting does not bounce anybody's mail. The
reply of such a result is kept only if it is a 4xx to the greeting or to EHLO; a 5xx is told in the
detail, so that it can never be passed on to a client as a permanent refusal, and what concerns our
TLS or our login is nothing that a client could do anything about.

How a connection is to be protected is `security`'s, and what goes wrong is remembered there; how
each failure is told is `unready`'s. Limits: no HELO for servers that do not know EHLO.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

import aiosmtplib
from aiosmtplib import SMTPResponseException

from mailshed.mail.delivery import Deferred, NoReply
from mailshed.relay import unready
from mailshed.relay.backend import NOBODY, Origin
from mailshed.relay.credentials import LoginFailure, Refusal, log_in
from mailshed.relay.dial import dial
from mailshed.relay.offers import Offers
from mailshed.relay.security import BackendTls, Security
from mailshed.relay.tls import fault_of
from mailshed.relay.wire import WireProtocol
from mailshed.terms import Stage

QUIT_TIMEOUT = 5.0
"""Seconds that a server may take for the reply to QUIT, which nobody needs."""
VANISHED_AFTER = 60.0
"""Seconds, at least, after which a host that acknowledges nothing counts as gone."""

_OK, _GO_AHEAD = 250, 220
# STARTTLS and AUTH have no stage of their own: they belong to the greeting, as EHLO does.
_HELLO = (Stage.EHLO,)


def _forget(_lines: Sequence[str]) -> None:
    """Nobody wants to know what was offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a backend is, who we say we are (the EHLO name), and how its connections begin."""

    host: str
    port: int
    hostname: str
    socket: Path | None = None
    """Of the server, if it is on this host; in place of host and port."""
    protocol: Literal["smtp", "lmtp"] = "smtp"
    proxy_protocol: bool = False
    """Whether it wants to be told both ends of the connection before all else."""
    security: Security = field(default_factory=Security)
    on_hello: Callable[[Sequence[str]], None] = _forget
    """Told the lines of the last reply to EHLO, without the first; they are what counts."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.host}:{self.port}" if self.socket is None else str(self.socket)


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
    identity: Origin = NOBODY
    """Whose session the backend takes it for, since XCLIENT; NOBODY: ours."""
    is_spent: bool = False
    """Whether it is to be closed after this transaction, and not to serve another."""
    trouble: str | None = None
    """What keeps the backend from being told whose message it gets; empty if nothing does, None if
    it was not tried."""

    @property
    def is_used_up(self) -> bool:
        """Whether it has carried all the messages the server takes in a session (RFC 9422)."""
        return self.offers.mail_max is not None and self.messages >= self.offers.mail_max

    async def quit(self) -> None:
        """Say QUIT, wait a little for the reply, and close. Never raises."""
        await self.wire.exchange((b"QUIT",), (Stage.QUIT,), QUIT_TIMEOUT)
        self.wire.close()


async def open_connection(address: Address, timeouts: Timeouts) -> Connection | Deferred:
    """Open a connection that is ready for MAIL; Deferred if any of it fails."""
    security = address.security
    opened = await _open(address, timeouts, security.tls)
    if not isinstance(opened, _TlsFailed):
        return opened
    if security.policy.is_required:
        return opened.deferred
    in_clear = await _open(address, timeouts, BackendTls.NONE)
    if isinstance(in_clear, _TlsFailed):
        return in_clear.deferred
    if isinstance(in_clear, Connection):
        security.note_clear(opened.deferred.detail)
    return in_clear


@dataclass(frozen=True, slots=True)
class _TlsFailed:
    """The server is there, and TLS is what did not work."""

    deferred: Deferred


async def _open(
    address: Address, timeouts: Timeouts, tls: BackendTls
) -> Connection | Deferred | _TlsFailed:
    paused = address.security.login_pause()
    if paused is not None:
        why, seconds = paused
        said = f"{why}; next attempt in {seconds:.0f} s, or with other credentials"
        return unready.closed(address.place, Stage.EHLO, said)
    wire = await _connect(address, timeouts, tls)
    if not isinstance(wire, WireProtocol):
        return wire
    try:
        ready = await _begin(wire, address, timeouts, tls)
    except BaseException:
        wire.abort()
        raise
    if not isinstance(ready, Connection):
        wire.abort()
    return ready


async def _connect(
    address: Address, timeouts: Timeouts, tls: BackendTls
) -> WireProtocol | Deferred:
    """Connect and read the greeting."""
    security = address.security
    is_implicit = tls is BackendTls.IMPLICIT
    client = aiosmtplib.SMTP(
        hostname=security.policy.name if is_implicit else address.host,
        port=None,  # the socket knows
        local_hostname=address.hostname,
        use_tls=is_implicit,
        start_tls=False,
        tls_context=security.material.context if is_implicit else None,
        timeout=None,  # one deadline per stage, set here, rather than one per step inside
    )
    try:
        async with asyncio.timeout(timeouts.connect):
            await connect_client(client, address, timeouts)
    except SMTPResponseException as error:
        return unready.not_greeted(address.place, error)
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        return unready.not_connected(address.place, error, security.policy.name)
    return _take_over(client, address)


async def connect_client(client: aiosmtplib.SMTP, address: Address, timeouts: Timeouts) -> None:
    """Connect `client` to the backend, over a socket of our own if it is not on this host."""
    if address.socket is not None:
        await client.connect(socket_path=str(address.socket))
        return
    connection = await dial(
        address.host,
        address.port,
        timeout=timeouts.connect,
        idle_max=max(VANISHED_AFTER, 2 * timeouts.command),
        proxy_protocol=address.proxy_protocol,
    )
    try:
        await client.connect(sock=connection)
    except BaseException:
        client.close()
        connection.close()
        raise


def _take_over(client: aiosmtplib.SMTP, address: Address) -> WireProtocol | Deferred:
    """Move the transport of a greeted client to a `WireProtocol`."""
    transport, stock = client.transport, client.protocol
    if transport is None or stock is None or transport.is_closing():
        client.close()
        return unready.closed(address.place, Stage.CONNECT, "closed the connection after greeting")
    # The stock parser stops after one reply and keeps the rest where nobody would look again.
    if stock._buffer:  # noqa: SLF001 - WireProtocol must not start in the middle of a reply
        client.close()
        said = f"{address.place} sent more than a greeting"
        if address.proxy_protocol:
            said += " (proxy_protocol is set; does it expect a PROXY header?)"
        return Deferred(Stage.CONNECT, None, said, NoReply.NOT_SMTP)
    wire = WireProtocol(asyncio.get_running_loop())
    transport.set_protocol(wire)
    wire.connection_made(transport)
    return wire


async def _begin(
    wire: WireProtocol, address: Address, timeouts: Timeouts, tls: BackendTls
) -> Connection | Deferred | _TlsFailed:
    """From the greeting to the point where MAIL may be said."""
    security = address.security
    lines = await say_hello(wire, address, timeouts.command)
    if isinstance(lines, Deferred):
        return lines
    if tls in (BackendTls.STARTTLS, BackendTls.OPPORTUNISTIC):
        if Offers.from_extensions(lines).starttls:
            failed = await _start_tls(wire, address, timeouts.command)
            if failed is not None:
                return _TlsFailed(failed)
            # What came in clear may be anybody's word (RFC 3207, 4.2).
            lines = await say_hello(wire, address, timeouts.command)
            if isinstance(lines, Deferred):
                return lines
        elif tls is BackendTls.STARTTLS:
            said = "does not offer STARTTLS, and no mail goes there without TLS (tls: starttls)"
            return unready.closed(address.place, Stage.EHLO, said)
    if wire.is_encrypted:
        security.note_encrypted()
    offers = Offers.from_extensions(lines)
    if security.material.credentials is not None:
        refused = await _log_in(wire, address, offers, timeouts.command)
        if refused is not None:
            return refused
    address.on_hello(lines)
    return Connection(wire=wire, offers=offers, timeouts=timeouts)


async def say_hello(
    wire: WireProtocol, address: Address, timeout: float
) -> tuple[str, ...] | Deferred:
    """Say EHLO, or LHLO; return the lines of the reply but the first, or why there are none."""
    verb = "LHLO" if address.protocol == "lmtp" else "EHLO"
    answers = await wire.exchange((f"{verb} {address.hostname}".encode("ascii"),), _HELLO, timeout)
    reply = answers[0] if answers else None
    if reply is not None and reply.code == _OK and wire.fault is None:
        return tuple(line[4:] for line in reply.wire.decode("latin-1").split("\r\n")[1:-1])
    if reply is not None and reply.code != _OK:
        return unready.unwelcome(address.place, reply, verb)
    return unready.silent(address.place, wire.fault, verb)


async def _start_tls(wire: WireProtocol, address: Address, timeout: float) -> Deferred | None:
    """Begin TLS after STARTTLS; None if the connection is encrypted now."""
    security = address.security
    context = security.material.context
    assert context is not None, "made when the configuration asks for TLS"
    answers = await wire.exchange((b"STARTTLS",), _HELLO, timeout)
    if wire.fault is not None:
        return unready.silent(address.place, wire.fault, "STARTTLS")
    if answers[0].code != _GO_AHEAD:
        said = f"refuses STARTTLS: {answers[0].text[:200]}"
        return unready.closed(address.place, Stage.EHLO, said)
    try:
        async with asyncio.timeout(timeout):
            await wire.encrypt(context, security.policy.name)
    except TimeoutError:
        return unready.late(address.place, Stage.EHLO, "TLS handshake")
    except OSError as error:
        if wire.is_confused:
            return unready.silent(address.place, wire.fault, "STARTTLS")
        said = fault_of(error, security.policy.name)
        return unready.closed(f"{address.place}:", Stage.EHLO, said)
    return None


async def _log_in(
    wire: WireProtocol, address: Address, offers: Offers, timeout: float
) -> Deferred | None:
    """Authenticate, one connection at a time until that has worked; None if it has."""
    security = address.security
    if not wire.is_encrypted and not stays_here(wire):
        said = f"{address.place}: no login without TLS to another host"
        return Deferred(Stage.EHLO, None, said, NoReply.OUR_CHOICE)
    if security.is_login_proven:
        return await _try_login(wire, address, offers, timeout)
    try:
        async with asyncio.timeout(timeout):
            await security.proving.acquire()
    except TimeoutError:
        return unready.late(address.place, Stage.EHLO, "turn to log in")
    try:
        paused = security.login_pause()
        if paused is not None:  # the one before us was refused
            return unready.closed(address.place, Stage.EHLO, paused[0])
        return await _try_login(wire, address, offers, timeout)
    finally:
        security.proving.release()


async def _try_login(
    wire: WireProtocol, address: Address, offers: Offers, timeout: float
) -> Deferred | None:
    security = address.security
    credentials = security.material.credentials
    assert credentials is not None, "the caller has looked"
    match await log_in(wire, offers, credentials, timeout):
        case None:
            security.note_login()
            return None
        case LoginFailure(refusal, detail, why):
            said = f"refuses our login: {detail}"
            if refusal is Refusal.WRONG:
                said += " (name or password in credentials_file)"
                security.note_login_refused(said)
            return Deferred(Stage.EHLO, None, f"{address.place} {said}", why)


def stays_here(wire: WireProtocol) -> bool:
    """Whether the other end is on this host, whatever its name says."""
    peer = wire.peer_address
    if not peer:
        return peer is not None  # a Unix socket
    return ip_address(peer.partition("%")[0]).is_loopback
