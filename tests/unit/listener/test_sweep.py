"""All are visited, a few at a time, and only those that are still there."""

import asyncio

from mailshed.listener.sweep import PAUSE, SLICE_MIN, SPREAD, Sweep
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_a_few_are_visited_at_once() -> None:
    things, visited = set(range(SLICE_MIN)), set[int]()
    Sweep(things, visited.add).begin()
    assert visited == things


@in_virtual_time
async def test_many_are_visited_a_slice_at_a_time_until_all_are_done() -> None:
    things, visited = set(range(50_000)), list[int]()
    began = asyncio.get_running_loop().time()
    Sweep(things, visited.append).begin()
    most = 0
    while len(visited) < len(things):
        before = len(visited)
        await asyncio.sleep(PAUSE)
        most = max(most, len(visited) - before)
    assert sorted(visited) == sorted(things)
    assert most <= 2 * len(things) * PAUSE / SPREAD
    assert asyncio.get_running_loop().time() - began <= SPREAD + 1


@in_virtual_time
async def test_who_has_left_is_not_visited_and_who_came_later_neither() -> None:
    things, visited = set(range(3 * SLICE_MIN)), set[int]()
    Sweep(things, visited.add).begin()
    gone = things - visited
    things -= gone
    things.add(-1)
    await asyncio.sleep(SPREAD)
    assert visited == things - {-1}


@in_virtual_time
async def test_a_new_sweep_takes_the_place_of_the_one_under_way() -> None:
    things, visited = set(range(3 * SLICE_MIN)), list[int]()
    sweep = Sweep(things, visited.append)
    sweep.begin()
    sweep.begin()
    await asyncio.sleep(SPREAD)
    assert len(visited) == len(things) + SLICE_MIN
    assert set(visited) == things
