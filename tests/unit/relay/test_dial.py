"""Connecting: the addresses of a name in turn, the PROXY header, and the kernel's watch."""

import asyncio
import socket
from typing import Any, Self

import pytest

from mailshed.mail.proxy_protocol import ProxyHeaderParser
from mailshed.relay.dial import ADDRESSES_MAX, dial
from tests.support.outbound import DEADLINE

SILENT = "192.0.2.1"  # TEST-NET-1 (RFC 5737): here it stands for one that swallows packets


class Listening:
    """A socket that takes connections, without anybody to read them."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_server((host, 0))
        self.port = int(self.socket.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A resolver that knows these names."""
    known: dict[str, list[str]] = {}

    async def resolve(_: Any, host: str, port: int, **_options: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in known[host]]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    return known


async def connect(host: str, port: int, timeout: float = DEADLINE) -> str:
    with await dial(host, port, timeout=timeout, idle_max=60.0) as connection:
        return str(connection.getpeername()[0])


async def test_an_address_needs_no_resolver(names: dict[str, list[str]]) -> None:
    with Listening() as server:
        assert await connect("127.0.0.1", server.port) == "127.0.0.1"
    with Listening() as server, pytest.raises(socket.gaierror):
        await connect("unknown.test", server.port)
    assert names == {}


async def test_the_next_address_is_tried_when_one_refuses(names: dict[str, list[str]]) -> None:
    names["mail.test"] = ["127.0.0.3", "127.0.0.2"]
    with Listening("127.0.0.2") as server:
        assert await connect("mail.test", server.port) == "127.0.0.2"
    with pytest.raises(ConnectionRefusedError):
        await connect("mail.test", server.port)


async def test_one_that_swallows_packets_does_not_use_up_the_time_of_all(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["mail.test"] = [SILENT, "127.0.0.1"]
    loop = asyncio.get_running_loop()
    really = loop.sock_connect
    asked: list[str] = []

    async def sock_connect(connection: socket.socket, address: Any) -> None:
        asked.append(address[0])
        if address[0] == SILENT:
            await asyncio.Event().wait()
        await really(connection, address)

    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    with Listening() as server:
        began = loop.time()
        assert await connect("mail.test", server.port, timeout=0.4) == "127.0.0.1"
        assert loop.time() - began < DEADLINE / 2
        names["mail.test"] = [SILENT, SILENT]
        with pytest.raises(TimeoutError):
            await connect("mail.test", server.port, timeout=0.1)
    assert asked == [SILENT, "127.0.0.1", SILENT, SILENT]


async def test_a_name_has_a_bounded_number_of_addresses(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["mail.test"] = ["127.0.0.9"] * 50
    asked = 0

    async def refuse(connection: socket.socket, address: Any) -> None:
        nonlocal asked
        asked += 1
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", refuse)
    with pytest.raises(ConnectionRefusedError):
        await connect("mail.test", 25)
    assert asked == ADDRESSES_MAX


async def test_a_resolver_that_hangs_ends_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(*_: Any, **_options: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang)
    with pytest.raises(TimeoutError):
        await connect("mail.test", 25, timeout=0.05)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_header_names_both_ends(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        connection = await dial(host, port, timeout=DEADLINE, idle_max=60.0, proxy_protocol=True)
        with connection:
            accepted, peer = server.accept()
            with accepted:
                header = ProxyHeaderParser().feed(accepted.recv(1000))
            assert header is not None
            assert header.source is not None
            assert header.destination is not None
            assert (str(header.source.address), header.source.port) == peer[:2]
            assert (str(header.destination.address), header.destination.port) == (host, port)


async def test_the_kernel_watches_over_a_connection_on_which_nothing_comes() -> None:
    with Listening() as server:
        connection = await dial("127.0.0.1", server.port, timeout=DEADLINE, idle_max=75.5)
        with connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            found = {
                name: connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            }
            assert found == {
                "TCP_KEEPIDLE": 30,
                "TCP_KEEPINTVL": 10,
                "TCP_KEEPCNT": 3,
                "TCP_USER_TIMEOUT": 75_500,
            }


async def test_a_system_without_those_options_gets_those_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TCP_KEEPIDLE", "TCP_USER_TIMEOUT"):
        monkeypatch.delattr(f"mailshed.relay.dial.socket.{name}")
    with Listening() as server:
        connection = await dial("127.0.0.1", server.port, timeout=DEADLINE, idle_max=60.0)
        with connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
