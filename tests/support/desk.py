"""A session without a network: octets in, octets out, on a transport that the test holds.

What is fed is taken in the same turn of the loop, and what is said can be looked at write by write.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from mailshed.config.policy import ListenerPolicy
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.server import SessionFactory
from tests.support.builders import session_limits
from tests.support.front import HOSTNAME, ScriptedHandler, settle, until


class Wire(asyncio.Transport):
    """The server's transport: what is written stays here, unless it is `stuck`."""

    def __init__(self, session: SmtpSession) -> None:
        super().__init__(extra={"peername": ("127.0.0.1", 40000)})
        self.session = session
        self.writes: list[bytes] = []
        self.reading: list[str] = []
        self.is_stuck = False
        self.is_aborted = False
        self._is_closing = False

    def write(self, data: Any) -> None:
        """Keep it."""
        assert not self._is_closing, "written after the end"
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.writes)) if self.is_stuck else 0

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self.is_stuck:
                asyncio.get_running_loop().call_soon(self.session.connection_lost, None)

    def abort(self, error: Exception | None = None) -> None:
        if not self.is_aborted:
            self.is_aborted = self._is_closing = True
            if self.session.transport is not None:
                asyncio.get_running_loop().call_soon(self.session.connection_lost, error)

    def pause_reading(self) -> None:
        self.reading.append("pause")

    def resume_reading(self) -> None:
        self.reading.append("resume")


class Desk:
    """One session on its wire."""

    def __init__(self, **limits: Any) -> None:
        self.handler = ScriptedHandler()
        factory = SessionFactory(
            policy=ListenerPolicy(name="smtp"),
            hostname=HOSTNAME,
            handler=self.handler,
            limits=session_limits(**limits),
        )
        self.session = factory()
        self.wire = Wire(self.session)

    async def begin(self) -> None:
        """Connect, and forget the greeting."""
        self.session.connection_made(self.wire)
        await settle()
        assert self.said() == [b"220 mail.example.com ESMTP mailshed"]

    async def feed(self, *blocks: bytes) -> list[bytes]:
        """Let the client send each block as one segment; return the lines that were said."""
        for block in blocks:
            self.session.data_received(block)
            await settle()
        return self.said()

    def said(self) -> list[bytes]:
        """The lines that were written since the last look."""
        lines = b"".join(self.wire.writes).splitlines()
        self.wire.writes.clear()
        return lines

    async def in_data(self) -> None:
        """Go as far as the 354."""
        said = await self.feed(
            b"HELO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
        )
        assert said[-1][:3] == b"354"

    async def end(self) -> None:
        """Lose the connection, if it is not lost yet."""
        self.wire.abort()
        if self.session.transport is None:
            return
        await until(lambda: self.session.transport is None, "the session has ended")


def codes(lines: Iterable[bytes]) -> list[int]:
    return [int(line[:3]) for line in lines]
