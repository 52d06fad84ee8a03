"""Whose password is asked about next: so many questions at a time, and no address takes them all.

A server is often slow to say that a password is wrong, two seconds on purpose. If questions were
asked in their order, one client with twenty sessions and any wrong password could keep all places,
and everybody else would hear 454. So a place that comes free goes to the client with the fewest
questions under way, and among equals to whoever has waited longest: somebody who says one password
waits for an answer or two, whatever another address does. Users behind one address share its fate.

An address is what it is to the failures (`failures.place_of`). Whoever waits may be cancelled.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    client: Hashable
    turn: "asyncio.Future[None]"


class Turns:
    """So many at a time. Waiting has no bound of its own: sessions have one, each waits once."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._under_way: Counter[Hashable] = Counter()
        self._waiting: list[_Waiter] = []
        """Longest first."""

    @asynccontextmanager
    async def take(self, client: Hashable) -> AsyncIterator[None]:
        """Have a place while in here."""
        if self._free and not self._waiting:
            self._begin(client)
        else:
            await self._wait(client)
        try:
            yield
        finally:
            self._end(client)

    async def _wait(self, client: Hashable) -> None:
        waiter = _Waiter(client, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            else:  # its turn had come
                self._end(client)
            raise

    def _begin(self, client: Hashable) -> None:
        self._free -= 1
        self._under_way[client] += 1

    def _end(self, client: Hashable) -> None:
        self._free += 1
        self._under_way[client] -= 1
        if not self._under_way[client]:
            del self._under_way[client]
        if self._waiting:
            chosen = min(self._waiting, key=lambda each: self._under_way[each.client])
            self._waiting.remove(chosen)
            self._begin(chosen.client)
            if not chosen.turn.done():
                chosen.turn.set_result(None)
