"""The drain: order, pace, marks, endings; and that it never spins, starves or sends twice."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mailshed.control.overrides import Wish
from mailshed.drain.drainer import HIDDEN_INTERVAL
from mailshed.drain.retry import RetryPolicy, settle_attempt
from mailshed.errors import ClientGone, SpoolError, SpoolFull
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    TransactionResult,
    everyone,
)
from mailshed.mail.reply import make
from mailshed.relay.backend import OutboundMessage
from mailshed.spool.store import Settlement, SpoolRecord
from mailshed.terms import ClientKind, QueueAction, QueueId, Reason, SpoolState, Stage
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
    deferred,
    delivered,
    mailbox,
    spool_record,
    traffic_class,
    wire,
)
from tests.support.fake_backend import (
    be_away,
    defer,
    refuse,
    sort_out,
    take,
    vanish,
)
from tests.support.memory_spool import MemorySpool
from tests.support.middle import Middle, drain_policy, hold_slots, state_of
from tests.support.overrides import hold, in_force
from tests.support.virtual_time import in_virtual_time, settle_down, until
from tests.support.watched_spool import WatchedSpool

HOUR = 3600.0


class TestOrder:
    @in_virtual_time
    async def test_is_clinical_first_then_in_turn_and_within_a_class_by_age(
        self, tmp_path: Path
    ) -> None:
        middle = Middle(tmp_path, slots=1)
        middle.backend.seconds = 1.0
        wanted = [
            (CLINICAL, WALL - 1),
            (PERSONAL, WALL - 50),
            (TELEWORK, WALL - 100),
            (BULK, WALL - 9000),
            (PERSONAL, WALL - 5),
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


class TestBackendAway:
    @in_virtual_time
    async def test_the_breaker_paces_and_attempts_are_not_counted(self, middle: Middle) -> None:
        ids = [await middle.keep(spool_record(names=n)) for n in (CLINICAL, BULK) for _ in range(9)]
        middle.backend.always(be_away)
        async with middle.draining():
            await asyncio.sleep(600)
            # It refuses at once, so there is a probe every 2 s, give or take a fifth.
            assert 600 / 2.4 <= len(middle.backend.asked) <= 4 + 2 + 600 / 1.6
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

    @in_virtual_time
    async def test_what_hangs_there_does_not_keep_the_drain_from_trying_it(
        self, tmp_path: Path
    ) -> None:
        """The backend has adopted messages that it will never answer, and is back."""
        middle = Middle(tmp_path, slots=20)
        stuck = middle.backend.after_dot = asyncio.Event()

        async def tick() -> None:
            while not middle.gate.is_closed:
                middle.gate.tick(has_spooled=True)
                await asyncio.sleep(0.25)

        async with middle.draining():
            middle.supervisor.spawn(tick(), "ticks")
            senders = [mailbox(f"{number}@example.org") for number in range(11)]
            for sender in senders:
                middle.supervisor.spawn(middle.submit(reverse_path=sender), "live")
            await until(lambda: not middle.gate.is_up, 120)
            middle.backend.after_dot = asyncio.Event()
            middle.backend.after_dot.set()
            queue_id = await middle.keep(spool_record(names=CLINICAL))
            middle.drainer.on_spooled(CLINICAL)
            await until(lambda: queue_id not in middle.spool, 10)
            stuck.set()


class TestClasses:
    @in_virtual_time
    async def test_a_class_that_the_configuration_has_lost_counts_as_the_default(
        self, middle: Middle
    ) -> None:
        queue_id = await middle.keep(spool_record(names=traffic_class("retired", 9)))
        async with middle.draining():
            await until(lambda: middle.backend.handed)
        assert middle.backend.handed_ids == [queue_id]
        assert middle.drainer.delivered == {"retired": 1}


def override(middle: Middle, *wishes: Wish) -> None:
    """Let an operator have these overrides and no others, as the service does."""
    middle.gate.set_overrides(in_force(*wishes))
    middle.drainer.on_overrides()


class TestHeld:
    """A class that an operator holds."""

    @in_virtual_time
    async def test_stays_in_the_spool_until_that_ends(self, middle: Middle) -> None:
        override(middle, hold("bulk"))
        ids = [await middle.keep(spool_record(names=BULK)) for _ in range(20)]
        other = await middle.keep(spool_record(names=TELEWORK))
        async with middle.draining():
            await until(lambda: middle.backend.handed)
            await asyncio.sleep(HOUR)
            assert middle.backend.handed_ids == [other]
            assert middle.gate.waiting == 0, "it does not wait for a slot meanwhile"

            override(middle)
            ended = middle.clock.monotonic()
            await until(lambda: len(middle.backend.handed) == 21)
            assert middle.clock.monotonic() - ended < HIDDEN_INTERVAL
        assert sorted(middle.backend.handed_ids) == sorted([other, *ids])

    @in_virtual_time
    async def test_is_put_back_if_it_waits_for_a_slot(self, tmp_path: Path) -> None:
        middle = Middle(tmp_path, slots=1)
        holders = await hold_slots(middle, 1)
        async with middle.draining():
            queue_id = await middle.keep(spool_record(names=BULK))
            middle.drainer.on_spooled(BULK)
            await until(lambda: middle.gate.waiting)
            override(middle, hold("bulk"))
            await settle_down()
            assert middle.gate.waiting == 0
            middle.backend.before_dot.set()
            await asyncio.gather(*holders)
            await asyncio.sleep(HOUR)
            assert len(middle.backend.handed) == 1

            override(middle)
            await until(lambda: len(middle.backend.handed) == 2)
        assert middle.backend.handed_ids[1] == queue_id
        assert middle.faults == []

    @in_virtual_time
    async def test_is_put_back_if_it_was_taken_in_hand_a_moment_ago(
        self, middle: Middle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before its task has run at all, which then never does."""
        queue_id = await middle.keep(spool_record(names=BULK))
        due = middle.spool.due

        async def due_and_held(*question: Any) -> list[SpoolRecord]:
            found = await due(*question)
            asyncio.get_running_loop().call_soon(override, middle, hold("bulk"))
            return list(found)

        monkeypatch.setattr(middle.spool, "due", due_and_held)
        async with middle.draining():
            await settle_down()
            assert queue_id in middle.spool
            monkeypatch.undo()
            override(middle)
            await until(lambda: queue_id not in middle.spool, 2 * HIDDEN_INTERVAL)

    @in_virtual_time
    async def test_finishes_what_is_with_the_backend(self, middle: Middle) -> None:
        middle.backend.before_dot.clear()
        queue_id = await middle.keep(spool_record(names=BULK))
        async with middle.draining():
            await until(lambda: middle.gate.in_flight)
            override(middle, hold("bulk"))
            await settle_down()
            middle.backend.before_dot.set()
            await until(lambda: middle.backend.handed)
        assert middle.backend.handed_ids == [queue_id]
        assert middle.drainer.delivered == {"bulk": 1}

    @in_virtual_time
    async def test_is_not_tried_for_an_operator_either(self, middle: Middle) -> None:
        override(middle, hold("bulk"))
        queue_id = await middle.keep(spool_record(names=BULK))
        async with middle.draining():
            await middle.drainer.amend(QueueAction.RETRY, [queue_id])
            await asyncio.sleep(HOUR)
            assert middle.backend.handed == []
            override(middle)
            await until(lambda: middle.backend.handed)

    @in_virtual_time
    async def test_does_not_expire_while_the_backend_is_there(self, middle: Middle) -> None:
        """It has its last attempt when the hold ends."""
        override(middle, hold("bulk"))
        await middle.keep(spool_record(names=BULK, expires_wall=middle.clock.wall() + 600))
        async with middle.draining():
            await asyncio.sleep(HOUR)
            assert middle.log.of("expired") == []
            override(middle)
            await until(lambda: middle.backend.handed)

    @in_virtual_time
    async def test_is_not_clinical_mail_whose_class_was_lost(self, middle: Middle) -> None:
        """Its name counts as the default class, but its rank does not."""
        override(middle, hold("personal"))
        lost = await middle.keep(spool_record(names=traffic_class("icu", 0)))
        await middle.keep(spool_record(names=traffic_class("retired", 9)))
        async with middle.draining():
            await until(lambda: middle.backend.handed)
            await asyncio.sleep(HOUR)
            assert middle.gate.waiting == 0
        assert middle.backend.handed_ids == [lost]

    @in_virtual_time
    async def test_goes_on_while_observing(self, middle: Middle) -> None:
        middle.set_admission(is_observing=True)
        override(middle, hold("bulk"))
        await middle.keep(spool_record(names=BULK))
        async with middle.draining():
            await until(lambda: middle.backend.handed)


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
        middle.backend.once(defer(make(451, "4.3.2 System busy")))
        async with middle.draining():
            await until(lambda: middle.backend.handed)
            assert middle.clock.monotonic() == pytest.approx(5.0, abs=0.2)


