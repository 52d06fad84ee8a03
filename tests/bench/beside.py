"""What a small clinical message waits for while large bulk messages are being stored.

Counted, not timed: the commits that begin after the message was handed to the spool's writer, up to
its own. Its own is one; one more is the group that the writer had in hand already. A third would
mean that a large message stood in its way.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailshed.clock import SystemClock
from mailshed.spool.jobs import Job, StoreMessage
from mailshed.spool.sqlite import SqliteSpool
from mailshed.spool.writer import Outcome
from tests.support.builders import spool_record


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Commits begun from handing over a small message to its own, and seconds; most and p99."""

    commits_alone: int
    commits_max: int
    alone_p99: float
    beside_p99: float
    groups: int
    """Commits while the large messages were stored."""


async def measure_beside(
    folder: Path, *, large_messages: int, large_octets: int, small_messages: int
) -> Beside:
    """Store small messages alone, then while the large ones are being stored."""
    commits = Commits()
    spool = SqliteSpool(
        folder / "beside",
        octets_max=1 << 40,
        messages_max=1 << 40,
        disk_reserve=0,
        clock=SystemClock(),
        connection_factory=commits.factory(),
    )
    await spool.open()
    commits.watch(spool)
    alone = [await _add_small(spool, commits) for _ in range(small_messages)]
    before = commits.begun
    beside: list[tuple[int, float]] = []
    async with asyncio.TaskGroup() as group:
        large = [
            group.create_task(
                spool.add(spool_record(traffic_class="bulk", rank=5), _content(large_octets))
            )
            for _ in range(large_messages)
        ]
        while not all(task.done() for task in large):
            beside.append(await _add_small(spool, commits))
    groups = commits.begun - before
    await spool.close()
    return Beside(
        commits_alone=max(count for count, _ in alone),
        commits_max=max(count for count, _ in beside),
        alone_p99=_p99([seconds for _, seconds in alone]),
        beside_p99=_p99([seconds for _, seconds in beside]),
        groups=groups,
    )


class Commits:
    """Counts the commits of a spool as they begin, and knows which of them each message is in."""

    def __init__(self) -> None:
        self.begun = 0
        self.at_submission = 0
        """How many had begun when the last small message was handed over."""
        self.of_message: dict[str, int] = {}
        """The number of a message's own commit, by queue id."""

    def factory(self) -> type[sqlite3.Connection]:
        """A class for the spool's connection, which the writer's thread uses."""
        commits = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                if sql == "COMMIT":
                    commits.begun += 1
                return super().execute(sql, parameters)

        return Connection

    def watch(self, spool: SqliteSpool) -> None:
        """Look at what is handed to the writer, and at what it says of each group."""
        assert spool._writer is not None
        submit, deliver = spool._writer.submit, spool._writer._deliver

        def watched(job: Job) -> None:
            submit(job)
            if isinstance(job, StoreMessage) and job.priority == 0:
                self.at_submission = self.begun

        def delivered(outcome: Outcome) -> None:
            for job in outcome.done:
                if isinstance(job, StoreMessage):
                    self.of_message[job.record.queue_id] = self.begun
            deliver(outcome)

        spool._writer.submit = watched  # type: ignore[method-assign]
        spool._writer._deliver = delivered


async def _add_small(spool: SqliteSpool, commits: Commits) -> tuple[int, float]:
    """Store a small clinical message; commits begun up to its own, and seconds."""
    record = spool_record(traffic_class="clinical", rank=0)
    began = time.monotonic()
    await spool.add(record, _content(2048))
    seconds = time.monotonic() - began
    return commits.of_message[record.queue_id] - commits.at_submission, seconds


async def _content(octets: int) -> AsyncIterator[bytes]:
    piece = b"x" * 78 * 800 + b"\r\n"
    for begun in range(0, octets, len(piece)):
        yield piece[: octets - begun]


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]
