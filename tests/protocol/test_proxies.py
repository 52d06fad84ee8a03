"""Connections through proxies: the PROXY header and XCLIENT, from who may say them and who may not.

The front listens on loopback; 127.0.0.1 is its proxy, 127.0.0.2 is nobody.
"""

import asyncio
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from mailshed.config.policy import ListenerPolicy, ProxyMode, TlsMode
from mailshed.listener.reader import BUFFER_LIMIT
from mailshed.mail.proxy_protocol import SIGNATURE, Endpoint, build_v1, build_v2, build_v2_local
from mailshed.mail.reply import TOO_MANY_OF_ADDRESS, TOO_MANY_SESSIONS
from tests.support.certificates import make_authority
from tests.support.front import HOSTNAME, Front, Peer, ScriptedHandler, settle, until
from tests.support.tls import TlsPeer, client_context, new_handshakes
from tests.unit.mail.test_proxy_protocol import HEADERS, MALFORMED

NOBODY = "127.0.0.2"
GREETING = b"220 mail.example.com ESMTP mailshed\r\n"
CLIENT = Endpoint(address=ip_address("192.0.2.7"), port=40000)
HERE = Endpoint(address=ip_address("198.51.100.25"), port=25)
DENIED = b"554 5.7.1 This port is for our proxies only\r\n"


def proxied(proxy: ProxyMode = ProxyMode.PROXY_PROTOCOL, **limits: Any) -> Front:
    front = Front(ScriptedHandler(clinical_hosts=()), **limits)
    front.policy = ListenerPolicy(name="smtp", proxy=proxy)
    return front


async def through(front: Front, header: bytes, *, cuts: tuple[int, ...] = ()) -> Peer:
    """Connect as the proxy, and say whose connection it is."""
    peer = await front.peer(greeted=False)
    await peer.send(header, cuts=cuts)
    return peer


def client_of(front: Front) -> tuple[str, int]:
    return front.session.client.address_text, front.session.client.port


# The PROXY protocol.


@pytest.mark.parametrize("name", HEADERS)
async def test_the_client_is_who_the_header_says_and_the_proxy_only_for_itself(name: str) -> None:
    header, expected = HEADERS[name]
    async with proxied() as front:
        peer = await through(front, header)
        assert await peer.reply() == GREETING
        if expected.is_own:
            assert client_of(front)[0] == "127.0.0.1"
        elif expected.source is None:
            assert client_of(front) == ("0.0.0.0", 0)
        else:
            assert client_of(front) == (str(expected.source.address), expected.source.port)
        await peer.greet()
        assert not front.server.awaited


@pytest.mark.parametrize("header", [build_v1(CLIENT, HERE), build_v2(CLIENT, HERE)])
async def test_the_header_may_come_octet_by_octet_and_with_the_first_commands(
    header: bytes,
) -> None:
    async with proxied() as front:
        peer = await through(front, header, cuts=tuple(range(1, len(header))))
        assert await peer.reply() == GREETING
        eager = await through(front, header + b"EHLO c\r\nMAIL FROM:<a@example.org>\r\n")
        assert await eager.reply() == GREETING
        assert (await eager.reply()).startswith(b"250-" + HOSTNAME.encode())
        assert (await eager.reply()).startswith(b"250 2.1.0")
        assert client_of(front) == ("192.0.2.7", 40000)


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_no_header_ends_the_connection_at_once_and_unanswered(name: str) -> None:
    async with proxied() as front:
        async with asyncio.timeout(1.0):
            peer = await through(front, MALFORMED[name])
            assert await peer.rest() == b""
        await until(lambda: front.handler.refusals == ["proxy_header"], "it is counted")
        assert front.handler.sessions == []
        assert front.handler.caps.open == 0


async def test_a_header_that_announces_64_kib_is_refused_before_they_come() -> None:
    """However much is on its way, next to nothing of it is read."""
    async with proxied() as front:
        peer = await front.peer(greeted=False)
        asked = asyncio.gather(
            peer.send(SIGNATURE + b"\x21\x11\xff\xff" + bytes(65535)), return_exceptions=True
        )
        assert await peer.rest() == b""
        await asked
        assert front.handler.refusals == ["proxy_header"]
        assert "announces 65535 octets" in front.handler.log.getvalue()


@pytest.mark.parametrize("beginning", [b"PROXY TCP4 192.0", SIGNATURE, SIGNATURE + b"\x21\x11\0"])
async def test_a_header_that_does_not_end_is_waited_for_no_longer_than_allowed(
    beginning: bytes,
) -> None:
    async with proxied(proxy_timeout=0.1) as front:
        peer = await through(front, beginning)
        assert await peer.rest() == b""
        silent = await front.peer(greeted=False)
        assert await silent.rest() == b""
        await until(lambda: len(front.handler.refusals) == 2, "both are counted")
        assert front.handler.caps.open == 0


