"""The drain: order, pace, marks, endings; and that it never spins, starves or sends twice."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mailshed.drain.drainer import HIDDEN_INTERVAL, READ_AHEAD_OCTETS
from mailshed.drain.retry import RetryPolicy, settle_attempt
from mailshed.errors import ClientGone, SpoolCorrupt, SpoolSick
from mailshed.mail.delivery import Bounced, Deferred, DeliveryResult, InDoubt, TransactionResult
from mailshed.relay.backend import OutboundMessage
from mailshed.spool.store import Settlement, SpoolRecord
from mailshed.terms import ClientKind, QueueId, Reason, SpoolState, Stage
from tests.support.builders import (
    BULK,
    BUSY,
    CLASSES,
    CLINICAL,
    OK,
    PERSONAL,
    REFUSED,
    TELEWORK,
    WALL,
    client,
    spool_record,
    traffic_class,
    wire,
)
from tests.support.fake_backend import (
    Answer,
    be_away,
    defer,
    fail,
    refuse,
    sort_out,
    take,
    vanish,
)
from tests.support.memory_spool import MemorySpool
from tests.support.middle import Middle, drain_policy
from tests.support.virtual_time import in_virtual_time, settle_down, until

HOUR = 3600.0


class WatchedSpool(MemorySpool):
    """Counts what it is asked, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.due_calls = 0
        self.is_marking = True
        """Whether `settle` works."""
        self.corrupt: set[QueueId] = set()

    async def due(self, *arguments: Any, **keywords: Any) -> list[SpoolRecord]:
        self.due_calls += 1
        return await super().due(*arguments, **keywords)

    async def settle(self, settlement: Settlement) -> None:
        if not self.is_marking:
            raise SpoolSick("disk I/O error")
        await super().settle(settlement)

    async def content(self, queue_id: QueueId) -> AsyncIterator[bytes]:
        if queue_id in self.corrupt:
            raise SpoolCorrupt(f"{queue_id}: content does not match its checksum")
        async for piece in super().content(queue_id):
            yield piece


@pytest.fixture
def spool() -> WatchedSpool:
    return WatchedSpool()


@pytest.fixture
def middle(tmp_path: Path, spool: WatchedSpool) -> Middle:
    return Middle(tmp_path, spool=spool)


def state_of(middle: Middle, queue_id: QueueId) -> SpoolState:
    (recipient,) = middle.spool.record(queue_id).recipients
    return recipient.state


class TestOrder:
    @in_virtual_time
    async def test_is_by_rank_and_then_by_age(self, tmp_path: Path) -> None:
        middle = Middle(tmp_path, slots=1)
        middle.backend.seconds = 1.0
        wanted = [
            (CLINICAL, WALL - 1),
            (PERSONAL, WALL - 50),
            (PERSONAL, WALL - 5),
            (TELEWORK, WALL - 900),
            (BULK, WALL - 9000),
            (BULK, WALL - 8000),
        ]
        ids = [await middle.keep(spool_record(names=names, wall=wall)) for names, wall in wanted]
        shuffled = Middle(tmp_path, slots=1)
        shuffled.backend.seconds = 1.0
        for place in (4, 1, 5, 0, 3, 2):
            record = middle.spool.record(ids[place])
            await shuffled.keep(record)
        async with shuffled.draining():
            await until(lambda: len(shuffled.backend.handed) == len(ids))
        assert shuffled.backend.asked_ids == ids

    @in_virtual_time
    async def test_live_mail_of_a_better_class_goes_first(self, tmp_path: Path) -> None:
        middle = Middle(tmp_path, slots=1)
        middle.backend.seconds = 1.0
        for _ in range(20):
            await middle.keep(spool_record(names=BULK))
        async with middle.draining():
            await until(lambda: len(middle.backend.handed) == 5)
            before = len(middle.backend.asked)
            assert await middle.submit(names="telework") == OK
            after = middle.backend.asked_ids
            assert after.index(middle.backend.handed_ids[-1]) <= before
            await until(lambda: len(middle.backend.handed) == 21)

    @in_virtual_time
    async def test_spooled_mail_goes_before_younger_live_mail_of_its_rank(
        self, tmp_path: Path
    ) -> None:
        middle = Middle(tmp_path, slots=1)
        middle.backend.seconds = 1.0
        old = [await middle.keep(spool_record(wall=WALL - 60 + n)) for n in range(3)]
        async with middle.draining():
            await settle_down()
            live = middle.supervisor.spawn(middle.submit(), "live")
            await until(lambda: len(middle.backend.handed) == 4)
            assert middle.backend.handed_ids[:3] == old
            assert await live == OK

    @in_virtual_time
    async def test_mail_that_was_just_spooled_is_taken_in_hand_at_once(
        self, middle: Middle
    ) -> None:
        async with middle.draining():
            await settle_down()
            middle.backend.once(be_away)
            await middle.submit()
            await settle_down()
            assert middle.backend.handed_ids == middle.spool.added
            assert middle.clock.monotonic() == 0

    @in_virtual_time
    async def test_mail_that_the_backend_just_deferred_rests_first(self, middle: Middle) -> None:
        """It has said that it is busy; it is not asked again at once."""
        async with middle.draining():
            await settle_down()
            middle.backend.once(defer(BUSY, Stage.DOT))
            await middle.submit(client=client(kind=ClientKind.USER_AGENT))
            await until(lambda: middle.backend.handed, 60)
            assert middle.clock.monotonic() == pytest.approx(30.0, abs=1.0)


