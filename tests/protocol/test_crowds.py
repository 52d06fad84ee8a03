"""Many clients at once: they are let in, or turned away, faster than they come."""

import asyncio
import socket
from contextlib import ExitStack

from tests.support.front import Front, until

CROWD = 80


async def test_several_connections_are_accepted_in_one_turn_of_the_loop() -> None:
    """Else whoever connects waits for as many turns as there are clients before him."""
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    async with Front() as front:

        def look() -> None:
            seen.append(len(front.handler.sessions))
            if seen[-1] < CROWD:
                loop.call_soon(look)

        with ExitStack() as clients:
            for _ in range(CROWD):
                clients.enter_context(socket.create_connection(("127.0.0.1", front.port)))
            look()
            await until(lambda: seen[-1] == CROWD, "all are accepted")
    assert len(set(seen)) - 1 <= CROWD / 4