async def test_a_header_that_is_cut_off_is_a_fault_and_a_mere_look_is_none() -> None:
    """HAProxy's plain health check connects and closes."""
    async with proxied() as front:
        cut = await through(front, b"PROXY TCP4 192.0")
        await settle()
        cut.half_close()
        assert await cut.rest() == b""
        look = await front.peer(greeted=False)
        await until(lambda: len(front.server.awaited) == 1, "it is awaited")
        look.half_close()
        assert await look.rest() == b""
        reset = await front.peer(greeted=False)
        await until(lambda: len(front.server.awaited) == 1, "it is awaited")
        reset.reset()
        await until(lambda: front.handler.caps.open == 0, "all places are free")
        assert front.handler.refusals == ["proxy_header"]


@pytest.mark.parametrize(
    "sent", [b"", b"EHLO c\r\n", build_v2(CLIENT, HERE), build_v1(CLIENT, HERE)]
)
async def test_who_is_no_proxy_is_turned_away_and_nothing_of_it_is_read(sent: bytes) -> None:
    """Else anybody could claim any address."""
    async with proxied() as front:
        peer = await front.peer(greeted=False, host=NOBODY)
        await peer.send(sent)
        assert await peer.rest() in (DENIED, b"")  # what lies unread may cost the reply
        assert front.handler.sessions == []
        assert front.handler.refusals == ["no_proxy"]
        assert not front.server.awaited


@pytest.mark.parametrize("header", [build_v1(CLIENT, HERE), build_v2(CLIENT, HERE)])
async def test_a_listener_without_proxies_takes_a_header_for_garbage(header: bytes) -> None:
    async with proxied(ProxyMode.NONE) as front:
        peer = await front.peer()
        await peer.send(header)
        assert (await peer.reply())[:3] in (b"500", b"502")
        assert client_of(front)[0] == "127.0.0.1"


@pytest.mark.parametrize("header", [build_v1(CLIENT, HERE), build_v2(CLIENT, HERE)])
async def test_a_second_header_changes_nothing(header: bytes) -> None:
    other = Endpoint(address=ip_address("203.0.113.9"), port=9)
    async with proxied() as front:
        peer = await through(front, header + build_v1(other, HERE))
        assert await peer.reply() == GREETING
        assert (await peer.reply())[:3] == b"500"
        assert client_of(front) == ("192.0.2.7", 40000)


async def test_garbage_behind_the_header_is_a_bad_command() -> None:
    async with proxied() as front:
        peer = await through(front, build_v2(CLIENT, HERE) + b"\0\xff\r\n")
        assert await peer.reply() == GREETING
        assert (await peer.reply())[:3] == b"500"
        await peer.greet()


async def test_nothing_that_follows_a_header_is_buffered_beyond_the_usual() -> None:
    async with proxied() as front:
        peer = await through(front, build_v2(CLIENT, HERE))
        assert await peer.reply() == GREETING
        work = asyncio.gather(peer.send(b"x" * 2_000_000), return_exceptions=True)
        await until(lambda: not front.handler.open_sessions, "an endless line ends the session")
        assert front.session.reader.buffered <= 4 * BUFFER_LIMIT
        await work


async def test_at_a_stop_nobody_waits_for_headers() -> None:
    async with proxied(proxy_timeout=60.0) as front:
        peer = await through(front, b"PROXY ")
        await until(lambda: len(front.server.awaited) == 1, "it is awaited")
        front.server.stop_accepting()
        assert await peer.rest() == b""
        assert front.handler.caps.open == 0
        assert front.handler.refusals == []


