"""What happens to mail by its age alone."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from mailshed.drain.overdue import EXPIRY_BATCH
from mailshed.errors import SpoolError, SpoolFull
from mailshed.mail.delivery import Deferred, DeliveryResult
from mailshed.mail.reply import make
from mailshed.spool.store import Report, Settlement
from mailshed.terms import QueueId, Stage
from tests.support.builders import (
    BUSY,
    WALL,
    spool_record,
)
from tests.support.fake_backend import (
    be_away,
    sort_out,
    take,
)
from tests.support.middle import Middle
from tests.support.reports import bounce_processor, fields, text_of
from tests.support.virtual_time import in_virtual_time, settle_down, until
from tests.support.watched_spool import WatchedSpool

HOUR = 3600.0


class TestExpiry:
    @in_virtual_time
    async def test_ends_with_a_report(self, middle: Middle) -> None:
        record = spool_record("a@example.net", "b@example.net", expires_wall=WALL + 100)
        await middle.keep(record)
        middle.backend.always(be_away)
        async with middle.draining():
            await until(lambda: record.queue_id not in middle.spool, 200)
            (report,) = middle.spool.generated()
            assert report.record.reverse_path == b""
            assert [each.address for each in report.record.recipients] == [b"alice@example.org"]
            assert b"a@example.net" in report.content
            assert b"Subject: test" in report.content
            middle.backend.always(take)
            await until(lambda: middle.backend.handed)
        assert middle.spool.balance() == 0
        expired = middle.log.of("expired")
        assert {line["report"] for line in expired} == {report.record.queue_id}

    @pytest.mark.parametrize(
        "changes", [{"reverse_path": b""}, {"is_trusted": False}], ids=["null", "stranger"]
    )
    @in_virtual_time
    async def test_tells_nobody_who_may_not_be_told(
        self, middle: Middle, changes: dict[str, Any]
    ) -> None:
        record = spool_record(expires_wall=WALL + 100, **changes)
        await middle.keep(record)
        middle.backend.always(be_away)
        async with middle.draining():
            await until(lambda: record.queue_id not in middle.spool, 200)
        assert middle.spool.generated() == []
        assert middle.log.one("expired").get("report") is None
        assert (await middle.spool.totals()).ledger == {"personal": {"accepted": 1, "expired": 1}}

    @in_virtual_time
    async def test_comes_after_a_last_attempt(self, middle: Middle) -> None:
        record = spool_record("a@example.net", "b@example.net", expires_wall=WALL + 40)
        await middle.keep(record)
        verdict: dict[bytes, DeliveryResult] = {b"a@example.net": Deferred(Stage.RCPT, BUSY)}
        middle.backend.always(sort_out(verdict))
        async with middle.draining():
            await until(lambda: record.queue_id not in middle.spool, 100)
            assert middle.clock.monotonic() == pytest.approx(40, abs=0.2)
        line = middle.log.one("expired")
        assert (line["to"], line["reply"]) == ("<a@example.net>", BUSY.text)
        assert line["report"] is not None

    @in_virtual_time
    async def test_a_crowd_is_given_up_in_turns_without_waiting(self, middle: Middle) -> None:
        for _ in range(350):
            await middle.keep(spool_record(expires_wall=WALL + 50, is_trusted=False))
        middle.backend.always(be_away)
        async with middle.draining():
            await until(lambda: middle.spool.balance() == 0 and len(middle.log.of("expired")) > 300)
            assert middle.clock.monotonic() < 70

    @in_virtual_time
    async def test_does_not_come_before_mail_found_too_old_at_the_start_was_tried(
        self, middle: Middle
    ) -> None:
        """The host was down for longer than mail lives; the backend is up."""
        for _ in range(30):
            await middle.keep(spool_record(expires_wall=WALL - 100))
        async with middle.draining():
            await until(lambda: len(middle.backend.handed) == 30)
            await settle_down()
        assert middle.log.of("expired") == []
        assert (await middle.spool.totals()).ledger == {
            "personal": {"accepted": 30, "delivered": 30}
        }

    @in_virtual_time
    async def test_comes_in_time_for_what_waits_for_a_backend_that_is_away(
        self, middle: Middle
    ) -> None:
        """All of them, at the end of their time, not one with each probe."""
        for _ in range(10):
            await middle.keep(spool_record(expires_wall=WALL + 100))
        middle.backend.always(be_away)
        async with middle.draining():
            await until(lambda: len(middle.log.of("expired")) == 10, 200)
            assert middle.clock.monotonic() == pytest.approx(100, abs=1.0)

    @in_virtual_time
    async def test_leaves_alone_what_is_in_hand(self, middle: Middle) -> None:
        record = spool_record(expires_wall=WALL + 30)
        await middle.keep(record)
        middle.backend.seconds = 300
        async with middle.draining():
            await until(lambda: middle.backend.handed)
            await until(lambda: record.queue_id not in middle.spool)
        assert middle.log.of("expired") == []
        assert (await middle.spool.totals()).ledger == {"personal": {"accepted": 1, "delivered": 1}}


class TestDelay:
    """A sender whose mail waits for too long is told, once."""

    @in_virtual_time
    async def test_is_reported_once_while_the_backend_is_away(self, middle: Middle) -> None:
        record = spool_record("a@example.net", "b@example.net", report_wall=WALL + 900)
        await middle.keep(record)
        middle.backend.always(be_away)
        async with middle.draining():
            await asyncio.sleep(890)
            assert middle.spool.generated() == []
            await asyncio.sleep(75)
            (report,) = middle.spool.generated()
            assert bounce_processor(report.content) == (
                {b"a@example.net", b"b@example.net"},
                set(),
            )
            assert "the mail server cannot be reached" in text_of(report.content)
            assert report.record.reverse_path == b""
            assert [each.address for each in report.record.recipients] == [b"alice@example.org"]
            await asyncio.sleep(6 * HOUR)
            assert middle.spool.generated() == [report], "one is enough, and none about it"
            middle.backend.always(take)
            await until(lambda: len(middle.backend.handed) == 2)
        line = middle.log.one("delayed")
        assert (line["id"], line["report"]) == (record.queue_id, report.record.queue_id)
        assert 900 <= line["age"] <= 965
        assert middle.book.count("reports_total", **{"class": "personal", "kind": "delayed"}) == 1
        assert middle.spool.balance() == 0

    @in_virtual_time
    async def test_is_reported_while_the_backend_is_only_slow(self, middle: Middle) -> None:
        """The report takes its turn like all mail, and is not about what is just being sent."""
        middle.backend.seconds = 400
        for _ in range(4):
            await middle.keep(spool_record(wall=WALL - 50))
        first = spool_record(wall=WALL - 40, report_wall=WALL + 300)
        second = spool_record(report_wall=WALL + 500)
        for record in (first, second):
            await middle.keep(record)
        async with middle.draining():
            await until(lambda: len(middle.backend.handed) == 7, 4000)
        assert [line["id"] for line in middle.log.of("delayed")] == [first.queue_id]
        (report,) = [each for each in middle.backend.handed if b"multipart" in each.content]
        assert "the mail server is busy with other mail" in text_of(report.content)

    @in_virtual_time
    async def test_speaks_of_those_who_still_wait(self, middle: Middle) -> None:
        record = spool_record("a@example.net", "b@example.net", report_wall=WALL + 100)
        await middle.keep(record)
        full = Deferred(Stage.RCPT, make(452, "4.3.1 Insufficient storage"))
        middle.backend.always(sort_out({b"b@example.net": full}))
        async with middle.draining():
            await until(lambda: middle.log.of("delayed"), 300)
            await until(lambda: len(middle.backend.handed) == 2)
        report = middle.backend.handed[1]
        assert report.recipients == (b"alice@example.org",)
        assert bounce_processor(report.content) == ({b"b@example.net"}, set())
        _, about = fields(report.content)
        assert about["Status"] == "4.3.1"
        assert about["Diagnostic-Code"] == "smtp; 452 4.3.1 Insufficient storage"

    @pytest.mark.parametrize(
        "changes",
        [{"reverse_path": b""}, {"is_trusted": False}, {"is_generated": True}],
        ids=["null", "stranger", "our own"],
    )
    @in_virtual_time
    async def test_is_not_told_to_those_who_may_not_be_told(
        self, middle: Middle, changes: dict[str, Any]
    ) -> None:
        record = spool_record(report_wall=WALL + 100, **changes)
        await middle.keep(record)
        middle.backend.always(be_away)
        async with middle.draining():
            await until(lambda: middle.log.of("delayed"), 300)
            await asyncio.sleep(HOUR)
        assert (await middle.spool.totals()).messages == 1
        assert middle.log.one("delayed").get("report") is None
        assert middle.spool.record(record.queue_id).report_wall is None, "nor is it asked again"

    @in_virtual_time
    async def test_found_at_the_start_is_tried_before_anyone_is_told(self, middle: Middle) -> None:
        """The host was down for a night; the backend is up."""
        for _ in range(30):
            await middle.keep(spool_record(report_wall=WALL - 100))
        async with middle.draining():
            await until(lambda: len(middle.backend.handed) == 30)
            await asyncio.sleep(300)
        assert middle.log.of("delayed") == []

    @in_virtual_time
    async def test_of_a_crowd_is_told_in_bounds(self, middle: Middle) -> None:
        """An application with 300 messages, and one person behind it."""
        robot = b"robot@example.org"
        for _ in range(300):
            await middle.keep(spool_record(reverse_path=robot, report_wall=WALL + 50))
        await middle.keep(spool_record(report_wall=WALL + 51))
        middle.backend.always(be_away)
        async with middle.draining():
            await until(lambda: len(middle.log.of("delayed")) == 301)
            assert 180 <= middle.clock.monotonic() <= 260, "one batch a minute"
        told = Counter(each.record.recipients[0].address for each in middle.spool.generated())
        assert told[b"alice@example.org"] == 1
        per_minute = middle.drainer.policy.reports.per_minute
        assert per_minute < told[robot] <= 4 * per_minute
        assert middle.spool.balance() == 0

    @in_virtual_time
    async def test_waits_for_a_spool_that_is_sick(self, middle: Middle) -> None:
        record = spool_record(report_wall=WALL + 100)
        await middle.keep(record)
        middle.backend.always(be_away)
        async with middle.draining():
            await asyncio.sleep(90)
            middle.spool.unhealthy = "disk I/O error"
            await asyncio.sleep(600)
            assert middle.log.of("delayed") == []
            middle.spool.unhealthy = None
            await until(middle.spool.generated, 120)
            await asyncio.sleep(600)
        assert len(middle.log.of("delayed")) == 1
        assert middle.faults == []

    @in_virtual_time
    async def test_that_cannot_be_noted_does_not_stop_the_others(
        self, middle: Middle, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        records = [spool_record(report_wall=WALL + 100 + n) for n in range(3)]
        for record in records:
            await middle.keep(record)
        note_delay = spool.note_delay

        async def picky(queue_id: QueueId, report: Report | None) -> None:
            if queue_id == records[0].queue_id:
                raise SpoolError("no")
            await note_delay(queue_id, report)

        monkeypatch.setattr(spool, "note_delay", picky)
        middle.backend.always(be_away)
        async with middle.draining():
            await until(lambda: len(middle.log.of("delayed")) == 2, 300)
        assert [str(error) for _, error in middle.faults] == ["no"]

    @in_virtual_time
    async def test_on_a_full_disk_waits_in_silence(
        self, middle: Middle, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = spool_record(report_wall=WALL + 100)
        await middle.keep(record)
        middle.backend.always(be_away)

        async def full(_queue_id: QueueId, _report: Report | None) -> None:
            raise SpoolFull("disk")

        with monkeypatch.context() as patch:
            patch.setattr(spool, "note_delay", full)
            async with middle.draining():
                await asyncio.sleep(600)
                assert middle.faults == []
                patch.undo()
                await until(lambda: middle.log.of("delayed"), 120)


@in_virtual_time
async def test_a_crowd_that_cannot_be_given_up_is_no_reason_to_spin(
    middle: Middle, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(EXPIRY_BATCH + 10):
        await middle.keep(spool_record(expires_wall=WALL + 50, is_trusted=False))
    middle.backend.always(be_away)
    asked = 0

    async def full(_settlement: Settlement) -> None:
        nonlocal asked
        asked += 1
        raise SpoolFull("disk")

    with monkeypatch.context() as patch:
        patch.setattr(spool, "settle", full)
        async with middle.draining():
            await asyncio.sleep(600)
            looks = 10 * (1 + 6)  # one a minute, and one for each whose wait for a slot ends then
            assert asked <= looks * EXPIRY_BATCH
            patch.undo()
            await until(lambda: not spool._messages, 200)
    assert middle.faults == []
