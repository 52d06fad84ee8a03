"""What somebody on the network sees: a TCP relay that keeps every octet of both directions.

`Wiretap(port)` listens on a port of its own and passes each connection on to `port` of 127.0.0.1,
in threads, as it is. `sent` is what the clients have said, `heard` what the server has.
"""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Wiretap:
    """The relay; a context manager."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._chunks: list[tuple[bool, bytes]] = []  # appending is atomic
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def sent(self) -> bytes:
        """What all clients have said."""
        return b"".join(chunk for is_client, chunk in self._chunks if is_client)

    @property
    def heard(self) -> bytes:
        """What the server has said to them."""
        return b"".join(chunk for is_client, chunk in self._chunks if not is_client)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # the end
            server = socket.socket()
            self._sockets += [client, server]
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                continue
            for source, sink, is_client in ((client, server, True), (server, client, False)):
                thread = threading.Thread(
                    target=self._pump, args=(source, sink, is_client), daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_client: bool) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                self._chunks.append((is_client, chunk))
                sink.sendall(chunk)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
