"""What an operator asks for: obeyed by what lies in the spool and by what waits for a slot."""

import asyncio

import pytest

from mailshed.drain.amend import BATCH
from mailshed.errors import SpoolSick
from mailshed.mail.reply import make
from mailshed.spool.store import AmendResult
from mailshed.terms import QueueAction, QueueId, SpoolState
from tests.support.builders import PERSONAL, WALL, spool_record
from tests.support.fake_backend import defer, take
from tests.support.middle import Middle, hold_slots, state_of
from tests.support.virtual_time import in_virtual_time, settle_down, until
from tests.support.watched_spool import WatchedSpool

HOLD, RELEASE = QueueAction.HOLD, QueueAction.RELEASE
RETRY, DELETE = QueueAction.RETRY, QueueAction.DELETE
LATER = WALL + 600


@in_virtual_time
async def test_what_is_held_stays_until_it_is_released(middle: Middle) -> None:
    queue_id = await middle.keep(spool_record())
    held = await middle.drainer.amend(HOLD, [queue_id])
    assert held == AmendResult(changed=1)
    async with middle.draining():
        await asyncio.sleep(600)
        assert middle.backend.asked == []
        began = middle.clock.monotonic()
        assert await middle.drainer.amend(RELEASE, [queue_id]) == AmendResult(changed=1)
        await until(lambda: middle.backend.handed_ids == [queue_id])
        assert middle.clock.monotonic() - began < 1, "the drain is told"


@in_virtual_time
async def test_retry_comes_at_once(middle: Middle) -> None:
    queue_id = await middle.keep(spool_record(next_attempt_wall=LATER))
    async with middle.draining():
        await asyncio.sleep(10)
        assert await middle.drainer.amend(RETRY, [queue_id]) == AmendResult(changed=1)
        await until(lambda: middle.backend.handed_ids == [queue_id])
        assert middle.clock.monotonic() < 11


@in_virtual_time
async def test_what_is_deleted_is_counted_and_never_sent(middle: Middle) -> None:
    queue_id = await middle.keep(spool_record("a@example.net", "b@example.net"))
    assert await middle.drainer.amend(DELETE, [queue_id]) == AmendResult(changed=1)
    async with middle.draining():
        await asyncio.sleep(60)
    assert middle.backend.asked == []
    assert (await middle.spool.totals()).ledger == {"personal": {"accepted": 2, "removed": 2}}
    assert middle.spool.balance() == 0


@in_virtual_time
async def test_ids_that_are_not_there_or_named_twice_change_nothing(middle: Middle) -> None:
    queue_id = await middle.keep(spool_record())
    done = await middle.drainer.amend(HOLD, [queue_id, queue_id, QueueId("nowhere")])
    assert done == AmendResult(changed=1, unchanged=1)
    assert await middle.drainer.amend(HOLD, []) == AmendResult()


@pytest.mark.parametrize("action", [HOLD, DELETE])
@in_virtual_time
async def test_what_waits_for_a_slot_obeys(middle: Middle, action: QueueAction) -> None:
    async with middle.draining():
        holders = await hold_slots(middle, middle.gate.limit)
        queue_id = await middle.keep(spool_record())
        middle.drainer.on_spooled(PERSONAL)
        await settle_down()
        assert middle.gate.waiting == 1
        assert await middle.drainer.amend(action, [queue_id]) == AmendResult(changed=1)
        assert middle.gate.waiting == 0
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)
        await asyncio.sleep(300)
        assert queue_id not in middle.backend.asked_ids
        assert middle.gate.in_flight == 0
    assert middle.faults == []
    assert middle.spool.balance() == 0


@pytest.mark.parametrize("action", [HOLD, DELETE])
@in_virtual_time
async def test_what_is_given_its_slot_in_the_same_moment_obeys(
    middle: Middle, action: QueueAction
) -> None:
    """The slot is granted and the waiting task has not woken up to it yet."""
    async with middle.draining():
        holders = await hold_slots(middle, middle.gate.limit)
        queue_id = await middle.keep(spool_record())
        middle.drainer.on_spooled(PERSONAL)
        await settle_down()
        amending = middle.supervisor.spawn(middle.drainer.amend(action, [queue_id]), "amend")
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)
        assert await amending == AmendResult(changed=1)
        await asyncio.sleep(300)
        assert queue_id not in middle.backend.asked_ids
        assert middle.gate.in_flight == 0


