"""One attempt: an ending for each recipient, and what our own faults come to."""

import asyncio
from typing import Any

import pytest

from mailshed.drain.reading import READ_AHEAD_OCTETS
from mailshed.drain.retry import settle_attempt
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    DeliveryResult,
    InDoubt,
    TransactionResult,
)
from mailshed.spool.store import Settlement, SpoolRecord
from mailshed.terms import Reason, SpoolState, Stage
from tests.support.builders import (
    BUSY,
    OK,
    REFUSED,
    WALL,
    spool_record,
)
from tests.support.fake_backend import (
    Answer,
    fail,
    refuse,
    sort_out,
    take,
    vanish,
)
from tests.support.middle import Middle, state_of
from tests.support.virtual_time import in_virtual_time, settle_down, until
from tests.support.watched_spool import WatchedSpool

HOUR = 3600.0


class TestWhatWasDone:
    @in_virtual_time
    async def test_is_logged_and_counted(self, middle: Middle) -> None:
        middle.backend.seconds = 2.0
        await middle.keep(spool_record("a@example.net", "b@example.net", wall=WALL - 40))
        async with middle.draining():
            await until(lambda: middle.log.of("attempted"))
        line = middle.log.one("attempted")
        assert (line["outcome"], line["attempt"], line["reply"]) == ("delivered", 1, OK.text)
        assert line["delays"] == "0.00/40.00/0.00/2.00"
        labels = {"class": "personal", "source": "spool", "result": "delivered"}
        assert middle.book.count("deliveries_total", **labels) == 2
        assert middle.book.count("queue_wait_seconds_sum", **{"class": "personal"}) == 40


class TestEndings:
    @in_virtual_time
    async def test_of_several_recipients_each_has_its_own(self, middle: Middle) -> None:
        to = ("ok@example.net", "busy@example.net", "bad@example.net")
        queue_id = await middle.keep(spool_record(*to, is_trusted=False))
        verdicts: dict[bytes, DeliveryResult] = {
            b"busy@example.net": Deferred(Stage.RCPT, BUSY),
            b"bad@example.net": Bounced(Stage.RCPT, REFUSED),
        }
        middle.backend.once(sort_out(verdicts))
        async with middle.draining():
            await until(lambda: middle.log.of("attempted"))
            (left,) = middle.spool.record(queue_id).recipients
            assert (left.address, left.last_reply) == (b"busy@example.net", BUSY.text)
            await until(lambda: queue_id not in middle.spool)
        assert middle.backend.asked[-1].recipients == ((b"busy@example.net", ()),)
        ledger = {"accepted": 3, "delivered": 2, "refused": 1}
        assert (await middle.spool.totals()).ledger == {"personal": ledger}
        line = middle.log.one("bounced")
        assert line["to"] == "<bad@example.net>"
        assert "report" not in line
        outcomes = {(line["to"], line["outcome"]) for line in middle.log.of("attempted")[:3]}
        assert outcomes == {
            ("<ok@example.net>", "delivered"),
            ("<busy@example.net>", "deferred"),
            ("<bad@example.net>", "bounced"),
        }
        assert middle.drainer.delivered == {"personal": 1}

    @in_virtual_time
    async def test_a_refusal_ends_with_a_report_to_a_trusted_sender(self, middle: Middle) -> None:
        await middle.keep(spool_record("a@example.net", "b@example.net"))
        middle.backend.once(refuse(REFUSED, Stage.DOT))
        async with middle.draining():
            await until(lambda: middle.backend.handed)
        (report,) = middle.backend.handed
        assert b"550 5.1.1 No such user" in report.content
        assert [line["report"] for line in middle.log.of("bounced")] == [report.queue_id] * 2

    @in_virtual_time
    async def test_a_report_that_bounces_ends_there(self, middle: Middle) -> None:
        await middle.keep(spool_record())
        middle.backend.always(refuse())
        async with middle.draining():
            await until(lambda: len(middle.backend.asked) == 2)
            await settle_down()
            assert (await middle.spool.totals()).messages == 0
        assert middle.spool.balance() == 0

    @in_virtual_time
    async def test_in_doubt_twice_is_held(self, middle: Middle, spool: WatchedSpool) -> None:
        queue_id = await middle.keep(spool_record())
        middle.backend.always(vanish)
        async with middle.draining():
            await until(lambda: state_of(middle, queue_id) is SpoolState.HOLD)
            asked, calls = len(middle.backend.asked), spool.due_calls
            await asyncio.sleep(2 * HOUR)
            assert len(middle.backend.asked) == asked == 2
            assert spool.due_calls - calls <= 2 * HOUR / 60 + 2, "all is on hold, nothing to do"
        assert [line["held"] for line in middle.log.of("in_doubt")] == ["no", "yes"]

    @in_virtual_time
    async def test_in_doubt_once_live_and_once_here_is_held(self, middle: Middle) -> None:
        queue_id = await middle.keep(spool_record(in_doubt=1, reason=Reason.IN_DOUBT))
        middle.backend.always(vanish)
        async with middle.draining():
            await until(lambda: state_of(middle, queue_id) is SpoolState.HOLD)
        assert len(middle.backend.asked) == 1

    @pytest.mark.parametrize("octets", [10, READ_AHEAD_OCTETS + 10], ids=["at once", "streamed"])
    @in_virtual_time
    async def test_corrupt_content_is_kept_and_never_sent(
        self, middle: Middle, spool: WatchedSpool, octets: int
    ) -> None:
        bad = await middle.keep(spool_record(), b"x" * octets)
        spool.corrupt.add(bad)
        good = await middle.keep(spool_record())
        async with middle.draining():
            await until(lambda: state_of(middle, bad) is SpoolState.CORRUPT)
            await until(lambda: good not in spool)
            await asyncio.sleep(300)
        assert middle.backend.handed_ids == [good]
        assert middle.log.one("corrupt")["detail"].endswith("checksum")
        assert middle.gate.in_flight == 0
        assert middle.gate.is_up


class TestOurOwnFaults:
    @in_virtual_time
    async def test_a_message_that_breaks_us_is_held_and_the_others_go_on(
        self, middle: Middle
    ) -> None:
        poison = await middle.keep(spool_record())
        good = [await middle.keep(spool_record()) for _ in range(8)]
        bug: Answer = fail(RuntimeError("bug"))
        middle.backend.always(lambda m: bug(m) if m.queue_id == poison else take(m))
        async with middle.draining():
            await until(lambda: state_of(middle, poison) is SpoolState.HOLD)
        assert middle.backend.asked_ids.count(poison) == 2
        assert sorted(middle.backend.handed_ids) == sorted(good)
        assert [name for name, _ in middle.faults] == [f"drain {poison}"] * 2
        assert middle.gate.is_up, "it says nothing about the backend"

    @in_virtual_time
    async def test_what_breaks_us_after_the_dot_is_not_sent_without_end(
        self, middle: Middle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A fault while the outcome is worked out: the backend has the message."""
        queue_id = await middle.keep(spool_record())

        def broken(record: SpoolRecord, result: TransactionResult, **rest: Any) -> Settlement:
            if not any(isinstance(each, InDoubt) for each in result.recipients):
                raise RuntimeError("bug")
            return settle_attempt(record, result, **rest)

        monkeypatch.setattr("mailshed.drain.attempt.settle_attempt", broken)
        async with middle.draining():
            await until(lambda: state_of(middle, queue_id) is SpoolState.HOLD)
        assert len(middle.backend.handed) == 2