class TestWhatIsSent:
    @in_virtual_time
    async def test_is_what_was_kept_and_may_go_to_some(self, middle: Middle) -> None:
        record = spool_record("a@example.net", "b@example.net", parameters=(b"BODY=8BITMIME",))
        await middle.keep(record, wire("kept"))
        async with middle.draining():
            await until(lambda: middle.backend.handed)
        (sent,) = middle.backend.asked
        assert sent.recipients == ((b"a@example.net", ()), (b"b@example.net", ()))
        assert (sent.reverse_path, sent.parameters) == (b"alice@example.org", (b"BODY=8BITMIME",))
        assert sent.partial_ok
        assert sent.may_send_dot(), "nobody waits who could have left"
        assert middle.backend.handed[0].content == wire("kept")

    @pytest.mark.parametrize(
        "octets", [READ_AHEAD_OCTETS, READ_AHEAD_OCTETS + 1, 3 * READ_AHEAD_OCTETS]
    )
    @in_virtual_time
    async def test_is_streamed_if_it_is_large(self, middle: Middle, octets: int) -> None:
        data = bytes(n % 251 for n in range(octets - 2)) + b"\r\n"
        await middle.keep(spool_record(), data)
        async with middle.draining():
            await until(lambda: middle.backend.handed)
        (sent,) = middle.backend.asked
        assert (sent.in_memory is None) == (octets > READ_AHEAD_OCTETS)
        assert middle.backend.handed[0].content == data

    @in_virtual_time
    async def test_a_class_that_the_configuration_has_lost_counts_as_the_default(
        self, middle: Middle
    ) -> None:
        queue_id = await middle.keep(spool_record(names=traffic_class("retired", 9)))
        async with middle.draining():
            await until(lambda: middle.backend.handed)
        assert middle.backend.handed_ids == [queue_id]
        assert middle.drainer.delivered == {"retired": 1}

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