class TestAdopted:
    """The live path hands over what the backend has and has not answered yet."""

    async def adopt(self, middle: Middle, *to: str, **changes: Any) -> SpoolRecord:
        """As the live path does it: in hand first, then committed."""
        record = spool_record(*to, reason=Reason.ADOPTED, **changes)
        middle.drainer.adopt(record.queue_id, record.traffic_class, "fake", "fake")
        await middle.keep(record)
        middle.drainer.on_spooled(PERSONAL)
        return record

    @in_virtual_time
    async def test_is_not_tried_while_the_backend_has_it(self, middle: Middle) -> None:
        async with middle.draining():
            record = await self.adopt(middle)
            await asyncio.sleep(600)
            assert middle.backend.asked == []
            await middle.drainer.settle_adopted(record, delivered())
            assert record.queue_id not in middle.spool
            await asyncio.sleep(600)
        assert middle.backend.asked == []
        assert middle.drainer.delivered == {"personal": 1}
        line = middle.log.one("attempted")
        assert (line["outcome"], line["attempt"]) == ("delivered", 1)
        assert line["delays"] == "0.00/600.00/0.00/0.00"
        assert middle.spool.balance() == 0

    @in_virtual_time
    async def test_is_tried_later_if_the_backend_defers_it(self, middle: Middle) -> None:
        async with middle.draining():
            record = await self.adopt(middle)
            await middle.drainer.settle_adopted(record, deferred(stage=Stage.DOT))
            assert middle.spool.record(record.queue_id).attempts == 1
            await until(lambda: middle.backend.handed_ids == [record.queue_id])
            assert 30 <= middle.clock.monotonic() <= 90 + 2

    @in_virtual_time
    async def test_is_returned_if_the_backend_refuses_it(self, middle: Middle) -> None:
        async with middle.draining():
            record = await self.adopt(middle)
            result = TransactionResult(recipients=(Bounced(Stage.DOT, REFUSED),))
            await middle.drainer.settle_adopted(record, result)
            await until(lambda: middle.backend.handed)
        (report,) = middle.backend.handed
        assert report.recipients == (b"alice@example.org",)
        assert b"550 5.1.1 No such user" in report.content
        assert b"Subject: test" in report.content

    @in_virtual_time
    async def test_is_in_doubt_if_the_backend_never_answers(self, middle: Middle) -> None:
        async with middle.draining():
            record = await self.adopt(middle)
            await middle.drainer.settle_adopted(record, vanish_all(record))
            kept = middle.spool.record(record.queue_id)
            assert (kept.in_doubt, kept.attempts) == (1, 1)
            assert kept.next_attempt_wall >= middle.clock.wall() + 30
            middle.backend.always(vanish)
            await until(lambda: state_of(middle, record.queue_id) is SpoolState.HOLD)
        assert len(middle.backend.asked) == 1

    @in_virtual_time
    async def test_is_settled_recipient_by_recipient(self, middle: Middle) -> None:
        record = await self.adopt(middle, "a@example.net", "b@example.net")
        taken, busy = Delivered(OK), Deferred(Stage.DOT, BUSY)
        result = TransactionResult(recipients=(taken, busy))
        await middle.drainer.settle_adopted(record, result)
        (left,) = middle.spool.record(record.queue_id).recipients
        assert (left.address, left.last_reply) == (b"b@example.net", BUSY.text)

    @in_virtual_time
    async def test_counts_among_those_without_a_mark(self, middle: Middle) -> None:
        """That number bounds the duplicates after a crash, whoever began the transaction."""
        for _ in range(10):
            await middle.keep(spool_record())
        records = [await self.adopt(middle) for _ in range(2 * middle.gate.limit)]
        async with middle.draining():
            await asyncio.sleep(60)
            assert middle.backend.asked == []
            await middle.drainer.settle_adopted(records[0], delivered())
            await until(lambda: len(middle.backend.handed) == 10)
            assert middle.backend.in_flight_max == 1
            for record in records[1:]:
                await middle.drainer.settle_adopted(record, delivered())
        assert middle.spool.balance() == 0

    @in_virtual_time
    async def test_waits_for_a_spool_that_is_sick(
        self, middle: Middle, spool: WatchedSpool
    ) -> None:
        record = await self.adopt(middle)
        waiting = await middle.keep(spool_record())
        spool.is_marking = False
        async with middle.draining():
            settling = middle.supervisor.spawn(
                middle.drainer.settle_adopted(record, delivered()), "settle"
            )
            await asyncio.sleep(300)
            assert not settling.done()
            assert middle.backend.asked == [], "nothing drains meanwhile"
            spool.is_marking = True
            await settling
            await until(lambda: waiting not in spool)
        assert middle.backend.handed_ids == [waiting]
        assert middle.faults == []
        assert (await spool.totals()).messages == 0

    @in_virtual_time
    async def test_is_let_go_of_if_it_was_not_committed_after_all(self, middle: Middle) -> None:
        """Whoever is then given the same message by the client may store it."""
        record = spool_record()
        async with middle.draining():
            for _ in range(2 * middle.gate.limit):
                middle.drainer.adopt(record.queue_id, record.traffic_class, "fake", "fake")
                middle.drainer.disown(record.queue_id)
            await middle.keep(record)
            middle.drainer.on_spooled(PERSONAL)
            await until(lambda: middle.backend.handed_ids == [record.queue_id])

    @in_virtual_time
    async def test_survives_a_fault_of_ours_as_one_in_doubt(
        self, middle: Middle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(record: SpoolRecord, result: TransactionResult, **rest: Any) -> Settlement:
            if not any(isinstance(each, InDoubt) for each in result.recipients):
                raise RuntimeError("bug")
            return settle_attempt(record, result, **rest)

        monkeypatch.setattr("mailshed.drain.attempt.settle_attempt", broken)
        record = await self.adopt(middle)
        await middle.drainer.settle_adopted(record, delivered())
        assert middle.spool.record(record.queue_id).in_doubt == 1
        assert [name for name, _ in middle.faults] == [f"drain {record.queue_id}"]


def vanish_all(record: SpoolRecord) -> TransactionResult:
    """The backend never answered our dot."""
    return TransactionResult(recipients=everyone(InDoubt("timeout"), len(record.recipients)))


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
            answer = await middle.hand_over(made, content, lambda: is_gone)
        except ClientGone:
            self.kept_by_client.add(made.queue_id)
            return
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


class Unreadable(MemorySpool):
    """Has messages that cannot be read, on a disk that is well otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[QueueId] = set()

    async def content(self, queue_id: QueueId) -> AsyncIterator[bytes]:
        if queue_id in self.lost:
            raise SpoolError("disk I/O error")
        async for piece in super().content(queue_id):
            yield piece


@in_virtual_time
async def test_messages_that_cannot_be_read_stand_in_nobodys_way(tmp_path: Path) -> None:
    """More of them than are offered at a time, all older than the one that can be read."""
    spool = Unreadable()
    middle = Middle(tmp_path, slots=4, spool=spool)
    for age in range(20):
        record = spool_record(names=CLINICAL, wall=WALL - 1000 - age)
        spool.lost.add(await middle.keep(record))
    good = await middle.keep(spool_record(names=CLINICAL, wall=WALL - 1))
    async with middle.draining():
        await until(lambda: middle.backend.handed_ids == [good], within=120.0)
    assert all(queue_id in spool for queue_id in spool.lost), "kept, and not quarantined"
    assert {str(error) for _, error in middle.faults} == {"disk I/O error"}


class Stubborn(MemorySpool):
    """Refuses every amendment."""

    async def amend(self, queue_id: QueueId, action: QueueAction, wall: float) -> bool:
        raise SpoolFull("the disk is full")


@in_virtual_time
async def test_a_stray_that_cannot_be_brought_back_stops_nobody_else(tmp_path: Path) -> None:
    middle = Middle(tmp_path, spool=Stubborn())
    await middle.keep(spool_record(next_attempt_wall=WALL + 90_000.0))
    good = await middle.keep(spool_record(names=CLINICAL))
    async with middle.draining():
        await until(lambda: middle.backend.handed_ids == [good], within=30.0)
