"""A mail server that knows nothing but AUTH, and answers it line by line as a test says.

It speaks clear SMTP, STARTTLS if it has a certificate, or TLS from the first octet. What it hears
is remembered, apart for what came in clear and what came over TLS. `answers` are the replies to the
lines of the dialog of AUTH, over all connections; when they are used up, 535.
"""

import asyncio
import ssl
from collections import deque
from typing import Self

DENIED = "535 5.7.8 no"


class LoginServer:
    """The server; an async context manager that listens on a free port of 127.0.0.1."""

    def __init__(
        self,
        *,
        context: ssl.SSLContext | None = None,
        is_implicit: bool = False,
        mechanisms: str = "PLAIN LOGIN",
    ) -> None:
        self.mechanisms = mechanisms
        """Offered over TLS, and in clear if there is no TLS; empty for no AUTH."""
        self.answers: deque[str] = deque()
        self.in_clear: list[bytes] = []
        self.in_tls: list[bytes] = []
        self.connections = 0
        self.is_stalled = asyncio.Event()
        """Set when it was asked something for which the answer was `stall`."""
        self.was_left = False
        """Whether the client has gone since."""
        self.port = 0
        self._context = context
        self._is_implicit = is_implicit
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def open_connections(self) -> int:
        """How many there are now."""
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        context = self._context if self._is_implicit else None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client has left, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_secure = self._is_implicit
        writer.write(b"220 login.test ESMTP\r\n")
        while line := await reader.readline():
            command = line.rstrip(b"\r\n")
            (self.in_tls if is_secure else self.in_clear).append(command)
            verb = command.partition(b" ")[0].upper()
            if verb == b"EHLO":
                writer.write(self._offers(is_secure=is_secure))
            elif verb == b"STARTTLS":
                assert self._context is not None
                writer.write(b"220 2.0.0 go ahead\r\n")
                await writer.drain()
                await writer.start_tls(self._context)
                is_secure = True
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                return
            else:
                answer = self.answers.popleft() if self.answers else DENIED
                if answer == "stall":
                    self.is_stalled.set()
                    self.was_left = not await reader.read(1)
                    return
                if answer == "close":
                    return
                writer.write(answer.encode("latin-1") + b"\r\n")

    def _offers(self, *, is_secure: bool) -> bytes:
        lines = ["250-login.test"]
        if self._context is not None and not is_secure:
            lines.append("250-STARTTLS")
        elif self.mechanisms:
            lines.append(f"250-AUTH {self.mechanisms}")
        return "".join(f"{line}\r\n" for line in (*lines, "250 8BITMIME")).encode()
