"""What was learned is saved now and then, and a failure ends nothing."""

import asyncio
from contextlib import suppress

import pytest

from mailshed.autosave import save_every, save_last
from tests.support.virtual_time import in_virtual_time


class Keeper:
    """Is asked to save; raises what it is told to."""

    def __init__(self, *faults: Exception | None) -> None:
        self.faults = list(faults)
        self.saved_at: list[float] = []
        self.told: list[str] = []

    async def save(self) -> None:
        """Note when, and fail if that is next."""
        self.saved_at.append(asyncio.get_running_loop().time())
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault

    def on_failure(self, name: str, error: BaseException) -> None:
        """Note it."""
        self.told.append(f"{name}: {error}")


@in_virtual_time
async def test_it_is_saved_each_time_until_it_is_cancelled() -> None:
    keeper, began = Keeper(), asyncio.get_running_loop().time()
    with suppress(TimeoutError):
        async with asyncio.timeout(35.0):
            await save_every(10.0, keeper.save, "limit", keeper.on_failure)
    assert [at - began for at in keeper.saved_at] == pytest.approx([10.0, 20.0, 30.0])
    assert keeper.told == []


@in_virtual_time
async def test_a_failure_is_told_once_while_it_lasts_and_again_after_a_success() -> None:
    full = OSError("full")
    keeper = Keeper(full, full, OSError("gone"), None, full)
    with suppress(TimeoutError):
        async with asyncio.timeout(55.0):
            await save_every(10.0, keeper.save, "limit", keeper.on_failure)
    assert keeper.told == ["limit: full", "limit: gone", "limit: full"]


async def test_the_last_time_a_failure_is_told_too() -> None:
    keeper = Keeper(None, OSError("full"))
    await save_last(keeper.save, "limit", keeper.on_failure)
    await save_last(keeper.save, "limit", keeper.on_failure)
    assert keeper.told == ["limit: full"]
