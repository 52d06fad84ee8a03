"""One session with the real handler and pipeline behind it, for properties that try thousands.

A property of Hypothesis is a plain function, so the loop is held between its examples::

    with LiveDialog(tmp_path) as live:
        assert live.say(b"MAIL FROM:<a@example.org>").startswith(b"250 ")
"""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.front import DEADLINE, Front, Peer
from tests.support.live_path import LivePath


class LiveDialog:
    """A client of 127.0.0.1, whom everybody trusts, at a front on which nothing ends a session."""

    def __init__(self, folder: Path, **path: Any) -> None:
        self._folder = folder
        self._options = path
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._runner.run(self._begin())
        return self

    async def _begin(self) -> None:
        self.path = LivePath(self._folder, **self._options)
        # The mail servers behind take addresses of any script.
        self.path.handler._offered_behind = lambda _keyword: True
        self._front = Front(self.path.handler, errors_max=10**9)
        await self._front.__aenter__()
        await self._connect()

    async def _connect(self) -> None:
        self._peer: Peer = await self._front.peer()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            assert self._runner.run(self._peer.is_silent()), "more was said than was asked"
        self._runner.run(self._front.__aexit__())
        self._runner.close()

    def say(self, line: bytes) -> bytes:
        """Send a line, and read one reply; empty if the session ended instead."""
        return self.say_all(line + b"\r\n", 1)[0]

    def say_all(self, octets: bytes, replies: int) -> list[bytes]:
        """Send octets, and read so many replies."""

        async def exchange() -> list[bytes]:
            async with asyncio.timeout(DEADLINE):
                await self._peer.send(octets)
                return [await self._peer.reply() for _ in range(replies)]

        return self._runner.run(exchange())

    @property
    def is_over(self) -> bool:
        """Whether the session has ended."""
        return not self._front.handler.open_sessions

    def begin_again(self) -> None:
        """Take another connection; the one before is closed with the front."""
        self._runner.run(self._connect())

    def take_log(self) -> list[str]:
        """The lines since the last time, without their ends; only LF ends one."""
        text = self.path.log.getvalue()
        self.path.log.seek(0)
        self.path.log.truncate()
        assert text.endswith("\n") or not text
        return text.split("\n")[:-1]
