"""Many sessions at once from one thread: they connect, say EHLO, and are there.

Each has an address of its own in 250 networks of 127/8, as the clients of `tests.bench.siege` have,
so that no cap on strangers is in the way. Sockets are plain and non-blocking; a session costs the
bench some 50 us.
"""

import selectors
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tests.support.processes import DEADLINE

HELLO = b"EHLO idle.example\r\n"
_NETWORKS = 250
_AT_ONCE = 200
"""How many connect and greet together."""
_AT_ONCE_AND_HARD = struct.pack("ii", 1, 0)
"""struct linger of socket(7): close(2) sends RST."""
_IP_BIND_ADDRESS_NO_PORT = 24
"""Of <linux/in.h>: the port is chosen at the connect, so there is one for each destination."""


@contextmanager
def crowd(port: int, count: int, *, is_vanishing: bool = False) -> Iterator[None]:
    """So many sessions that have said EHLO and heard the answer; they leave all at once.

    Vanishing ones reset their connections.
    """
    with ExitStack() as stack:
        clients: list[socket.socket] = []
        while (begun := len(clients)) < count:
            numbers = range(begun, min(count, begun + _AT_ONCE))
            some = [stack.enter_context(_connect(port, _address(number))) for number in numbers]
            _greet(some)
            clients += some
        yield
        if is_vanishing:
            for client in clients:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE_AND_HARD)


def is_whole(reply: bytes) -> bool:
    """Whether the last line of a reply is there."""
    return reply.endswith(b"\r\n") and reply.splitlines()[-1][3:4] == b" "


def _address(number: int) -> str:
    host, network = divmod(number, _NETWORKS)
    return f"127.1.{network}.{host % _NETWORKS + 1}"


def _connect(port: int, source: str) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    client.bind((source, 0))
    client.setblocking(False)
    client.connect_ex(("127.0.0.1", port))
    return client


def _greet(clients: Sequence[socket.socket]) -> None:
    """Hear the greeting of each, say EHLO, and hear the answer."""
    end = time.monotonic() + DEADLINE
    heard = dict.fromkeys(clients, b"")
    with selectors.EpollSelector() as selector:
        for each in clients:
            selector.register(each, selectors.EVENT_READ, each)
        while heard:
            assert time.monotonic() < end, f"{len(heard)} sessions have no answer"
            for key, _ in selector.select(1.0):
                client: socket.socket = key.data
                received = client.recv(4096)
                heard[client] += received
                assert received, f"the connection ended after {heard[client]!r}"
                if not is_whole(heard[client]):
                    continue
                if heard[client].startswith(b"220"):
                    heard[client] = b""
                    client.send(HELLO)
                    continue
                assert heard[client].startswith(b"250"), heard[client]
                selector.unregister(client)
                del heard[client]
