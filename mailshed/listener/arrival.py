"""From an accepted connection to its session: what happens before the first word.

1. *Who is it?* On a listener behind proxies with the PROXY protocol, a proxy has to say for whom it
   connects (`proxy_header`); anybody else is turned away before a single octet of it is read.
2. *Room*: is there a session for this client (`caps`)? Only here, and not when the event loop asks
   for a protocol, is there an address to judge by. Who is turned away costs no session.
3. *The session gets the transport* (`hand_over`). It makes the client's value, and then, on a
   listener with implicit TLS, does the handshake as its first act (`starttls.begin`), on the same
   path as STARTTLS and bounded by the same caps.

All that is one turn of the loop, so a client's hello is read by the TLS layer and by nobody before.
"""

import asyncio
from typing import Protocol, cast

from mailshed.admission.sessions import Standing, Visitor
from mailshed.config.policy import ListenerPolicy, ProxyMode, TlsMode
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.proxy_header import ProxyHeaderReceiver
from mailshed.mail import reply
from mailshed.mail.networks import NO_ADDRESS, as_told, normal_address
from mailshed.mail.proxy_protocol import Endpoint, ProxyHeader
from mailshed.mail.reply import Reply
from mailshed.metrics.labels import Shut


class Door(Protocol):
    """What an arrival asks of its listener."""

    awaited: set[ProxyHeaderReceiver]
    """Proxies whose header has not come yet."""

    @property
    def policy(self) -> ListenerPolicy:
        """What the listener offers."""
        ...

    @property
    def proxy_timeout(self) -> float:
        """Seconds that a proxy may take for its header."""
        ...

    def visitor(self, peer: Endpoint, *, is_proxied: bool) -> Visitor:
        """Say what is known of whoever connects from there, itself or through a proxy."""
        ...

    def enter(self, visitor: Visitor) -> Reply | None:
        """Take a place for a connection, which `leave` gives back; or say why there is none."""
        ...

    def leave(self, visitor: Visitor) -> None:
        """Give a place back."""
        ...

    def refuse(self, visitor: Visitor, cause: Shut, answer: Reply | None, detail: str) -> None:
        """Note that a connection is turned away, for another reason than want of a place."""
        ...

    def new_session(self, visitor: Visitor, peer: Endpoint) -> SmtpSession:
        """Make the session of a client that has a place."""
        ...


class Arrival(asyncio.Protocol):
    """A connection whose peer is not known yet: it becomes a session, or hears one line and ends.

    A client that waits for TLS would take that line for garbage, and hears nothing. It keeps
    nothing of the connection, so one does for all of a listener.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who it is, and whether there is room."""
        # uvloop's transports have the methods, but are no subclasses.
        stream = cast("asyncio.Transport", transport)
        name = stream.get_extra_info("peername")
        if not name:
            _turn_away(stream, self._door, reply.SHUTTING_DOWN)  # gone already
            return
        peer = Endpoint(address=normal_address(name[0]), port=name[1])
        visitor = self._door.visitor(peer, is_proxied=False)
        if self._door.policy.proxy is ProxyMode.PROXY_PROTOCOL:
            _ask_proxy(stream, self._door, visitor, peer)
        else:
            _let_in(stream, self._door, visitor, peer)


def _let_in(stream: asyncio.Transport, door: Door, visitor: Visitor, peer: Endpoint) -> None:
    refusal = door.enter(visitor)
    if refusal is not None:
        _turn_away(stream, door, refusal)
    else:
        hand_over(stream, door.new_session(visitor, peer))


def _turn_away(stream: asyncio.Transport, door: Door, answer: Reply) -> None:
    if door.policy.tls is not TlsMode.IMPLICIT:
        stream.write(answer.wire)
    stream.close()


def _ask_proxy(stream: asyncio.Transport, door: Door, proxy: Visitor, peer: Endpoint) -> None:
    """Let the proxy say whose connection it is; until then it has a place of its own."""
    if proxy.standing is not Standing.PROXY:
        door.refuse(proxy, "no_proxy", reply.NOT_A_PROXY, "")
        _turn_away(stream, door, reply.NOT_A_PROXY)
        return
    if (refusal := door.enter(proxy)) is not None:
        _turn_away(stream, door, refusal)
        return

    def told(header: ProxyHeader) -> None:
        if header.is_own:  # it has its place
            hand_over(stream, door.new_session(proxy, peer))
        else:
            door.leave(proxy)
            client = _client_of(header, peer)
            _let_in(stream, door, door.visitor(client, is_proxied=True), client)
        if door.policy.tls is not TlsMode.IMPLICIT:
            stream.resume_reading()

    def ended(why: str) -> None:
        door.leave(proxy)
        if why:
            door.refuse(proxy, "proxy_header", None, why)

    receiver = ProxyHeaderReceiver(told, ended, door.awaited, door.proxy_timeout)
    stream.set_protocol(receiver)
    receiver.connection_made(stream)


def _client_of(header: ProxyHeader, proxy: Endpoint) -> Endpoint:
    if header.source is None:
        return Endpoint(address=NO_ADDRESS, port=0)
    address = as_told(header.source.address, proxy.address)
    return Endpoint(address=address, port=header.source.port)


def hand_over(stream: asyncio.Transport, session: SmtpSession) -> None:
    """Give the connection to its session, which speaks first or begins TLS."""
    stream.set_protocol(session)
    session.connection_made(stream)
