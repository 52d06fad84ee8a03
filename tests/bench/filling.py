"""A spool that is full before the daemon starts, made by the spool's own writer.

To send a million messages through SMTP takes a quarter of an hour; what stands in the files
afterwards is the same. Many are added at a time, so that they share commits.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from mailshed.clock import SystemClock
from mailshed.spool.sqlite import SqliteSpool
from tests.support.builders import spool_record

_AT_ONCE = 256
_LINE = b"x" * 76 + b"\r\n"
_DELAY_REPORT_SECONDS = 4 * 3600.0


def fill(folder: Path, messages: int, octets: int, *, backend: str) -> None:
    """Make a spool in `folder` with so many messages that are due, and close it in good order."""
    asyncio.run(_fill(folder, messages, octets, backend))


async def _fill(folder: Path, messages: int, octets: int, backend: str) -> None:
    spool = SqliteSpool(
        folder,
        octets_max=1 << 40,
        messages_max=1 << 40,
        disk_reserve=256 * 1024**2,
        clock=SystemClock(),
    )
    await spool.open()
    content = b"From: <a@personal.example>\r\nSubject: bench\r\n\r\n"
    content += _LINE * max(1, (octets - len(content)) // len(_LINE))
    places = iter(range(messages))
    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(_add(spool, content, backend, places))
    await spool.close()


async def _add(spool: SqliteSpool, content: bytes, backend: str, places: Iterator[int]) -> None:
    """Add messages as long as there are places left."""
    for _ in places:
        wall = time.time()
        record = spool_record(
            "recipient@hospital.example",
            wall=wall,
            backend=backend,
            report_wall=wall + _DELAY_REPORT_SECONDS,
        )
        await spool.add(record, _whole(content))


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content
