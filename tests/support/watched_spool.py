"""A memory spool that counts what it is asked, and fails where a test tells it to."""

from collections.abc import AsyncIterator
from typing import Any

from mailshed.errors import SpoolCorrupt, SpoolSick
from mailshed.spool.store import Settlement, SpoolRecord
from mailshed.terms import QueueId
from tests.support.memory_spool import MemorySpool


class WatchedSpool(MemorySpool):
    """Counts what it is asked, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.due_calls = 0
        self.is_marking = True
        """Whether `settle` works."""
        self.corrupt: set[QueueId] = set()

    async def due(self, *arguments: Any, **keywords: Any) -> list[SpoolRecord]:
        self.due_calls += 1
        return await super().due(*arguments, **keywords)

    async def settle(self, settlement: Settlement) -> None:
        if not self.is_marking:
            raise SpoolSick("disk I/O error")
        await super().settle(settlement)

    async def content(self, queue_id: QueueId) -> AsyncIterator[bytes]:
        if queue_id in self.corrupt:
            raise SpoolCorrupt(f"{queue_id}: content does not match its checksum")
        async for piece in super().content(queue_id):
            yield piece