class TestBackendAway:
    @in_virtual_time
    async def test_the_breaker_paces_and_attempts_are_not_counted(self, middle: Middle) -> None:
        ids = [await middle.keep(spool_record(names=n)) for n in (CLINICAL, BULK) for _ in range(9)]
        middle.backend.always(be_away)
        async with middle.draining():
            await asyncio.sleep(600)
            # One probe after 1, 2, 4 ... 30 s, each give or take a fifth.
            assert 15 <= len(middle.backend.asked) <= 4 + 6 + 600 / 24
            assert middle.backend.in_flight_max <= 4
            records = [middle.spool.record(queue_id) for queue_id in ids]
            assert {record.attempts for record in records} == {0}
            assert {record.next_attempt_wall for record in records} == {WALL}
        assert middle.spool.settlements == []

    @in_virtual_time
    async def test_does_not_meet_a_stampede_when_it_comes_back(self, middle: Middle) -> None:
        in_flight_at_success: list[int] = []

        def note(_message: OutboundMessage, result: TransactionResult) -> None:
            if not result.is_backend_away:
                in_flight_at_success.append(middle.backend.in_flight)

        for number in range(200):
            await middle.keep(spool_record(names=CLASSES[number % 4]))
        middle.backend.seconds = 0.5
        middle.backend.on_answer = note
        middle.backend.always(be_away)
        async with middle.draining():
            await asyncio.sleep(1800)
            middle.backend.in_flight_max = 0
            middle.backend.always(take)
            back = middle.clock.monotonic()
            await until(lambda: len(middle.backend.handed) == 200)
            assert in_flight_at_success[0] <= 2
            assert middle.backend.in_flight_max <= 4
            first_probe, work = 30 * 1.2, 200 * 0.5
            assert middle.clock.monotonic() - back < first_probe + work + 5
        assert middle.spool.balance() == 0
        assert max(Counter(middle.backend.handed_ids).values()) == 1

    @in_virtual_time
    async def test_does_not_keep_it_busy(self, middle: Middle, spool: WatchedSpool) -> None:
        for number in range(12):
            await middle.keep(spool_record(names=CLASSES[number % 3]))
        middle.backend.always(be_away)
        async with middle.draining():
            await asyncio.sleep(HOUR)
            assert spool.due_calls <= 3 * HOUR / HIDDEN_INTERVAL + 2 * len(middle.backend.asked)

    @in_virtual_time
    async def test_new_clinical_mail_is_the_next_to_try(self, middle: Middle) -> None:
        for _ in range(50):
            await middle.keep(spool_record(names=BULK))
        middle.backend.always(be_away)
        async with middle.draining():
            await until(lambda: not middle.gate.is_up)
            await settle_down()
            await middle.submit(names="clinical")
            await settle_down()
            middle.backend.always(take)
            await until(lambda: len(middle.backend.handed) == 51)
            assert middle.backend.handed_ids[0] == middle.spool.added[-1]


class TestDeferred:
    @in_virtual_time
    async def test_is_tried_again_after_its_pause(self, middle: Middle) -> None:
        queue_id = await middle.keep(spool_record())
        middle.backend.once(defer(), defer())
        async with middle.draining():
            await until(lambda: middle.backend.handed)
            assert len(middle.backend.asked) == 3
            assert 60 <= middle.clock.monotonic() <= 90 + 270 + 2
        assert queue_id not in middle.spool
        assert [line["attempt"] for line in middle.log.of("attempted")] == [1, 2, 3]
        assert middle.log.of("attempted")[0]["next"] >= 30

    @in_virtual_time
    async def test_is_not_starved_by_a_steady_stream_of_others(self, middle: Middle) -> None:
        """Others wake the drain all the time; the pause of this one ends all the same."""
        later = await middle.keep(spool_record(names=BULK))
        from_spool, live = take, defer(BUSY, Stage.DOT)
        middle.backend.once(defer())
        middle.backend.always(lambda m: from_spool(m) if m.partial_ok else live(m))
        async with middle.draining():
            await until(lambda: middle.backend.asked)
            while later not in middle.backend.handed_ids:
                assert middle.clock.monotonic() < 120
                await middle.submit(client=client(kind=ClientKind.USER_AGENT))
                await asyncio.sleep(1)

    @in_virtual_time
    async def test_is_not_hidden_by_one_that_takes_long(self, middle: Middle) -> None:
        """The earliest of all is in hand for an hour; the next is due long before."""
        await middle.keep(spool_record(wall=WALL - 10))
        second = await middle.keep(spool_record(names=BULK, next_attempt_wall=WALL + 20))
        middle.backend.seconds = HOUR
        async with middle.draining():
            await until(lambda: second in middle.backend.asked_ids)
            assert 20 <= middle.clock.monotonic() <= 20 + HIDDEN_INTERVAL + 1

    @in_virtual_time
    async def test_obeys_a_policy_that_was_replaced(self, middle: Middle) -> None:
        await middle.keep(spool_record())
        middle.drainer.policy = drain_policy(retry=RetryPolicy(delay_min=5.0, delay_max=5.0))
        middle.backend.once(defer())
        async with middle.draining():
            await until(lambda: middle.backend.handed)
            assert middle.clock.monotonic() == pytest.approx(5.0, abs=0.2)


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


