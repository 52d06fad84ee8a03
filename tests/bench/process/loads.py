"""What the event loop is put under, one after the other: mail of all sizes, crowds, and operators.

Each load is a function of the place and of how much. Those of `PASSING` run while mail is passed
on, those of `SPOOLING` while the mail server is away, the last of which brings it back.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tests.bench.process.client import TRUSTING
from tests.bench.process.crowd import HELLO, crowd
from tests.bench.process.place import Place
from tests.bench.tools import Mode, Sink, generate
from tests.support.processes import DEADLINE, wait_until

_KIB = 1024
_MIB = 1024 * 1024
_FEW = 10
_EHLOS = 15
"""Of one session; more without any mail between them are errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything."""

    seconds: float = 5.0
    """Of a load that has no end of its own."""
    sessions: int = 10_000
    queued: int = 8_000
    """Messages of 10 KiB that are stored."""
    scans_queued: int = 16
    times: int = 6
    """How often an operator asks for something."""


Load = Callable[[Place, Size], None]


def _send(at: Place, size: Size, octets: int, connections: int, mode: Mode = "reuse") -> None:
    """Mail over so many connections for some seconds."""
    generate(
        at.daemon.port, connections=connections, octets=octets, mode=mode, seconds=size.seconds
    )


def letters(at: Place, size: Size) -> None:
    """10 KiB over 200 connections."""
    _send(at, size, 10 * _KIB, 200)


def strangers(at: Place, size: Size) -> None:
    """10 KiB from 200 clients, a connection for each message."""
    _send(at, size, 10 * _KIB, 200, "new")


def pictures(at: Place, size: Size) -> None:
    """1 MiB over 20 connections."""
    _send(at, size, _MIB, 20)


def scans(at: Place, size: Size) -> None:
    """25 MiB over 8 connections."""
    _send(at, size, 25 * _MIB, 8)


def greetings(at: Place, size: Size) -> None:
    """100 clients at a time, each says EHLO 15 times in one piece."""
    end = time.monotonic() + size.seconds
    while time.monotonic() < end:
        clients = [socket.create_connection(("127.0.0.1", at.daemon.port)) for _ in range(100)]
        for client in clients:
            client.sendall(HELLO * _EHLOS + b"QUIT\r\n")
        for client in clients:
            _read_all(client)


def handshakes(at: Place, size: Size) -> None:
    """TLS handshakes of 20 clients at a time."""
    end = time.monotonic() + size.seconds
    while time.monotonic() < end:
        clients = [socket.create_connection(("127.0.0.1", at.implicit_port)) for _ in range(20)]
        for client in clients:
            with TRUSTING.wrap_socket(client) as secured:
                secured.sendall(HELLO + b"QUIT\r\n")
                _read_all(secured)


def coming(at: Place, size: Size) -> None:
    """10,000 idle sessions come, stay beside mail, and leave all at once."""
    with crowd(at.daemon.port, size.sessions):
        _send(at, size, 10 * _KIB, 20, "new")
    wait_until(lambda: at.daemon.metrics().total("smtp_sessions") < _FEW, "they are gone")


def vanishing(at: Place, size: Size) -> None:
    """10,000 idle sessions break off all at once, with RST."""
    with crowd(at.daemon.port, size.sessions, is_vanishing=True):
        pass
    wait_until(lambda: at.daemon.metrics().total("smtp_sessions") < _FEW, "they are gone")


def scrapes(at: Place, size: Size) -> None:
    """/metrics and `status` beside mail."""
    with _mail(at):
        for _ in range(size.times):
            at.daemon.get("/metrics")
            at.daemon.command("status")


def reloads(at: Place, size: Size) -> None:
    """SIGHUP beside mail."""
    with _mail(at):
        for _ in range(size.times):
            is_reloaded = partial(_has_reloaded, at, _reloads(at) + 1)
            at.daemon.reload()
            wait_until(is_reloaded, "it is reloaded")


def _has_reloaded(at: Place, times: int) -> bool:
    return _reloads(at) >= times


def _reloads(at: Place) -> int:
    return at.daemon.log_text.count("event=reloaded")


def _store(at: Place, octets: int, connections: int, messages: int) -> None:
    generate(
        at.daemon.port,
        connections=min(connections, messages),
        messages=messages,
        octets=octets,
        mode="reuse",
    )


def stored(at: Place, size: Size) -> None:
    """10 KiB over 200 connections into the spool."""
    _store(at, 10 * _KIB, 200, size.queued)


def scans_stored(at: Place, size: Size) -> None:
    """25 MiB over 8 connections into the spool."""
    _store(at, 25 * _MIB, 8, size.scans_queued)


def listings(at: Place, size: Size) -> None:
    """`queue list`, `queue count` and /metrics of a long queue beside mail."""
    with _mail(at):
        for _ in range(size.times):
            at.daemon.command("queue", "list")
            at.daemon.command("queue", "count")
            at.daemon.get("/metrics")


def drained(at: Place, _size: Size) -> None:
    """The mail server is back, and the queue is sent to it."""
    queued = at.daemon.metrics().total("queue_messages")
    with Sink(at.daemon.folder, at.sink_port) as sink:
        wait_until(lambda: sink.taken >= queued, "the queue is sent", 4 * DEADLINE)


PASSING: tuple[Load, ...] = (
    *(letters, strangers, pictures, scans, greetings, handshakes, coming, vanishing),
    *(scrapes, reloads),
)
SPOOLING: tuple[Load, ...] = (stored, scans_stored, listings, drained)


@contextlib.contextmanager
def _mail(at: Place) -> Iterator[None]:
    """Mail over 20 connections, again and again until what goes on beside it is done."""
    is_over = threading.Event()

    def send() -> None:
        while not is_over.is_set():
            generate(at.daemon.port, connections=20, octets=10 * _KIB, mode="reuse", seconds=0.5)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        is_over.set()
        sender.join()


def _read_all(client: socket.socket) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while client.recv(65536):
            pass
    client.close()
