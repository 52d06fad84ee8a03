"""What happens to mail by its age alone."""

from typing import Any

import pytest

from mailshed.mail.delivery import Deferred, DeliveryResult
from mailshed.terms import Stage
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
from tests.support.virtual_time import in_virtual_time, settle_down, until


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
