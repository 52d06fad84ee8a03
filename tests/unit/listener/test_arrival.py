"""Who is asked what between accept and the session; over real sockets in `tests/protocol`."""

import asyncio
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, cast

import pytest

from mailshed.admission.sessions import Standing, Visitor
from mailshed.config.policy import ListenerPolicy, ProxyMode, TlsMode
from mailshed.listener.arrival import Arrival
from mailshed.listener.proxy_header import ProxyHeaderReceiver
from mailshed.mail import reply
from mailshed.mail.networks import NO_ADDRESS
from mailshed.mail.proxy_protocol import Endpoint, build_v2, build_v2_local
from mailshed.mail.reply import Reply

PROXY, CLIENT, ELSEWHERE = "127.0.0.1", "192.0.2.7", "198.51.100.1"
HEADER = build_v2(
    Endpoint(address=ip_address(CLIENT), port=7), Endpoint(address=ip_address("::1"), port=25)
)


@dataclass
class Stream:
    """The transport of a connection from `host`."""

    host: str | None = PROXY
    protocol: Any = None
    written: bytes = b""
    is_closed: bool = False
    reading: list[str] = field(default_factory=list)

    def get_extra_info(self, name: str) -> object:
        assert name == "peername"
        return None if self.host is None else (self.host, 40000)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def pause_reading(self) -> None:
        self.reading.append("pause")

    def resume_reading(self) -> None:
        self.reading.append("resume")


@dataclass
class Session:
    """What a session is to an arrival."""

    policy: ListenerPolicy
    connections: list[Stream] = field(default_factory=list)

    def connection_made(self, stream: Stream) -> None:
        self.connections.append(stream)


@dataclass
class Door:
    """A listener that notes what it is asked."""

    policy: ListenerPolicy
    refusal: Reply | None = None
    proxy_timeout: float = 5.0
    awaited: set[ProxyHeaderReceiver] = field(default_factory=set)
    inside: list[Visitor] = field(default_factory=list)
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    sessions: list[tuple[str, int, Session]] = field(default_factory=list)

    def visitor(self, peer: Endpoint, *, is_proxied: bool) -> Visitor:
        is_proxy = str(peer.address) in (PROXY, ELSEWHERE) and not is_proxied
        return Visitor(peer.address, Standing.PROXY if is_proxy else Standing.STRANGER)

    def enter(self, visitor: Visitor) -> Reply | None:
        if self.refusal is None:
            self.inside.append(visitor)
        return self.refusal

    def leave(self, visitor: Visitor) -> None:
        self.inside.remove(visitor)

    def refuse(self, visitor: Visitor, cause: str, answer: Reply | None, detail: str) -> None:
        self.refused.append((str(visitor.address), cause, detail))

    def new_session(self, visitor: Visitor, peer: Endpoint) -> Session:
        assert visitor in self.inside
        session = Session(self.policy)
        self.sessions.append((str(peer.address), peer.port, session))
        return session


def arrive(
    host: str | None = PROXY,
    *,
    proxy: ProxyMode = ProxyMode.PROXY_PROTOCOL,
    tls: TlsMode = TlsMode.NONE,
    refusal: Reply | None = None,
) -> tuple[Door, Stream]:
    """Let somebody connect from `host`."""
    door = Door(ListenerPolicy(name="smtp", proxy=proxy, tls=tls), refusal)
    stream = Stream(host)
    Arrival(cast("Any", door)).connection_made(cast("Any", stream))
    return door, stream


def tell(stream: Stream, octets: bytes) -> None:
    """Let octets arrive while the header is awaited."""
    receiver = stream.protocol
    assert isinstance(receiver, ProxyHeaderReceiver)
    for octet in octets:
        receiver.get_buffer(1)[:1] = bytes([octet])
        receiver.buffer_updated(1)


