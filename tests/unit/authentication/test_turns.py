"""Turns at whoever knows the passwords: never too many, never all for one, never one lost."""

import asyncio
import random
from collections import Counter
from collections.abc import Hashable

from mailshed.authentication.turns import Turns
from tests.support.virtual_time import in_virtual_time

ANSWER = 2.0
"""Seconds that an answer takes."""


class Server:
    """Somebody who answers slowly, and counts who asks."""

    def __init__(self, places: int) -> None:
        self.turns = Turns(places)
        self.under_way: Counter[Hashable] = Counter()
        self.most = 0

    async def ask(self, client: Hashable) -> float:
        """The seconds until there was an answer."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with self.turns.take(client):
            self.under_way[client] += 1
            self.most = max(self.most, self.under_way.total())
            try:
                await asyncio.sleep(ANSWER)
            finally:
                self.under_way[client] -= 1
        return loop.time() - began

    async def ask_again_and_again(self, client: Hashable) -> None:
        while True:
            await self.ask(client)


@in_virtual_time
async def test_so_many_at_a_time_and_in_their_order() -> None:
    server = Server(3)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(server.ask("a")) for _ in range(7)]
    assert server.most == 3
    assert [each.result() for each in asked] == [2.0, 2.0, 2.0, 4.0, 4.0, 4.0, 6.0]


@in_virtual_time
async def test_one_address_with_many_sessions_keeps_nobody_else_out() -> None:
    server = Server(10)
    async with asyncio.TaskGroup() as group:
        floods = [group.create_task(server.ask_again_and_again("mallory")) for _ in range(200)]
        await asyncio.sleep(10.5)
        users = [group.create_task(server.ask(f"user {number}")) for number in range(9)]
        await asyncio.wait(users)
        for each in floods:
            each.cancel()
    assert max(each.result() for each in users) <= 2 * ANSWER
    assert server.most == 10


@in_virtual_time
async def test_whoever_leaves_gives_the_place_back() -> None:
    """While waiting, when asking, and in the very moment in which the turn comes."""
    server, rng = Server(2), random.Random(3)

    async def ask_or_leave() -> None:
        try:
            async with asyncio.timeout(rng.choice([0.5, 1.0, 2.0, 3.0, 4.0, 60.0])):
                await server.ask(rng.randrange(4))
        except TimeoutError:
            pass

    async with asyncio.TaskGroup() as group:
        for _ in range(300):
            group.create_task(ask_or_leave())
            await asyncio.sleep(rng.choice([0.0, 0.25, 0.5]))
    assert server.most == 2
    assert server.under_way.total() == 0
    assert [await server.ask("a"), await server.ask("b")] == [ANSWER, ANSWER]
