"""The backend takes long over the dot: the client hears 250 in time, nothing is sent twice."""

import asyncio
from collections.abc import AsyncIterable
from pathlib import Path

import pytest

from mailshed.adoption import COMMIT_PAUSE
from mailshed.errors import SpoolSick
from mailshed.mail.reply import Reply
from mailshed.spool.store import SpoolRecord
from mailshed.terms import ClientKind, Ending, QueueId, Reason, Stage
from mailshed.work import Work
from tests.support.builders import BUSY, CLINICAL, OK, REFUSED, client
from tests.support.fake_backend import Answer, defer, fail, refuse, take, vanish
from tests.support.middle import TRUSTED, Middle
from tests.support.virtual_time import in_virtual_time, settle_down, until

MTA, USER_AGENT = 60.0, 20.0
"""Seconds after which the two kinds of clients have their reply."""


@pytest.fixture
def middle(tmp_path: Path) -> Middle:
    made = Middle(tmp_path)
    made.backend.after_dot.clear()
    return made


def now() -> float:
    return asyncio.get_running_loop().time()


def is_ours(answer: Reply) -> bool:
    return b"queued as" in answer.wire and answer != OK


async def adopted(middle: Middle, answer: Answer = take) -> QueueId:
    """Let one message be adopted; return its id."""
    middle.backend.once(answer)
    assert is_ours(await middle.submit("bob@example.net", client=TRUSTED))
    (queue_id,) = middle.spool.added
    return queue_id


class TestTheClient:
    @pytest.mark.parametrize(
        ("kind", "seconds"),
        [
            (ClientKind.MTA, MTA),
            (ClientKind.USER_AGENT, USER_AGENT),
            (ClientKind.DEVICE, USER_AGENT),
        ],
    )
    @in_virtual_time
    async def test_has_its_reply_in_time(
        self, middle: Middle, kind: ClientKind, seconds: float
    ) -> None:
        answer = await middle.submit(client=client(is_trusted=True, kind=kind))
        assert is_ours(answer)
        assert now() == pytest.approx(seconds)
        (queue_id,) = middle.spool.added
        assert middle.spool.record(queue_id).reason is Reason.ADOPTED
        assert middle.gate.in_flight == 1, "the transaction goes on, in its slot"

    @in_virtual_time
    async def test_of_a_backend_that_is_known_to_be_slow_waits_longer(self, middle: Middle) -> None:
        middle.backend.after_dot.set()
        middle.backend.seconds = 30.0
        for _ in range(32):
            assert await middle.submit() == OK
        middle.backend.seconds = 0.0
        middle.backend.after_dot.clear()
        began = now()
        assert is_ours(await middle.submit())
        assert now() - began == pytest.approx(90.0)

    @in_virtual_time
    async def test_that_has_waited_for_a_slot_does_not_wait_longer_for_it(
        self, middle: Middle
    ) -> None:
        slots = [await middle.gate.acquire(Work(CLINICAL, arrived_wall=0.0), 1.0) for _ in range(4)]
        waiting = middle.supervisor.spawn(middle.submit(client=TRUSTED), "waiting")
        await asyncio.sleep(8.0)
        for slot in slots:
            assert slot is not None
            middle.gate.release(slot, None)
        assert is_ours(await waiting)
        assert now() == pytest.approx(MTA)

    @in_virtual_time
    async def test_hears_the_backend_if_that_is_faster(self, middle: Middle) -> None:
        waiting = middle.supervisor.spawn(middle.submit(), "waiting")
        await asyncio.sleep(MTA - 1.0)
        middle.backend.after_dot.set()
        assert await waiting == OK
        await asyncio.sleep(2 * MTA)
        assert middle.spool.added == []

    @in_virtual_time
    async def test_that_has_left_is_not_answered_and_its_message_not_copied(
        self, middle: Middle
    ) -> None:
        has_left = False
        waiting = middle.supervisor.spawn(middle.submit(is_client_gone=lambda: has_left), "waiting")
        await settle_down()
        has_left = True
        await asyncio.sleep(2 * MTA)
        assert middle.spool.added == []
        middle.backend.after_dot.set()
        assert await waiting == OK


