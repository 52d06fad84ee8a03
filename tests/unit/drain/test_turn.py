"""One message's turn: what it holds while it waits, and that it lets go of all of it."""

import asyncio
from pathlib import Path

import pytest

from mailshed.drain.budget import TOKENS_MAX
from mailshed.mail.delivery import Deferred
from mailshed.mail.reply import make
from mailshed.terms import QueueAction, Stage
from tests.support.builders import PERSONAL, WALL, spool_record
from tests.support.fake_backend import be_away, sort_out
from tests.support.middle import Middle, hold_slots
from tests.support.virtual_time import in_virtual_time, settle_down, until
from tests.support.watched_spool import WatchedSpool

FULL = Deferred(Stage.RCPT, make(452, "4.2.2 Mailbox full"))


@in_virtual_time
async def test_who_waits_for_a_slot_holds_nothing_after_being_called_back(middle: Middle) -> None:
    async with middle.draining():
        holders = await hold_slots(middle, middle.gate.limit)
        queue_id = await middle.keep(spool_record(attempts=1))
        middle.drainer.on_spooled(PERSONAL)
        await settle_down()
        await middle.drainer.amend(QueueAction.HOLD, [queue_id])
        assert middle.drainer.retry_tokens.used == TOKENS_MAX
        assert middle.gate.waiting == 0
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)
        assert middle.gate.in_flight == 0


@in_virtual_time
async def test_a_slot_that_cannot_be_used_goes_back_at_once(
    middle: Middle, spool: WatchedSpool
) -> None:
    """The spool fell sick while the message waited: its mark could not be written."""
    async with middle.draining():
        holders = await hold_slots(middle, middle.gate.limit)
        queue_id = await middle.keep(spool_record(attempts=1))
        middle.drainer.on_spooled(PERSONAL)
        await settle_down()
        spool.unhealthy = "disk I/O error"
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)
        await asyncio.sleep(30)
        assert middle.gate.in_flight == 0
        assert queue_id not in middle.backend.asked_ids
        assert middle.drainer.retry_tokens.used == TOKENS_MAX
        spool.unhealthy = None
        await until(lambda: queue_id not in spool)


@in_virtual_time
async def test_whoever_is_too_old_while_it_waits_is_given_up_in_time(middle: Middle) -> None:
    record = spool_record(expires_wall=WALL + 100)
    await middle.keep(record)
    middle.backend.always(be_away)
    async with middle.draining():
        await until(lambda: record.queue_id not in middle.spool, 200)
        assert middle.clock.monotonic() == pytest.approx(100, abs=1.0)
        assert len(middle.log.of("expired")) == 1


@in_virtual_time
async def test_of_its_recipients_those_are_tried_who_may_be_when_it_has_its_slot(
    tmp_path: Path,
) -> None:
    """One mailbox turned out to be full while the message waited."""
    middle = Middle(tmp_path, slots=1)
    middle.backend.seconds = 1.0
    middle.backend.always(sort_out({b"full@example.net": FULL}))
    await middle.keep(spool_record("full@example.net", wall=WALL - 10))
    await middle.keep(spool_record("full@example.net", "ok@example.net"))
    await middle.keep(spool_record("full@example.net"))
    async with middle.draining():
        await until(lambda: middle.backend.asked)
        assert middle.gate.waiting == 2
        await asyncio.sleep(10)
        assert [each.recipients for each in middle.backend.asked] == [
            ((b"full@example.net", ()),),
            ((b"ok@example.net", ()),),
        ]
        assert middle.gate.in_flight == 0