async def test_a_client_that_has_room_gets_its_session() -> None:
    door, stream = arrive("192.0.2.1", proxy=ProxyMode.NONE)
    ((host, port, session),) = door.sessions
    assert (host, port) == ("192.0.2.1", 40000)
    assert stream.protocol is session
    assert session.connections == [stream]
    assert stream.reading == []


async def test_an_ipv4_client_on_an_ipv6_socket_is_an_ipv4_client() -> None:
    door, _ = arrive("::ffff:192.0.2.1", proxy=ProxyMode.NONE)
    assert door.sessions[0][0] == "192.0.2.1"


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (TlsMode.NONE, reply.TOO_MANY_SESSIONS.wire),
        (TlsMode.STARTTLS, reply.TOO_MANY_SESSIONS.wire),
        (TlsMode.IMPLICIT, b""),
    ],
)
async def test_who_is_turned_away_is_told_unless_it_waits_for_tls(
    tls: TlsMode, said: bytes
) -> None:
    door, stream = arrive(proxy=ProxyMode.NONE, tls=tls, refusal=reply.TOO_MANY_SESSIONS)
    assert (stream.written, stream.is_closed, door.sessions) == (said, True, [])


async def test_who_is_gone_already_gets_no_session() -> None:
    door, stream = arrive(None)
    assert stream.is_closed
    assert (door.inside, door.sessions) == ([], [])


@pytest.mark.parametrize("tls", TlsMode)
async def test_behind_the_header_comes_the_session_and_the_tls_layer_reads(tls: TlsMode) -> None:
    door, stream = arrive(tls=tls)
    assert len(door.inside) == 1
    tell(stream, HEADER)
    ((host, port, session),) = door.sessions
    assert (host, port) == (CLIENT, 7)
    assert [str(each.address) for each in door.inside] == [CLIENT]
    assert session.connections == [stream]
    is_reading = stream.reading[-1] == "resume"
    assert is_reading is (tls is not TlsMode.IMPLICIT)


async def test_a_proxy_that_speaks_for_itself_keeps_its_place() -> None:
    door, stream = arrive()
    tell(stream, build_v2_local())
    assert [each[:2] for each in door.sessions] == [(PROXY, 40000)]
    assert [each.standing for each in door.inside] == [Standing.PROXY]


@pytest.mark.parametrize(
    ("proxy", "header"),
    [
        (PROXY, b"PROXY UNKNOWN\r\n"),
        (ELSEWHERE, b"PROXY TCP4 127.0.0.1 198.51.100.25 7 25\r\n"),
    ],
)
async def test_a_client_that_cannot_be_named_is_not_the_proxy_nor_one_of_ours(
    proxy: str, header: bytes
) -> None:
    """The proxy may be trusted, and loopback mostly is: ours, and not that of the proxy's host."""
    door, stream = arrive(proxy)
    tell(stream, header)
    assert [each[0] for each in door.sessions] == [str(NO_ADDRESS)]
    assert [each.address for each in door.inside] == [NO_ADDRESS]


async def test_without_a_header_the_place_is_free_again() -> None:
    door, stream = arrive()
    tell(stream, b"Q")
    assert stream.is_closed
    assert (door.inside, door.sessions) == ([], [])
    assert [each[:2] for each in door.refused] == [(PROXY, "proxy_header")]


async def test_a_stranger_is_not_asked_for_a_header() -> None:
    door, stream = arrive("192.0.2.1")
    assert stream.written == reply.NOT_A_PROXY.wire
    assert stream.is_closed
    assert stream.protocol is None
    assert door.refused == [("192.0.2.1", "no_proxy", "")]


async def test_a_full_house_has_no_place_for_a_proxy_either() -> None:
    door, stream = arrive(refusal=reply.TOO_MANY_SESSIONS)
    assert stream.written == reply.TOO_MANY_SESSIONS.wire
    assert (stream.protocol, door.awaited) == (None, set())
    await asyncio.sleep(0)
