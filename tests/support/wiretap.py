"""A TCP relay that writes down every octet: what somebody on the network would have seen.

::

    with Wiretap(daemon.port) as tap:
        client = smtplib.SMTP("127.0.0.1", tap.port)
    assert tap.found(b"secret") == []

`found` looks for a secret as it is, in each form of base64 that it can have inside something
longer, and in hexadecimal.
"""

import base64
import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

_BLOCK = 65536
_SECONDS = 30.0


class Wiretap:
    """One relay on a free port of 127.0.0.1; a context manager."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._seen: list[bytearray] = []
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """Where to connect instead."""
        port: int = self._listening.getsockname()[1]
        return port

    @property
    def octets(self) -> bytes:
        """All that was seen, stream after stream, in both directions."""
        with self._lock:
            return b"\n--\n".join(map(bytes, self._seen))

    def found(self, secret: bytes) -> list[bytes]:
        """The forms of a secret that were seen."""
        seen = self.octets
        return [form for form in forms(secret) if form in seen]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listening.close()
        with self._lock:
            for each in self._open:
                each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), _SECONDS)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._open += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        seen = bytearray()
        with self._lock:
            self._seen.append(seen)
        with contextlib.suppress(OSError):
            while block := source.recv(_BLOCK):
                with self._lock:
                    seen += block
                sink.sendall(block)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def forms(secret: bytes) -> list[bytes]:
    """The ways in which a secret may stand in a stream of octets."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode()]
    for before in range(3):  # what stands before it shifts its base64 by so many octets
        encoded = base64.b64encode(b"\0" * before + secret)
        # The first and the last groups are shared with the neighbours.
        inner = encoded[4 if before else 0 : len(encoded) // 4 * 4 - 4]
        assert len(inner) >= 8, "a secret of this length could be found by chance"
        found.append(inner)
    return found
