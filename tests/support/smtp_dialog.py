"""One SMTP session by hand: a command, its reply, and nothing that a library would tidy up."""

import socket
from types import TracebackType
from typing import Self

from tests.support.processes import DEADLINE


class Dialog:
    """A connection to a port of 127.0.0.1, greeting read; a context manager."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._reader = self._socket.makefile("rb")
        greeting = self._reply()
        assert greeting.startswith("220"), greeting

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reader.close()
        self._socket.close()

    def command(self, line: str, code: int | None = None) -> str:
        """Send a line and return the reply, which must have this code if one is given."""
        self.send(line.encode("latin-1") + b"\r\n")
        reply = self._reply()
        assert code is None or reply.startswith(str(code)), f"{line!r}: {reply}"
        return reply

    def send(self, data: bytes) -> None:
        """Send octets as they are."""
        self._socket.sendall(data)

    def _reply(self) -> str:
        lines: list[str] = []
        while True:
            line = self._reader.readline().decode("latin-1")
            assert line.endswith("\r\n"), f"connection closed after {lines}"
            lines.append(line.rstrip())
            if line[3] == " ":
                return " / ".join(lines)
