"""Marks: draining stops while they cannot be written, and nobody waits for a slot meanwhile."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from mailshed.errors import SpoolError, SpoolFull, SpoolSick
from mailshed.spool.store import Settlement
from mailshed.terms import QueueId, SpoolState
from tests.support.builders import CLASSES, OK, WALL, spool_record
from tests.support.middle import Middle, state_of
from tests.support.virtual_time import in_virtual_time, until
from tests.support.watched_spool import WatchedSpool

HOUR = 3600.0


class TestMarks:
    @in_virtual_time
    async def test_when_they_fail_draining_stops_and_goes_on_without_loss(
        self, middle: Middle, spool: WatchedSpool
    ) -> None:
        for number in range(40):
            await middle.keep(spool_record(names=CLASSES[number % 4]))
        spool.is_marking = False
        async with middle.draining():
            await asyncio.sleep(300)
            assert 0 < len(middle.backend.handed) <= middle.gate.limit
            assert middle.gate.in_flight == 0, "nobody keeps a slot while he waits for his mark"
            assert await middle.submit() == OK, "live mail passes meanwhile"
            spool.is_marking = True
            await until(lambda: len(middle.backend.handed) == 41, 60)
        assert max(Counter(middle.backend.handed_ids).values()) == 1
        assert middle.spool.balance() == 0
        assert middle.faults == []

    @in_virtual_time
    async def test_a_sick_spool_stops_everything_and_nothing_is_lost(self, middle: Middle) -> None:
        for number in range(40):
            await middle.keep(spool_record(names=CLASSES[number % 4]))
        middle.backend.seconds = 0.3
        async with middle.draining():
            await until(lambda: len(middle.backend.handed) >= 10)
            middle.spool.unhealthy = "disk I/O error"
            at_fault = len(middle.backend.handed) + middle.backend.in_flight
            await asyncio.sleep(120)
            assert len(middle.backend.handed) <= at_fault
            assert middle.gate.in_flight == 0
            middle.spool.unhealthy = None
            await until(lambda: len(middle.backend.handed) == 40, 60)
        assert max(Counter(middle.backend.handed_ids).values()) == 1
        assert middle.spool.balance() == 0
        assert middle.faults == []

    @in_virtual_time
    async def test_never_more_are_missing_than_twice_the_slots(
        self, middle: Middle, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That number bounds the duplicates after a crash."""
        missing_max = 0
        settle = spool.settle

        async def slow_settle(settlement: Settlement) -> None:
            nonlocal missing_max
            missing = sum(queue_id in spool for queue_id in middle.backend.handed_ids)
            missing_max = max(missing_max, missing)
            await asyncio.sleep(5.0)
            await settle(settlement)

        monkeypatch.setattr(spool, "settle", slow_settle)
        for number in range(40):
            await middle.keep(spool_record(names=CLASSES[number % 4]))
        async with middle.draining():
            await until(lambda: len(middle.backend.handed) >= 20)
            began = middle.clock.monotonic()
            assert await middle.submit(names="bulk") == OK
            assert middle.clock.monotonic() == began, "slow marks do not keep live mail waiting"
            await until(lambda: len(spool.settlements) == 40)
        assert missing_max == 2 * middle.gate.limit

    @in_virtual_time
    async def test_one_that_cannot_be_written_at_the_end_is_reported_and_the_mail_stays(
        self, middle: Middle, spool: WatchedSpool
    ) -> None:
        queue_id = await middle.keep(spool_record())
        middle.backend.after_dot.clear()
        async with middle.draining():
            await until(lambda: middle.backend.handed)
            spool.is_marking = False
        assert queue_id in spool
        ((name, error),) = middle.faults
        assert name == f"drain {queue_id}"
        assert isinstance(error, SpoolSick)

    @in_virtual_time
    async def test_on_a_full_disk_draining_stops_and_nothing_comes_twice(
        self, middle: Middle, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However long it is full: it is no fault of the messages."""
        for _ in range(20):
            await middle.keep(spool_record())

        async def full(_: Any) -> None:
            raise SpoolFull("the disk is full")

        async with middle.draining():
            with monkeypatch.context() as patch:
                patch.setattr(spool, "settle", full)
                patch.setattr(spool, "quarantine", full)
                await asyncio.sleep(HOUR)
                assert len(middle.backend.handed) <= middle.gate.limit
            await until(lambda: not spool._messages)
        assert max(Counter(middle.backend.handed_ids).values()) == 1
        assert (await spool.totals()).ledger == {"personal": {"accepted": 20, "delivered": 20}}
        assert middle.faults == []

    @in_virtual_time
    async def test_that_a_well_spool_refuses_for_ever_puts_its_message_aside(
        self, middle: Middle, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        odd = await middle.keep(spool_record(wall=WALL - 10))
        others = [await middle.keep(spool_record()) for _ in range(10)]
        settle, quarantine, asked = spool.settle, spool.quarantine, 0

        async def picky(settlement: Settlement) -> None:
            if settlement.queue_id == odd:
                raise SpoolError("constraint failed")
            await settle(settlement)

        async def reluctant(queue_id: QueueId) -> None:
            nonlocal asked
            asked += 1
            if asked < 3:
                raise SpoolError("not now")
            await quarantine(queue_id)

        monkeypatch.setattr(spool, "settle", picky)
        monkeypatch.setattr(spool, "quarantine", reluctant)
        async with middle.draining():
            await until(lambda: not set(others) & spool._messages.keys())
            assert state_of(middle, odd) is SpoolState.CORRUPT
        assert middle.backend.handed_ids.count(odd) == 1
        ((name, error),) = middle.faults
        assert (name, str(error)) == (f"drain {odd}", "constraint failed")
