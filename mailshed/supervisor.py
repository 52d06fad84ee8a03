"""Tasks that must outlive the one who asked for them, with one exception boundary.

The work on a message after its final dot belongs to nobody's connection: the client may vanish,
its session may be cancelled, the service may be stopping, and still the outcome must be settled.
Such work is spawned here and awaited through `asyncio.shield`. A task that raises is reported
once to `on_failure`; it never takes the process down.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Supervisor:
    """Owner of the detached tasks of one event loop."""

    def __init__(self, on_failure: Callable[[str, BaseException], None]) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start `work` as a task that is owned here until it ends."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    async def join(self, timeout: float) -> int:
        """Wait up to `timeout` seconds for all tasks; return how many are still running.

        Tasks that are spawned meanwhile are waited for too.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self._tasks and (left := deadline - loop.time()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left)
        return len(self._tasks)

    async def cancel_all(self) -> None:
        """Cancel what is left and wait until it has ended."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _reap(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(task.get_name(), error)
