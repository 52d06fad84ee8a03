"""What the end of a message's way means for its client: passed on, kept, or left with it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mailshed.control.breaker import FAILURES_TO_OPEN
from mailshed.errors import SpoolFull, SpoolSick
from mailshed.mail import reply
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    DeliveryResult,
    StageTimes,
    TransactionResult,
)
from mailshed.mail.reply import make
from mailshed.terms import ClientKind, Reason, Stage
from tests.support.builders import (
    BUSY,
    OK,
    REFUSED,
    client,
)
from tests.support.fake_backend import (
    be_away,
    defer,
    refuse,
    sort_out,
    take,
    vanish,
)
from tests.support.middle import TRUSTED, Middle, break_spool, hold_slots, is_queued
from tests.support.virtual_time import in_virtual_time, settle_down, until

USER_AGENT = client(kind=ClientKind.USER_AGENT, is_trusted=True)
DEVICE = client(kind=ClientKind.DEVICE, is_trusted=True)
LATER = make(421, "4.3.2 mail.example.net: too many connections")
TO = ("good@example.net", "busy@example.net", "bad@example.net")
VERDICTS: dict[bytes, DeliveryResult] = {
    b"busy@example.net": Deferred(Stage.RCPT, BUSY),
    b"bad@example.net": Bounced(Stage.RCPT, REFUSED),
}


@pytest.fixture
def middle(tmp_path: Path) -> Middle:
    return Middle(tmp_path)


class TestCommitImpossible:
    @pytest.mark.parametrize(
        ("error", "code", "reason"),
        [
            (SpoolFull("full"), 452, Reason.SPOOL_FULL),
            (SpoolSick("disk I/O error"), 451, Reason.SPOOL_SICK),
        ],
    )
    @in_virtual_time
    async def test_the_client_keeps_the_message(
        self,
        middle: Middle,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        code: int,
        reason: Reason,
    ) -> None:
        middle.backend.always(be_away)
        break_spool(middle, monkeypatch, error)
        answer = await middle.submit()
        assert answer.code == code
        line = middle.log.one("deferred")
        assert (line["reason"], line["reply"]) == (reason.value, answer.text)
        labels = {"class": "personal", "action": "defer", "reason": reason.value}
        assert middle.book.count("decisions_total", **labels) == 1
        assert middle.journal.spooled_count == {}

    @in_virtual_time
    async def test_a_client_is_told_that_it_was_the_backend_that_was_away(
        self, middle: Middle
    ) -> None:
        middle.spool.unhealthy = "disk I/O error"
        middle.backend.always(be_away)
        assert await middle.submit() == reply.BACKEND_AWAY

    @in_virtual_time
    async def test_relaying_goes_on_with_a_sick_spool(self, middle: Middle) -> None:
        middle.spool.unhealthy = "disk I/O error"
        assert await middle.submit() == OK

    @in_virtual_time
    async def test_an_unforeseen_fault_is_the_boundary_s_business(
        self, middle: Middle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        middle.backend.always(be_away)
        break_spool(middle, monkeypatch, RuntimeError("bug"))
        with pytest.raises(RuntimeError, match="bug"):
            await middle.submit()
        assert middle.gate.in_flight == 0


class TestBackendDefers:
    @pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
    @in_virtual_time
    async def test_a_mail_server_gets_the_4xx_as_it_came(
        self, middle: Middle, stage: Stage
    ) -> None:
        middle.backend.always(defer(BUSY, stage))
        assert await middle.submit("bob@example.net", "eve@example.net") is BUSY
        assert middle.spool.added == []
        line = middle.log.one("deferred")
        assert (line["reason"], line["reply"]) == ("backend_deferred", BUSY.text)

    @pytest.mark.parametrize("who", [USER_AGENT, DEVICE], ids=["user agent", "device"])
    @in_virtual_time
    async def test_a_client_that_does_not_retry_gets_250_after_a_commit(
        self, middle: Middle, who: Any
    ) -> None:
        middle.backend.always(defer(BUSY, Stage.DOT))
        assert is_queued(await middle.submit(client=who))
        line = middle.log.one("spooled")
        assert (line["reason"], line["reply"]) == ("backend_deferred", BUSY.text)
        (queue_id,) = middle.spool.added
        assert middle.spool.record(queue_id).in_doubt == 0

    @pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.MAIL, Stage.DOT])
    @in_virtual_time
    async def test_a_421_never_reaches_the_client(self, middle: Middle, stage: Stage) -> None:
        """It would tell the client that our session ends, which it does not."""
        middle.backend.always(defer(LATER, stage))
        assert is_queued(await middle.submit())
        assert middle.log.one("spooled")["reply"] == LATER.text, "the log says what it was"
        middle.spool.is_full = True
        assert (await middle.submit()).code == 452

    @in_virtual_time
    async def test_a_broken_connection_before_the_dot_is_spooled(self, middle: Middle) -> None:
        broken = TransactionResult(
            recipients=(Deferred(Stage.DATA, None, "connection lost"),),
            times=StageTimes(service=2.0),
        )
        middle.backend.always(lambda _: broken)
        middle.backend.seconds = 2.0
        assert is_queued(await middle.submit())
        line = middle.log.one("spooled")
        assert "reply" not in line
        assert line["detail"] == "connection lost"
        assert line["delays"] == "0.00/0.00/0.00/2.00", "the dialog was no waiting"
        (queue_id,) = middle.spool.added
        assert middle.spool.record(queue_id).reason is Reason.BACKEND_AWAY
        assert middle.spool.record(queue_id).in_doubt == 0

    @in_virtual_time
    async def test_a_backend_that_is_away_is_not_waited_for(self, middle: Middle) -> None:
        middle.backend.always(be_away)
        for _ in range(FAILURES_TO_OPEN):
            assert is_queued(await middle.submit())
        assert not middle.gate.is_up
        began = middle.clock.monotonic()
        assert is_queued(await middle.submit(names="clinical"))
        assert middle.clock.monotonic() == began
        assert len(middle.backend.asked) == FAILURES_TO_OPEN, "the last one did not try"


class TestBackendRefuses:
    @pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
    @in_virtual_time
    async def test_the_5xx_is_passed_on_as_it_came(self, middle: Middle, stage: Stage) -> None:
        middle.backend.always(refuse(REFUSED, stage))
        for who in (TRUSTED, USER_AGENT, client()):
            assert await middle.submit("a@example.net", "b@example.net", client=who) is REFUSED
        assert middle.spool.added == []
        assert [line["reason"] for line in middle.log.of("refused")] == ["backend_refused"] * 3


class TestMixedRecipients:
    @in_virtual_time
    async def test_of_a_trusted_client_are_kept_whole(self, middle: Middle) -> None:
        middle.backend.always(sort_out(VERDICTS))
        assert is_queued(await middle.submit(*TO, client=TRUSTED))
        assert middle.backend.handed == [], "nothing was sent while the client waited"
        (queue_id,) = middle.spool.added
        record = middle.spool.record(queue_id)
        assert len(record.recipients) == 3
        assert record.reason is Reason.MIXED_RECIPIENTS
        assert record.is_trusted

    @in_virtual_time
    async def test_are_sorted_out_by_the_drain_one_by_one_with_a_report(
        self, middle: Middle
    ) -> None:
        middle.backend.always(sort_out(VERDICTS))
        await middle.submit(*TO, client=TRUSTED)
        (queue_id,) = middle.spool.added
        async with middle.draining():
            await until(lambda: len(middle.backend.handed) == 2)
            content, report = sorted(middle.backend.handed, key=lambda each: each.queue_id)
            assert content.queue_id == queue_id
            assert content.recipients == (b"good@example.net",)
            assert report.recipients == (b"alice@example.org",)
            assert b"bad@example.net" in report.content
            assert b"busy@example.net" not in report.content
            await until(lambda: middle.spool.generated() == [])
            record = middle.spool.record(queue_id)
            assert [each.address for each in record.recipients] == [b"busy@example.net"]
            middle.backend.always(take)
            await until(lambda: queue_id not in middle.spool)
        assert middle.spool.balance() == 0
        everyone = [path for each in middle.backend.handed for path in each.recipients]
        assert sorted(everyone) == [b"alice@example.org", b"busy@example.net", b"good@example.net"]
        assert middle.log.one("bounced")["to"] == "<bad@example.net>"

    @in_virtual_time
    async def test_of_a_stranger_stay_with_it_if_one_was_refused_for_good(
        self, middle: Middle
    ) -> None:
        """It may not be sent a report, and nobody may be lost in silence."""
        middle.backend.always(sort_out(VERDICTS))
        answer = await middle.submit(*TO)
        assert answer == reply.MIXED_RECIPIENTS
        assert answer.code == 451
        assert middle.spool.added == []
        assert middle.log.one("deferred")["reason"] == "mixed_recipients"

    @in_virtual_time
    async def test_of_a_stranger_are_kept_if_none_was_refused_for_good(
        self, middle: Middle
    ) -> None:
        middle.backend.always(sort_out({b"busy@example.net": Deferred(Stage.RCPT, BUSY)}))
        assert is_queued(await middle.submit("good@example.net", "busy@example.net"))


class TestDotSentAndNoAnswer:
    @in_virtual_time
    async def test_a_copy_in_doubt_is_kept_and_counted(self, middle: Middle) -> None:
        middle.backend.always(vanish)
        assert is_queued(await middle.submit())
        (queue_id,) = middle.spool.added
        record = middle.spool.record(queue_id)
        assert (record.in_doubt, record.reason) == (1, Reason.IN_DOUBT)
        assert middle.log.one("in_doubt")["held"] == "no"
        labels = {"class": "personal"}
        assert middle.book.count("in_doubt_total", **labels) == 1

    @in_virtual_time
    async def test_it_is_kept_though_the_client_has_left(self, middle: Middle) -> None:
        """The backend may have it or not; only the copy makes sure."""
        is_gone = False
        middle.backend.always(vanish)
        middle.backend.after_dot.clear()
        work = middle.supervisor.spawn(middle.submit(is_client_gone=lambda: is_gone), "in doubt")
        await settle_down()
        is_gone = True
        middle.backend.after_dot.set()
        assert is_queued(await work)
        assert len(middle.spool.added) == 1

    @in_virtual_time
    async def test_if_nothing_can_be_stored_the_client_keeps_it_and_it_is_counted(
        self, middle: Middle
    ) -> None:
        middle.spool.unhealthy = "disk I/O error"
        middle.backend.always(vanish)
        assert await middle.submit() == reply.NO_ANSWER
        assert middle.book.count("in_doubt_total", **{"class": "personal"}) == 1
        assert middle.log.events == ["in_doubt", "deferred"]


class TestSpoolFills:
    """What would be spooled stays with senders that can keep it, a class at a time."""

    @in_virtual_time
    async def test_a_class_whose_mark_is_reached_stays_with_mail_servers(
        self, middle: Middle
    ) -> None:
        middle.spool_fill = 0.6
        holders = await hold_slots(middle, 3)
        assert await middle.submit(names="bulk") == reply.SPOOL_FILLING
        assert is_queued(await middle.submit(names="bulk", client=USER_AGENT))
        assert is_queued(await middle.submit(names="bulk", client=DEVICE))
        line = middle.log.one("deferred")
        assert (line["reason"], line["class"]) == ("spool_filling", "bulk")
        labels = {"class": "bulk", "action": "defer", "reason": "spool_filling"}
        assert middle.book.count("decisions_total", **labels) == 1
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_what_waited_in_vain_does_so_too(self, middle: Middle) -> None:
        middle.spool_fill = 0.7
        holders = await hold_slots(middle, 4)
        began = middle.clock.monotonic()
        assert await middle.submit(names="telework") == reply.SPOOL_FILLING
        assert middle.clock.monotonic() - began == pytest.approx(5.0)
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_and_what_the_backend_failed(self, middle: Middle) -> None:
        middle.spool_fill = 0.95
        middle.backend.always(be_away)
        assert await middle.submit() == reply.SPOOL_FILLING
        assert is_queued(await middle.submit(names="clinical"))

    @in_virtual_time
    async def test_with_a_slot_it_is_relayed_all_the_same(self, middle: Middle) -> None:
        middle.spool_fill = 1.0
        assert await middle.submit(names="bulk") == OK

    @in_virtual_time
    async def test_a_copy_in_doubt_is_kept_all_the_same(self, middle: Middle) -> None:
        middle.spool_fill = 1.0
        middle.backend.always(vanish)
        assert is_queued(await middle.submit(names="bulk"))
