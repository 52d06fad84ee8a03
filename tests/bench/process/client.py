"""A client in lock-step over a connection of its own, plain or under TLS; blocking."""

import socket
import ssl
from types import TracebackType
from typing import Literal, Self

from tests.bench.process.crowd import HELLO, is_whole
from tests.bench.process.place import Place
from tests.support.processes import DEADLINE

Way = Literal["plain", "starttls", "implicit"]

_PIECE = 256 * 1024


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


TRUSTING = _trusting()
"""TLS for a client that takes any certificate."""


class Client:
    """One session, greeted; a context manager."""

    def __init__(self, at: Place, way: Way = "plain") -> None:
        ports = {
            "plain": at.daemon.port,
            "starttls": at.starttls_port,
            "implicit": at.implicit_port,
        }
        self._socket = socket.create_connection(("127.0.0.1", ports[way]), timeout=DEADLINE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if way == "implicit":
            self._socket = TRUSTING.wrap_socket(self._socket)
        self._expect(b"220")
        self.say(HELLO, b"250")
        if way == "starttls":
            self.say(b"STARTTLS\r\n", b"220")
            self._socket = TRUSTING.wrap_socket(self._socket)
            self.say(HELLO, b"250")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def say(self, data: bytes, code: bytes) -> None:
        """Send it and wait for this reply."""
        self._socket.sendall(data)
        self._expect(code)

    def send(self, data: bytes) -> None:
        """One message; `data` is in wire form, with the final dot."""
        self.say(b"MAIL FROM:<sender@personal.example>\r\n", b"250")
        self.say(b"RCPT TO:<recipient@hospital.example>\r\n", b"250")
        self.say(b"DATA\r\n", b"354")
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            self._socket.sendall(view[start : start + _PIECE])
        self._expect(b"250")

    def close(self) -> None:
        """Go without a word."""
        self._socket.close()

    def _expect(self, code: bytes) -> None:
        reply = b""
        while not is_whole(reply):
            received = self._socket.recv(4096)
            assert received, f"the connection ended after {reply!r}"
            reply += received
        assert reply.startswith(code), reply


def message(octets: int) -> bytes:
    """A message of about so many, in wire form, with the final dot."""
    line = b"." + b"x" * 75 + b"\r\n"
    return b"Subject: figures\r\n\r\n" + line * max(1, octets // len(line)) + b".\r\n"
