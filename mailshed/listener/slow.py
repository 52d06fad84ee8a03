"""Replies that come late on purpose, and how many of them there may be at a time.

A mail server that has to wait for the reply to MAIL sends its next messages later, keeps them in
its own queue, and brings nothing back in waves as it does after a 4xx. It costs a session that
sleeps, so only so many sleep at a time; beyond that, replies come at once.

Nobody waits at a stop: `end` wakes them all.
"""

import asyncio
from contextlib import suppress


class SlowReplies:
    """The slow replies of one process; `limit` 0 means none."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sleeping = 0
        self.total = 0
        """How many there have been."""
        self._end = asyncio.Event()

    @property
    def has_place(self) -> bool:
        """Whether one more may sleep."""
        return self.sleeping < self.limit and not self._end.is_set()

    async def sleep(self, seconds: float) -> None:
        """Let one reply be so late, if there is a place for it."""
        if not self.has_place:
            return
        self.sleeping += 1
        self.total += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._end.wait()
        finally:
            self.sleeping -= 1

    def end(self) -> None:
        """Let no reply be late any more."""
        self._end.set()
