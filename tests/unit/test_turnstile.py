"""So many in a turn, in the order in which they came."""

import asyncio
from functools import partial
from typing import Any

import pytest

from mailshed.turnstile import Turnstile
from tests.support.front import until


async def test_up_to_the_limit_work_is_done_at_once() -> None:
    done: list[int] = []
    turnstile = Turnstile(3)
    for number in range(5):
        turnstile.do(partial(done.append, number))
    assert done == [0, 1, 2]
    assert len(turnstile) == 2


async def test_the_rest_is_done_in_the_next_turns_in_order() -> None:
    done: list[int] = []
    turnstile = Turnstile(3)
    for number in range(10):
        turnstile.do(partial(done.append, number))
    counts = []
    while turnstile:
        await asyncio.sleep(0)
        counts.append(len(done))
    assert counts == [6, 9, 10]
    assert done == list(range(10))


async def test_who_comes_later_waits_behind_those_who_wait() -> None:
    done: list[str] = []
    turnstile = Turnstile(1)
    turnstile.do(lambda: done.append("first"))
    turnstile.do(lambda: turnstile.do(lambda: done.append("from within")))
    turnstile.do(lambda: done.append("second"))
    await until(lambda: not turnstile, "nobody waits")
    assert done == ["first", "second", "from within"]


async def test_a_turn_in_which_nothing_came_makes_room_again() -> None:
    done: list[int] = []
    turnstile = Turnstile(2)
    for turn in range(3):
        turnstile.do(lambda: done.append(1))
        turnstile.do(lambda: done.append(1))
        assert len(done) == 2 * (turn + 1)
        await asyncio.sleep(0)


async def test_what_fails_does_not_keep_the_others() -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    done: list[str] = []
    turnstile = Turnstile(1)

    def fail() -> None:
        raise RuntimeError("on purpose")

    turnstile.do(lambda: done.append("first"))
    turnstile.do(fail)
    turnstile.do(lambda: done.append("last"))
    await until(lambda: not turnstile, "nobody waits")
    assert done == ["first", "last"]
    (context,) = told
    assert str(context["exception"]) == "on purpose"


async def test_what_fails_at_once_is_for_whoever_asked() -> None:
    turnstile = Turnstile(1)

    def fail() -> None:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        turnstile.do(fail)
