"""An event loop whose time passes only when nobody has anything left to do.

Timers fire in their order, at their time, and at once: a test of an hour of retries takes
milliseconds and cannot depend on how fast the machine is. Meant for tests without sockets and
threads; what they do takes no time here, and a loop that waits for them too long is a failure.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec

from tests.support.builders import WALL

DEADLOCK_SECONDS = 10.0
"""Real seconds after which a loop without timers counts as stuck."""
LIFETIME = 30 * 86400.0
"""Virtual seconds after which a test counts as one that waits for something that never comes."""
TURNS_MAX = 50_000
"""Turns of the loop without any time passing after which something counts as spinning."""

P = ParamSpec("P")


class _Selector(selectors.BaseSelector):
    """Looks whether anything has happened; if not, lets time pass instead of waiting."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turns += 1
        assert self._turns < TURNS_MAX, "something is spinning"
        if timeout is None:
            events = self._real.select(DEADLOCK_SECONDS)
            assert events, "nothing is left that could ever happen"
            return events
        events = self._real.select(0)
        if not events and timeout > 0:
            self.now += timeout
            self._turns = 0
            assert self.now < LIFETIME, "this test waits for something that never comes"
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The loop; `time()` starts at 0."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class LoopClock:
    """A `mailshed.clock.Clock` that follows the running loop; its wall clock starts at `WALL`.

    `ahead` is by how much somebody has set the wall clock since.
    """

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        """Seconds since the loop began."""
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        """The same, from an origin of its own."""
        return WALL + self.monotonic() + self.ahead


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test in a loop of this kind, made for it alone."""

    @functools.wraps(test)
    def run(*arguments: P.args, **keywords: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*arguments, **keywords))

    return run


async def settle_down(turns: int = 50) -> None:
    """Let everything that is ready run, without letting time pass."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], within: float = 3600.0) -> None:
    """Let time pass until `condition()` holds, in steps; fail after `within` virtual seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        assert loop.time() < deadline, f"not within {within:g} virtual seconds"
        await asyncio.sleep(0.05)