@pytest.mark.parametrize("header", [build_v1(CLIENT, HERE), build_v2(CLIENT, HERE)])
@pytest.mark.parametrize("cut", [0, 1, 20, 999])
async def test_behind_the_header_a_connection_may_begin_with_tls(
    header: bytes, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also if the client's hello comes in the same segment as the header, or half of it does."""
    authority = make_authority(tmp_path_factory.mktemp("authority"))
    front = proxied()
    front.policy = replace(front.policy, tls=TlsMode.IMPLICIT)
    front.handshakes = new_handshakes(authority.issue())
    cuts = (min(cut, len(header)),) if cut else ()
    async with front:
        peer = TlsPeer(front.port)
        front.on_exit(peer.close)
        await peer.connect()
        await peer.begin_tls(client_context(authority), before=header, cuts=cuts)
        assert await peer.reply() == GREETING
        assert client_of(front) == ("192.0.2.7", 40000)
        await peer.greet()


# The caps count the client and not its proxy.


async def test_the_clients_of_a_proxy_are_counted_each_by_itself() -> None:
    async with proxied(sessions_per_address=2) as front:
        for host in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
            client = Endpoint(address=ip_address(host), port=1)
            for _ in range(2):
                assert await (await through(front, build_v2(client, HERE))).reply() == GREETING
            third = await through(front, build_v2(client, HERE))
            assert await third.rest() == TOO_MANY_OF_ADDRESS.wire
        assert front.handler.refusals == ["address"] * 3
        assert front.handler.caps.open == 6


async def test_a_health_check_has_no_cap_but_the_total() -> None:
    async with proxied(sessions_per_address=1, sessions_max=4) as front:
        for _ in range(4):
            assert await (await through(front, build_v2_local())).reply() == GREETING
        assert await (await front.peer(greeted=False)).rest() == TOO_MANY_SESSIONS.wire


async def test_proxies_whose_header_is_awaited_have_a_place_each() -> None:
    """Or connections without a header would be without bound."""
    async with proxied(sessions_max=3) as front:
        waiting = [await front.peer(greeted=False) for _ in range(3)]
        await until(lambda: front.handler.caps.open == 3, "all are awaited")
        assert await (await front.peer(greeted=False)).rest() == TOO_MANY_SESSIONS.wire
        await waiting[0].send(build_v2_local())
        assert await waiting[0].reply() == GREETING
        assert front.handler.caps.open == 3


async def test_a_client_behind_a_proxy_may_use_the_reserve_if_it_is_clinical() -> None:
    front = proxied(sessions_max=20)
    front.handler.clinical_hosts = ("192.0.2.99",)
    clinical = Endpoint(address=ip_address("192.0.2.99"), port=1)
    async with front:
        for _ in range(19):
            assert await (await through(front, build_v2(CLIENT, HERE))).reply() == GREETING
        refused = await through(front, build_v2(CLIENT, HERE))
        assert await refused.rest() == TOO_MANY_SESSIONS.wire
        assert await (await through(front, build_v2(clinical, HERE))).reply() == GREETING


# XCLIENT.


async def test_xclient_is_offered_to_proxies_alone() -> None:
    async with proxied(ProxyMode.XCLIENT) as front:
        peer, stranger = await front.peer(), await front.peer(host=NOBODY)
        offer = b"XCLIENT NAME REVERSE_NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
        assert offer in await peer.command("EHLO proxy", 250)
        assert b"XCLIENT" not in await stranger.command("EHLO stranger", 250)
    async with proxied(ProxyMode.NONE) as front:
        assert b"XCLIENT" not in await (await front.peer()).command("EHLO proxy", 250)


@pytest.mark.parametrize(
    ("proxy", "host"),
    [
        (ProxyMode.XCLIENT, NOBODY),
        (ProxyMode.NONE, "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("argument", ["ADDR=192.0.2.7", "LOGIN=root", "nonsense", ""])
async def test_from_anybody_else_it_is_refused_whatever_it_says(
    proxy: ProxyMode, host: str, argument: str
) -> None:
    async with proxied(proxy) as front:
        peer = await front.peer(host=host)
        before = (await peer.command("NOOP", 250)) and front.session.client
        assert await peer.command(f"XCLIENT {argument}", 550) == (
            b"550 5.7.0 Insufficient authorization\r\n"
        )
        assert front.session.client is before
        assert front.handler.introductions == []


async def test_a_proxy_on_a_listener_for_the_header_has_no_xclient() -> None:
    """Never both: a client behind the proxy would be the one to say it."""
    async with proxied() as front:
        peer = await through(front, build_v2_local())
        assert await peer.reply() == GREETING
        await peer.command("XCLIENT ADDR=192.0.2.7", 550)


async def test_after_it_the_dialog_begins_anew() -> None:
    async with proxied(ProxyMode.XCLIENT) as front:
        peer = await front.peer()
        await peer.greet()
        assert await peer.command("XCLIENT ADDR=192.0.2.7 LOGIN=alice", 220) == GREETING
        (said,) = front.handler.introductions
        assert (str(said.address), said.login) == ("192.0.2.7", "alice")
        await peer.command("MAIL FROM:<a@example.org>", 503)
        await peer.greet()
        await peer.command("MAIL FROM:<a@example.org>", 250)


async def test_not_in_the_middle_of_a_transaction() -> None:
    async with proxied(ProxyMode.XCLIENT) as front:
        peer = await front.in_transaction()
        await peer.command("XCLIENT ADDR=192.0.2.7", 503)
        assert front.handler.introductions == []
        await peer.command("RSET", 250)
        await peer.command("XCLIENT ADDR=192.0.2.7", 220)


@pytest.mark.parametrize("argument", ["", "ADDR", "ADDR=x", "COLOUR=blue", "ADDR=::1", "PORT=a"])
async def test_bad_syntax_changes_nothing(argument: str) -> None:
    async with proxied(ProxyMode.XCLIENT) as front:
        peer = await front.peer()
        await peer.greet()
        await peer.command(f"XCLIENT {argument}", 501)
        assert front.handler.introductions == []
        await peer.command("MAIL FROM:<a@example.org>", 250)


async def test_the_same_proxy_may_say_it_again() -> None:
    """By the other end of the connection, and not by who the client is said to be."""
    async with proxied(ProxyMode.XCLIENT) as front:
        peer = await front.peer()
        for number in range(3):
            await peer.command(f"XCLIENT ADDR=192.0.2.{number}", 220)
        assert [str(each.address) for each in front.handler.introductions] == [
            *("192.0.2.0", "192.0.2.1", "192.0.2.2"),
        ]


async def test_a_client_that_is_over_a_cap_ends_the_session() -> None:
    front = proxied(ProxyMode.XCLIENT)
    front.handler.introduction_answer = TOO_MANY_OF_ADDRESS
    async with front:
        peer = await front.peer()
        await peer.command("XCLIENT ADDR=192.0.2.7", 421)
        assert await peer.rest() == b""
