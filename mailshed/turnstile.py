"""So many pieces of work in one turn of the event loop, and the rest in the next ones.

When the final dots of two hundred clients arrive in the same turn, or thousands of clients leave at
once, each of them costs little, and all together keep everybody else waiting: who has just
connected, whose timer has run out, who reads a reply. The work does not become less by being
spread, but others have their turns in between.

What comes first is done first. Up to the limit work is done at once, so that nobody is later for it
while there is no crowd.
"""

import asyncio
from collections import deque
from collections.abc import Callable


class Turnstile:
    """Lets `per_turn` pieces of work pass in a turn. Belongs to the loop that runs at the first."""

    __slots__ = ("_is_turning", "_left", "_per_turn", "_waiting")

    def __init__(self, per_turn: int) -> None:
        self._per_turn = self._left = per_turn
        self._waiting: deque[Callable[[], object]] = deque()
        self._is_turning = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def do(self, work: Callable[[], object]) -> None:
        """Do `work` now or in one of the next turns; what it raises then is the loop's."""
        if not self._is_turning:
            self._is_turning = True
            asyncio.get_running_loop().call_soon(self._turn)
        if self._left and not self._waiting:
            self._left -= 1
            work()
        else:
            self._waiting.append(work)

    def _turn(self) -> None:
        """A turn of the loop has passed."""
        waiting = self._waiting
        self._left = self._per_turn
        if not waiting:
            self._is_turning = False
            return
        asyncio.get_running_loop().call_soon(self._turn)
        while waiting and self._left:
            self._left -= 1
            waiting.popleft()()
