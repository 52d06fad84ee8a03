"""Each alarm rings once, at its instant and not before, whatever else is set and cleared."""

import asyncio
import random

from mailshed.alarms import Alarms
from tests.support.virtual_time import in_virtual_time

MILLISECOND = 0.001


class Bell:
    """An alarm that notes when it rang."""

    def __init__(self, seconds: float) -> None:
        self.rings_at = now() + seconds
        self.rung: list[float] = []

    def ring(self) -> None:
        self.rung.append(now())


def now() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_each_rings_at_its_own_instant_in_whatever_order_they_are_set() -> None:
    alarms = Alarms()
    bells = [Bell(seconds) for seconds in (30.0, 10.0, 20.0, 10.0)]
    for bell in bells:
        alarms.set(bell)
    await asyncio.sleep(60.0)
    for bell in bells:
        (rung,) = bell.rung
        assert abs(rung - bell.rings_at) <= MILLISECOND
    assert len(alarms) == 0


@in_virtual_time
async def test_one_that_is_cleared_does_not_ring_and_does_not_keep_others_from_it() -> None:
    alarms, first, second = Alarms(), Bell(1.0), Bell(2.0)
    alarms.set(first)
    alarms.set(second)
    alarms.clear(first)
    alarms.clear(first)
    await asyncio.sleep(5.0)
    assert first.rung == []
    assert len(second.rung) == 1


@in_virtual_time
async def test_one_whose_instant_is_past_rings_at_the_next_turn() -> None:
    alarms, bell = Alarms(), Bell(-1.0)
    alarms.set(bell)
    assert bell.rung == []
    await asyncio.sleep(0.0)
    await asyncio.sleep(0.0)
    assert len(bell.rung) == 1


@in_virtual_time
async def test_one_may_be_set_while_another_rings() -> None:
    alarms, late = Alarms(), Bell(3.0)

    class Setter(Bell):
        def ring(self) -> None:
            super().ring()
            alarms.set(late)

    alarms.set(Setter(1.0))
    await asyncio.sleep(5.0)
    assert len(late.rung) == 1


@in_virtual_time
async def test_a_thousand_that_come_and_go_need_one_timer() -> None:
    alarms, rng = Alarms(), random.Random(1)
    loop = asyncio.get_running_loop()
    armed: list[float] = []
    call_at = loop.call_at

    def counting(when: float, *rest: object, **more: object) -> asyncio.TimerHandle:
        armed.append(when)
        return call_at(when, *rest, **more)  # type: ignore[arg-type]

    loop.call_at = counting  # type: ignore[method-assign]
    for _ in range(1000):
        bell = Bell(60.0 + rng.random())
        alarms.set(bell)
        alarms.clear(bell)
    assert len(armed) < 20, "only an earlier instant than all before arms it anew"
    await asyncio.sleep(120.0)
    assert len(alarms) == 0
