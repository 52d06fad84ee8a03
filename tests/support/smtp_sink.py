"""An SMTP server that keeps the exact octets it was sent, for what no Maildir can show.

A Maildir has LF line endings and no dot-stuffing; this sink keeps mail data in wire form, as it
came between 354 and the terminating `.CRLF`. It runs in a thread of the test process. Replies are
all positive; it knows PIPELINING, 8BITMIME and SIZE.
"""

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.processes import DEADLINE, wait_until

_MESSAGE_OCTETS_MAX = 64 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkMessage:
    """One transaction. `data` is dot-stuffed wire form, without the terminating `.CRLF`."""

    mail: bytes
    """The MAIL command's line without CRLF."""
    rcpt: tuple[bytes, ...]
    data: bytes


class SmtpSink:
    """A sink on a port of 127.0.0.1 that the system chose, or on `port`; a context manager."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.messages: list[SinkMessage] = []
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="smtp-sink")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(DEADLINE), "the sink does not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE)

    def wait_for(self, count: int) -> list[SinkMessage]:
        """Wait for at least `count` messages and return them in order of arrival."""
        wait_until(
            lambda: len(self.messages) >= count,
            lambda: f"the sink has {len(self.messages)} of {count} messages",
        )
        return list(self.messages)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(
            self._session, "127.0.0.1", self.port, limit=_MESSAGE_OCTETS_MAX
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await self._stop.wait()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._dialog(reader, writer)
        finally:
            writer.close()

    async def _dialog(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mail = b""
        rcpt: list[bytes] = []
        writer.write(b"220 sink.example ESMTP\r\n")
        while True:
            line = (await reader.readuntil(b"\r\n"))[:-2]
            verb = line[:4].upper()
            reply = b"250 2.0.0 Ok\r\n"
            if verb == b"EHLO":
                reply = b"250-sink.example\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME\r\n"
            elif verb == b"MAIL":
                mail, rcpt = line, []
            elif verb == b"RCPT":
                rcpt.append(line)
            elif verb == b"DATA":
                writer.write(b"354 Go on\r\n")
                data = b""
                while data != b".\r\n" and not data.endswith(b"\r\n.\r\n"):
                    data += await reader.readuntil(b".\r\n")
                self.messages.append(SinkMessage(mail=mail, rcpt=tuple(rcpt), data=data[:-3]))
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 Bye\r\n")
                await writer.drain()
                return
            writer.write(reply)
            await writer.drain()