class TestTheCopy:
    @in_virtual_time
    async def test_is_not_sent_while_the_backend_has_the_message(self, middle: Middle) -> None:
        async with middle.draining():
            queue_id = await adopted(middle)
            await asyncio.sleep(400.0)
            assert middle.backend.handed_ids == [queue_id]
            middle.backend.after_dot.set()
            await until(lambda: queue_id not in middle.spool)
            await asyncio.sleep(3600.0)
        assert middle.backend.handed_ids == [queue_id]
        assert middle.gate.in_flight == 0
        assert middle.faults == []

    @in_virtual_time
    async def test_of_a_message_that_is_refused_ends_with_a_report(self, middle: Middle) -> None:
        async with middle.draining():
            queue_id = await adopted(middle, refuse(REFUSED, Stage.DOT))
            middle.backend.after_dot.set()
            await until(lambda: len(middle.backend.asked) == 2)
        assert queue_id not in middle.spool
        report = middle.backend.asked[1]
        assert report.reverse_path == b""
        assert report.recipients[0][0] == b"alice@example.org"
        totals = await middle.spool.totals()
        assert totals.ledger["personal"][Ending.BOUNCED.value] == 1

    @in_virtual_time
    async def test_of_a_message_that_is_deferred_is_drained(self, middle: Middle) -> None:
        async with middle.draining():
            queue_id = await adopted(middle, defer(BUSY, Stage.DOT))
            middle.backend.after_dot.set()
            await until(lambda: middle.gate.in_flight == 0)
            assert middle.spool.record(queue_id).attempts == 1
            await until(lambda: queue_id not in middle.spool)
        assert middle.backend.asked_ids == [queue_id, queue_id]
        assert middle.backend.handed_ids == [queue_id]

    @in_virtual_time
    async def test_of_a_message_that_is_never_answered_is_in_doubt(self, middle: Middle) -> None:
        queue_id = await adopted(middle, vanish)
        middle.backend.after_dot.set()
        await until(lambda: middle.gate.in_flight == 0)
        await settle_down()
        record = middle.spool.record(queue_id)
        assert record.in_doubt == 1
        assert record.next_attempt_wall > middle.clock.wall()
        assert middle.log.one("in_doubt")["id"] == queue_id

    @in_virtual_time
    async def test_is_settled_also_if_the_answer_comes_during_the_commit(
        self, middle: Middle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add, may_commit = middle.spool.add, asyncio.Event()

        async def slow(record: SpoolRecord, content: AsyncIterable[bytes]) -> None:
            await may_commit.wait()
            await add(record, content)

        monkeypatch.setattr(middle.spool, "add", slow)
        waiting = middle.supervisor.spawn(middle.submit(), "waiting")
        await asyncio.sleep(MTA + 1.0)
        middle.backend.after_dot.set()
        await asyncio.sleep(1.0)
        assert not waiting.done(), "nothing is promised before the commit"
        may_commit.set()
        assert is_ours(await waiting)
        await settle_down()
        assert middle.spool.added[0] not in middle.spool
        assert middle.spool.balance() == 0

    @in_virtual_time
    async def test_is_kept_in_doubt_after_a_fault_of_our_own(self, middle: Middle) -> None:
        def stumble(message: object, result: object) -> None:
            raise RuntimeError("our fault")

        middle.backend.on_answer = stumble
        queue_id = await adopted(middle)
        middle.backend.after_dot.set()
        await until(lambda: middle.gate.in_flight == 0)
        await settle_down()
        assert middle.spool.record(queue_id).in_doubt == 1
        assert [str(error) for _, error in middle.faults] == ["our fault"]

    @in_virtual_time
    async def test_is_accepted_once_and_spooled_for_this_reason(self, middle: Middle) -> None:
        queue_id = await adopted(middle)
        middle.backend.after_dot.set()
        await until(lambda: queue_id not in middle.spool)
        await settle_down()
        line = middle.log.one("spooled")
        assert (line["id"], line["reason"]) == (queue_id, Reason.ADOPTED.value)
        count = middle.book.count
        labels = {"class": "personal", "action": "spool", "reason": Reason.ADOPTED.value}
        assert count("decisions_total", **labels) == 1
        live = {"class": "personal", "source": "live", "result": "delivered"}
        assert count("deliveries_total", **live) == 1
        ledger = (await middle.spool.totals()).ledger["personal"]
        assert (ledger["accepted"], ledger[Ending.DELIVERED.value]) == (1, 1)


class TestNothingCanBeStored:
    @in_virtual_time
    async def test_the_client_waits_for_the_backend(self, middle: Middle) -> None:
        middle.spool.unhealthy = "disk I/O error"
        waiting = middle.supervisor.spawn(middle.submit(), "waiting")
        await asyncio.sleep(500.0)
        assert not waiting.done()
        middle.backend.after_dot.set()
        assert await waiting == OK

    @in_virtual_time
    async def test_a_spool_that_is_well_again_ends_the_wait(self, middle: Middle) -> None:
        middle.spool.unhealthy = "disk I/O error"
        waiting = middle.supervisor.spawn(middle.submit(), "waiting")
        await asyncio.sleep(100.0)
        middle.spool.unhealthy = None
        assert is_ours(await waiting)
        assert now() <= 100.0 + COMMIT_PAUSE

    @in_virtual_time
    async def test_an_id_that_was_not_stored_is_let_go(
        self, middle: Middle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def add(record: SpoolRecord, content: AsyncIterable[bytes]) -> None:
            raise SpoolSick("disk I/O error")

        monkeypatch.setattr(middle.spool, "add", add)
        waiting = middle.supervisor.spawn(middle.submit(), "waiting")
        await asyncio.sleep(MTA + COMMIT_PAUSE / 2)
        monkeypatch.undo()
        middle.backend.is_abandoned = True
        middle.backend.after_dot.set()
        assert is_ours(await waiting)
        (queue_id,) = middle.spool.added
        assert middle.spool.record(queue_id).reason is Reason.IN_DOUBT
        middle.backend.is_abandoned = False
        async with middle.draining():
            await until(lambda: queue_id not in middle.spool)


class TestBeforeOurDot:
    @in_virtual_time
    async def test_a_backend_that_does_not_get_there_loses_the_message_to_the_spool(
        self, middle: Middle
    ) -> None:
        middle.backend.before_dot.clear()
        assert is_ours(await middle.submit())
        assert now() == pytest.approx(MTA)
        assert middle.backend.in_flight == middle.gate.in_flight == 0
        assert middle.backend.handed == []
        (queue_id,) = middle.spool.added
        record = middle.spool.record(queue_id)
        assert (record.reason, record.in_doubt) == (Reason.BACKEND_AWAY, 0)

    @in_virtual_time
    async def test_the_time_for_the_dialog_is_not_over_with_the_dot(self, middle: Middle) -> None:
        middle.backend.seconds = MTA - 1.0
        waiting = middle.supervisor.spawn(middle.submit(), "waiting")
        await asyncio.sleep(MTA + 100.0)
        assert is_ours(await waiting)
        assert len(middle.backend.handed) == 1
        assert middle.gate.in_flight == 1


@in_virtual_time
async def test_a_fault_without_a_copy_is_the_callers(tmp_path: Path) -> None:
    middle = Middle(tmp_path)
    middle.backend.once(fail(RuntimeError("our fault")))
    with pytest.raises(RuntimeError, match="our fault"):
        await middle.submit()
    assert middle.spool.added == []
    assert middle.gate.in_flight == 0