@in_virtual_time
async def test_what_the_backend_has_is_busy(middle: Middle, spool: WatchedSpool) -> None:
    queue_id = await middle.keep(spool_record())
    middle.backend.before_dot.clear()
    async with middle.draining():
        await until(lambda: middle.backend.in_flight == 1)
        for action in (HOLD, DELETE):
            assert await middle.drainer.amend(action, [queue_id]) == AmendResult(busy=1)
        assert await middle.drainer.amend(RETRY, [queue_id]) == AmendResult(unchanged=1)
        spool.is_marking = False
        middle.backend.before_dot.set()
        await until(lambda: middle.backend.handed)
        await settle_down()
        done = await middle.drainer.amend(DELETE, [queue_id])
        assert done == AmendResult(busy=1), "it is delivered, only the mark is missing"
        spool.is_marking = True
        await until(lambda: queue_id not in spool)
    assert (await spool.totals()).ledger == {"personal": {"accepted": 1, "delivered": 1}}


@in_virtual_time
async def test_what_is_adopted_is_busy(middle: Middle) -> None:
    record = spool_record()
    middle.drainer.adopt(record.queue_id, record.traffic_class, "fake", "fake")
    await middle.keep(record)
    done = await middle.drainer.amend(DELETE, [record.queue_id])
    assert done == AmendResult(busy=1)


@in_virtual_time
async def test_a_query_that_saw_it_before_does_not_bring_it_back(
    middle: Middle, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of the spool is on its way while the message is deleted."""
    queue_id = await middle.keep(spool_record())
    due = spool.due

    async def slow_due(*arguments: object, **keywords: object) -> object:
        found = await due(*arguments, **keywords)
        await asyncio.sleep(1.0)
        return found

    monkeypatch.setattr(spool, "due", slow_due)
    async with middle.draining():
        await settle_down()
        assert await middle.drainer.amend(HOLD, [queue_id]) == AmendResult(changed=1)
        await asyncio.sleep(120)
        assert middle.backend.asked == []
        assert state_of(middle, queue_id) is SpoolState.HOLD


@in_virtual_time
async def test_many_are_amended_in_batches(
    middle: Middle, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [await middle.keep(spool_record()) for _ in range(2 * BATCH + 10)]
    at_once = at_once_max = 0
    amend = spool.amend

    async def slow_amend(queue_id: QueueId, action: QueueAction, wall: float) -> bool:
        nonlocal at_once, at_once_max
        at_once += 1
        at_once_max = max(at_once_max, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return await amend(queue_id, action, wall)

    monkeypatch.setattr(spool, "amend", slow_amend)
    assert await middle.drainer.amend(DELETE, ids) == AmendResult(changed=len(ids))
    assert at_once_max == BATCH
    assert middle.clock.monotonic() == pytest.approx(0.03)


@in_virtual_time
async def test_a_sick_spool_is_the_operators_error_and_nothing_stays_in_hand(
    middle: Middle,
) -> None:
    queue_id = await middle.keep(spool_record())
    middle.spool.unhealthy = "disk I/O error"
    with pytest.raises(SpoolSick):
        await middle.drainer.amend(HOLD, [queue_id])
    middle.spool.unhealthy = None
    assert middle.faults == []
    async with middle.draining():
        await until(lambda: middle.backend.handed_ids == [queue_id])


@in_virtual_time
async def test_a_command_that_is_given_up_finishes_what_it_began(
    middle: Middle, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_id = await middle.keep(spool_record())
    amend = spool.amend

    async def slow_amend(queue_id: QueueId, action: QueueAction, wall: float) -> bool:
        await asyncio.sleep(5.0)
        return await amend(queue_id, action, wall)

    monkeypatch.setattr(spool, "amend", slow_amend)
    async with middle.draining():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await middle.drainer.amend(HOLD, [queue_id])
        await asyncio.sleep(60)
        assert state_of(middle, queue_id) is SpoolState.HOLD
        assert middle.backend.asked == []


@in_virtual_time
async def test_what_is_retried_is_tried_even_if_its_mailbox_is_held(middle: Middle) -> None:
    """The operator has just made room in it."""
    full = make(452, "4.2.2 Mailbox full")
    middle.backend.always(defer(full))
    queue_id = await middle.keep(spool_record())
    async with middle.draining():
        await until(lambda: middle.backend.asked)
        await asyncio.sleep(10)
        middle.backend.always(take)
        assert await middle.drainer.amend(RETRY, [queue_id]) == AmendResult(changed=1)
        await until(lambda: middle.backend.handed_ids == [queue_id])
        assert middle.clock.monotonic() < 11
    assert middle.log.of("postponed") == []
