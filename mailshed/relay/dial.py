"""A connected socket to a backend: its addresses in turn, the PROXY header, signs of life.

The socket is our own, and aiosmtplib is handed it, for two reasons. A PROXY header (version 2) has
to go out before anything else, TLS included, and it names both ends. And a host that vanishes
(power, cable, a firewall that forgets) leaves a connection on which nothing ever comes; while we
wait for the reply to the final dot, that holds a slot for `dot_timeout`, minutes. So keep-alive
probes begin after 30 s and end it after 60 (tcp(7)). Octets that were sent and are not
acknowledged, or that the server has no room for, end it after `idle_max` (`TCP_USER_TIMEOUT`),
which is never less than what a slow server may take without progress.

A name may have several addresses; they are tried in the order of the resolver, and each gets its
equal part of the time that is left, so that one which swallows packets does not use up all of it.
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from mailshed.mail.proxy_protocol import Endpoint, build_v2

ADDRESSES_MAX = 8
"""Addresses of one name that are tried."""
KEEPALIVE_IDLE = 30
"""Seconds of silence before the first keep-alive probe; unanswered ones follow each other in
`KEEPALIVE_INTERVAL`, and after `KEEPALIVE_COUNT` of them the connection is over."""
KEEPALIVE_INTERVAL = 10
KEEPALIVE_COUNT = 3

SocketAddress = tuple[Any, ...]


async def dial(
    host: str, port: int, *, timeout: float, idle_max: float, proxy_protocol: bool = False
) -> socket.socket:
    """Connect. Raises OSError, of which TimeoutError is one, about the address tried last."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    async with asyncio.timeout_at(deadline):
        targets = await _addresses(host, port)
    failure: OSError | None = None
    for index, (family, address) in enumerate(targets):
        share = (deadline - loop.time()) / (len(targets) - index)
        try:
            async with asyncio.timeout(share):
                return await _connect(family, address, idle_max, proxy_protocol=proxy_protocol)
        except OSError as error:
            failure = error
    assert failure is not None, "a name without addresses is an error of its own"
    raise failure


async def _addresses(host: str, port: int) -> Sequence[tuple[int, SocketAddress]]:
    """Family and address, best first. An IP address needs no resolver, and no thread of its."""
    with suppress(ValueError):
        literal = ip_address(host)
        if "%" not in host:
            return [(socket.AF_INET if literal.version == 4 else socket.AF_INET6, (host, port))]
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    return [(family, address) for family, _, _, _, address in found[:ADDRESSES_MAX]]


async def _connect(
    family: int, address: SocketAddress, idle_max: float, *, proxy_protocol: bool
) -> socket.socket:
    loop = asyncio.get_running_loop()
    # Named in full: asyncio sets TCP_NODELAY only if the protocol is not left to the kernel.
    connection = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        connection.setblocking(False)
        watch_over(connection, idle_max)
        await _reach(connection, address)
        if proxy_protocol:
            here, there = connection.getsockname(), connection.getpeername()
            await loop.sock_sendall(connection, build_v2(_endpoint(here), _endpoint(there)))
    except BaseException:
        connection.close()
        raise
    return connection


async def _reach(connection: socket.socket, address: SocketAddress) -> None:
    try:
        await asyncio.get_running_loop().sock_connect(connection, address)
    except OSError as error:
        if error.errno is None:
            raise
        # The loop repeats the address in place of the system's word for what is wrong.
        raise OSError(error.errno, os.strerror(error.errno)) from None


def watch_over(connection: socket.socket, idle_max: float) -> None:
    """Have the kernel notice that the other end is gone; seconds. Linux has all of it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", int(idle_max * 1000)),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _endpoint(address: SocketAddress) -> Endpoint:
    host, port = address[:2]
    return Endpoint(address=ip_address(host.partition("%")[0]), port=port)