class TestSlowDisk:
    @in_virtual_time
    async def test_a_read_that_hangs_keeps_no_slot(
        self, middle: Middle, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Live mail passes at once while the drain waits for its disk."""

        async def hang(_queue_id: str) -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield b""

        read = spool.content
        monkeypatch.setattr(spool, "content", hang)
        queue_id = await middle.keep(spool_record(names=CLINICAL))
        async with middle.draining():
            await asyncio.sleep(1.0)
            assert middle.gate.in_flight == 0
            assert await middle.submit() == OK
            monkeypatch.setattr(spool, "content", read)
            await until(lambda: queue_id not in spool, 60)


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
    async def test_never_more_are_missing_than_there_are_slots(
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
        assert missing_max == middle.gate.limit

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


class TestStop:
    @in_virtual_time
    async def test_who_waits_stays_and_who_is_with_the_backend_finishes(
        self, middle: Middle
    ) -> None:
        for _ in range(10):
            await middle.keep(spool_record())
        middle.backend.before_dot.clear()
        async with middle.draining():
            await settle_down()
            assert middle.backend.in_flight == 4
        assert len(middle.backend.handed) == 4
        totals = await middle.spool.totals()
        assert totals.messages == 6
        assert totals.ledger == {"personal": {"accepted": 10, "delivered": 4}}
        assert len(middle.supervisor) == 0

    @in_virtual_time
    async def test_comes_at_once_when_there_is_nothing_to_do(self, middle: Middle) -> None:
        async with middle.draining():
            await settle_down()
            began = middle.clock.monotonic()
        assert middle.clock.monotonic() == began


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

        def broken(record: SpoolRecord, results: Any, **rest: Any) -> Settlement:
            if not any(isinstance(each, InDoubt) for each in results):
                raise RuntimeError("bug")
            return settle_attempt(record, results, **rest)

        monkeypatch.setattr("mailshed.drain.drainer.settle_attempt", broken)
        async with middle.draining():
            await until(lambda: state_of(middle, queue_id) is SpoolState.HOLD)
        assert len(middle.backend.handed) == 2

    @in_virtual_time
    async def test_the_drain_itself_goes_on_after_a_fault(
        self, middle: Middle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await middle.keep(spool_record())
        error = RuntimeError("bug")

        async def broken() -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(middle.spool, "totals", broken)
            middle.supervisor.spawn(middle.drainer.run(), "drain")
            await until(lambda: len(middle.faults) == 3)
            assert middle.clock.monotonic() == pytest.approx(2, abs=0.2)
        await until(lambda: middle.backend.handed)
        assert middle.faults == [("drain", error)] * 3
        middle.drainer.stop()
        assert await middle.supervisor.join(10) == 0


class Storm:
    """Random mail against a random backend and a spool that falls sick, from one seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.middle = Middle(folder, slots=self.rng.randint(1, 5), seed=seed)
        self.queued: dict[QueueId, tuple[bytes, ...]] = {}
        """Recipients of what was acknowledged from the spool."""
        self.relayed: set[QueueId] = set()
        self.kept_by_client: set[QueueId] = set()
        self.middle.backend.always(self.answer)
        self.middle.backend.seconds = self.rng.choice([0.0, 0.2, 2.0])
        self.is_away = False

    def answer(self, message: OutboundMessage) -> TransactionResult:
        """What the backend says in a storm."""
        if self.is_away:
            return be_away(message)
        failures: list[DeliveryResult] = [Deferred(Stage.RCPT, BUSY), Bounced(Stage.RCPT, REFUSED)]
        verdicts = {
            path: self.rng.choice(failures)
            for path, _ in message.recipients
            if self.rng.random() < 0.3
        }
        usual = (take, sort_out(verdicts), defer(), defer(None, Stage.DATA), refuse(), vanish)
        return self.rng.choices(usual, (50, 30, 5, 5, 5, 5))[0](message)

    async def mail(self) -> None:
        """Submit one message and book what the client was told."""
        middle, rng = self.middle, self.rng
        to = [f"r{n}@example.net" for n in range(rng.randint(1, 3))]
        made = middle.envelope(
            *to,
            sender=rng.choice(["alice@example.org", None]),
            client=client(is_trusted=rng.random() < 0.5, kind=rng.choice(list(ClientKind))),
        )
        is_gone = rng.random() < 0.05
        name = rng.choice(CLASSES).name
        content = middle.content(wire(X_Class=name))
        try:
            answer = await middle.pipeline.on_content(made, content, is_client_gone=lambda: is_gone)
        except ClientGone:
            self.kept_by_client.add(made.queue_id)
            return
        finally:
            content.close()
        if answer.code >= 400:
            self.kept_by_client.add(made.queue_id)
        elif b"queued as" in answer.wire and made.queue_id.encode() in answer.wire:
            self.queued[made.queue_id] = tuple(address.encode() for address in to)
        else:
            self.relayed.add(made.queue_id)

    async def weather(self) -> None:
        """Let the backend and the spool come and go for an hour."""
        while self.middle.clock.monotonic() < HOUR:
            self.is_away = self.rng.random() < 0.3
            sick = self.rng.random() < 0.2
            self.middle.spool.unhealthy = "disk I/O error" if sick else None
            await asyncio.sleep(self.rng.uniform(5, 120))

    async def run(self) -> None:
        """The storm, then calm until nothing moves any more."""
        middle = self.middle
        async with middle.draining():
            weather = middle.supervisor.spawn(self.weather(), "weather")
            while not weather.done():
                middle.supervisor.spawn(self.mail(), "mail")
                await asyncio.sleep(self.rng.expovariate(1 / 15))
            self.is_away, middle.spool.unhealthy = False, None
            middle.backend.always(take)
            await until(lambda: not self._is_anything_moving(), 2 * HOUR)

    def _is_anything_moving(self) -> bool:
        live = (SpoolState.QUEUED, SpoolState.DEFERRED)
        totals = self.middle.spool._totals()
        return any(row.messages for row in totals.by_class if row.state in live) or bool(
            self.middle.gate.in_flight + self.middle.gate.waiting
        )


@pytest.mark.parametrize("seed", range(12))
@in_virtual_time
async def test_every_recipient_comes_to_exactly_one_end_whatever_happens(
    tmp_path: Path, seed: int
) -> None:
    storm = Storm(tmp_path, seed)
    await storm.run()
    middle, backend = storm.middle, storm.middle.backend
    assert middle.faults == []
    assert middle.gate.in_flight == 0
    assert middle.spool.balance() == 0, "accepted + generated = endings + queued"
    assert len(storm.queued) > 20
    assert len(storm.relayed) > 20

    ledger = Counter[str]()
    for terms in (await middle.spool.totals()).ledger.values():
        ledger.update(terms)
    assert ledger["accepted"] == sum(map(len, storm.queued.values()))

    answered = Counter[tuple[QueueId, bytes]]()
    for each in backend.handed:
        if each.is_answered:
            answered.update((each.queue_id, path) for path in each.recipients)
    unanswered = [each.queue_id for each in backend.handed if not each.is_answered]
    assert sorted(unanswered) == sorted(line["id"] for line in middle.log.of("in_doubt"))
    assert max(answered.values()) == 1, "a duplicate that nobody doubted"
    assert not storm.kept_by_client & {queue_id for queue_id, _ in answered}
    assert storm.relayed <= {queue_id for queue_id, _ in answered}

    bounced = {(line["id"], line["to"].strip("<>").encode()) for line in middle.log.of("bounced")}
    for queue_id, recipients in storm.queued.items():
        held = middle.spool.record(queue_id).recipients if queue_id in middle.spool else ()
        for path in recipients:
            fates = (
                bool(answered[queue_id, path]),
                (queue_id, path) in bounced,
                path in {each.address for each in held},
            )
            assert fates.count(True) == 1, (queue_id, path, fates)
    assert ledger["delivered"] == sum(
        1 for queue_id, _ in answered if queue_id not in storm.relayed
    )
