"""Replies that are late on purpose: as long as they should be, and not more of them than may be."""

import asyncio

from mailshed.listener.slow import SlowReplies
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_a_reply_is_as_late_as_it_should_be() -> None:
    slow, loop = SlowReplies(10), asyncio.get_running_loop()
    began = loop.time()
    await slow.sleep(2.5)
    assert loop.time() - began == 2.5
    assert (slow.sleeping, slow.total) == (0, 1)


@in_virtual_time
async def test_beyond_the_limit_replies_come_at_once() -> None:
    slow, loop = SlowReplies(2), asyncio.get_running_loop()
    began = loop.time()

    async def one() -> float:
        await slow.sleep(3.0)
        return loop.time() - began

    assert sorted(await asyncio.gather(*[one() for _ in range(5)])) == [0.0, 0.0, 0.0, 3.0, 3.0]
    assert slow.total == 2
    assert slow.has_place


@in_virtual_time
async def test_no_place_means_none() -> None:
    slow = SlowReplies(0)
    assert not slow.has_place
    await slow.sleep(3.0)
    assert slow.total == 0


@in_virtual_time
async def test_a_session_that_is_gone_gives_its_place_back() -> None:
    slow = SlowReplies(1)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(slow.sleep(5.0))
        await asyncio.sleep(1.0)
        assert slow.sleeping == 1
        task.cancel()
    assert slow.sleeping == 0


@in_virtual_time
async def test_at_the_end_all_are_woken_and_nobody_sleeps_any_more() -> None:
    slow, loop = SlowReplies(9), asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(slow.sleep(5.0))
        await asyncio.sleep(1.0)
        slow.end()
    assert loop.time() < 2.0
    assert (slow.sleeping, slow.has_place) == (0, False)
