"""What is held back, what is not, and that it neither starves others nor floods the spool."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailshed.drain.budget import TOKENS_MAX
from mailshed.drain.mailboxes import URGENT_PAUSES
from mailshed.drain.restraint import Permit, Postponed, Restraint, is_retry
from mailshed.drain.retry import RetryPolicy
from mailshed.mail.delivery import Bounced, Deferred, Delivered, DeliveryResult, TransactionResult
from mailshed.mail.reply import make
from mailshed.relay.backend import OutboundMessage
from mailshed.spool.store import SpoolRecord
from mailshed.terms import Reason, SpoolState, Stage
from tests.support.builders import (
    BULK,
    CLINICAL,
    OK,
    PERSONAL,
    REFUSED,
    WALL,
    away,
    delivered,
    spool_record,
)
from tests.support.fake_backend import Answer, be_away, defer, sort_out, take, vanish
from tests.support.middle import Middle
from tests.support.virtual_time import in_virtual_time, until
from tests.support.watched_spool import WatchedSpool

RETRY = RetryPolicy(delay_min=30.0, delay_max=900.0)
HOUR = 3600.0
FULL = make(452, "4.2.2 Mailbox full")
NOT_NOW = make(451, "4.3.2 System busy")
TWO = ("a@example.net", "b@example.net")


def admit(restraint: Restraint, record: SpoolRecord, **changes: Any) -> Permit | Postponed:
    arguments: dict[str, Any] = {"is_free": False} | changes
    return restraint.admit(record, 0.0, 0.5, **arguments)


def permit(restraint: Restraint, record: SpoolRecord, **changes: Any) -> Permit:
    admitted = admit(restraint, record, **changes)
    assert isinstance(admitted, Permit)
    return admitted


def end(
    restraint: Restraint, permitted: Permit, *results: DeliveryResult, now: float = 0.0
) -> float | None:
    result = TransactionResult(recipients=results)
    return restraint.end(permitted, permitted.record, result, now, 0.5)


def empty(restraint: Restraint) -> None:
    while restraint.budget.reserve(0.0):
        pass


@pytest.fixture
def restraint() -> Restraint:
    return Restraint(lambda: RETRY)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"attempts": 1}, True),
        ({"reason": Reason.BACKEND_DEFERRED}, True),
        ({"reason": Reason.IN_DOUBT, "in_doubt": 1}, True),
        ({"reason": Reason.MIXED_RECIPIENTS}, False),
        ({"reason": Reason.BACKEND_AWAY}, False),
    ],
)
def test_a_retry_is_what_the_backend_has_failed_before(
    changes: dict[str, Any], expected: bool
) -> None:
    assert is_retry(spool_record(**changes)) is expected


class TestBudget:
    def test_is_for_retries_that_are_not_urgent(self, restraint: Restraint) -> None:
        empty(restraint)
        assert isinstance(admit(restraint, spool_record(attempts=1)), Postponed)
        assert isinstance(admit(restraint, spool_record()), Permit)
        assert isinstance(admit(restraint, spool_record(names=CLINICAL, attempts=9)), Permit)
        assert isinstance(admit(restraint, spool_record(attempts=9), is_free=True), Permit)

    def test_postpones_as_if_it_had_been_tried_and_had_failed(self, restraint: Restraint) -> None:
        empty(restraint)
        postponed = admit(restraint, spool_record(attempts=1))
        assert postponed == Postponed(seconds=30 + 0.5 * 240, cause="retry_budget")

    @pytest.mark.parametrize(
        ("results", "tokens"),
        [
            ((Delivered(OK),), 0.0),
            ((Bounced(Stage.RCPT, REFUSED),), 0.0),
            ((Deferred(Stage.RCPT, FULL),), 0.0),
            ((Deferred(Stage.DOT, NOT_NOW),), -1.0),
            ((Deferred(Stage.DATA, None, "lost"),), -1.0),
            ((Deferred(Stage.RCPT, NOT_NOW), Delivered(OK)), 0.0),
        ],
    )
    def test_is_spent_by_what_was_for_nothing(
        self, restraint: Restraint, results: tuple[DeliveryResult, ...], tokens: float
    ) -> None:
        empty(restraint)
        for _ in range(50):
            restraint.budget.give_back(0.0)
        record = spool_record(*(f"r{number}@example.net" for number in range(len(results))))
        retry = permit(restraint, replace(record, attempts=1))
        assert restraint.begin(retry, 0.0, 0.5) is retry.record
        assert restraint.budget.tokens(0.0) == 49
        end(restraint, retry, *results)
        assert restraint.budget.tokens(0.0) == pytest.approx(50 + tokens + 0.1)

    def test_is_not_touched_by_a_backend_that_is_away(self, restraint: Restraint) -> None:
        before = restraint.budget.tokens(0.0)
        retry = permit(restraint, spool_record(attempts=1))
        restraint.begin(retry, 0.0, 0.5)
        restraint.end(retry, retry.record, away(), 0.0, 0.5)
        assert restraint.budget.tokens(0.0) == before == TOKENS_MAX

    def test_gets_back_what_was_not_used_but_once(self, restraint: Restraint) -> None:
        empty(restraint)
        restraint.budget.give_back(0.0)
        retry = permit(restraint, spool_record(attempts=1))
        restraint.begin(retry, 0.0, 0.5)
        assert restraint.budget.tokens(0.0) == 0
        for _ in range(3):
            restraint.drop(retry, 0.0)
        assert restraint.budget.tokens(0.0) == 1

    def test_is_not_taken_by_what_only_waits_for_a_slot(self, restraint: Restraint) -> None:
        for _ in range(1000):
            permit(restraint, spool_record(attempts=1))
        assert restraint.budget.tokens(0.0) == TOKENS_MAX

    def test_may_be_empty_when_the_slot_comes(self, restraint: Restraint) -> None:
        retry = permit(restraint, spool_record(attempts=1))
        empty(restraint)
        postponed = restraint.begin(retry, 0.0, 0.5)
        assert postponed == Postponed(seconds=150.0, cause="retry_budget")


class TestMailboxes:
    def hold(self, restraint: Restraint, *to: str, **changes: Any) -> None:
        record = spool_record(*to, **changes)
        results = (Deferred(Stage.RCPT, FULL),) * len(record.recipients)
        end(restraint, permit(restraint, record, is_free=True), *results)

    def test_postpone_what_is_only_for_them(self, restraint: Restraint) -> None:
        self.hold(restraint, *TWO)
        assert admit(restraint, spool_record(*TWO)) == Postponed(seconds=60.0, cause="mailbox")
        assert isinstance(admit(restraint, spool_record(*TWO, "c@example.net")), Permit)

    def test_leave_the_others_of_a_message(self, restraint: Restraint) -> None:
        self.hold(restraint, "a@example.net")
        permitted = permit(restraint, spool_record(*TWO))
        ready = restraint.begin(permitted, 0.0, 0.5)
        assert isinstance(ready, SpoolRecord)
        assert [(each.index, each.address) for each in ready.recipients] == [(1, b"b@example.net")]

    def test_of_an_lmtp_message_are_held_one_by_one(self, restraint: Restraint) -> None:
        record = spool_record(*TWO)
        full, taken = Deferred(Stage.DOT, FULL), Delivered(OK)
        result = TransactionResult(recipients=(full, taken), is_each=True)
        pause = restraint.end(permit(restraint, record), record, result, 0.0, 0.5)
        assert pause is not None, "it is Bob's mailbox that says when"
        assert isinstance(admit(restraint, spool_record(TWO[0])), Postponed)
        assert isinstance(admit(restraint, spool_record(TWO[1])), Permit)

    def test_that_were_held_meanwhile_are_seen_with_the_slot(self, restraint: Restraint) -> None:
        """Many wait for their slots when the first of them meets the full mailbox."""
        empty(restraint)
        restraint.budget.give_back(0.0)
        permitted = permit(restraint, spool_record(attempts=1))
        self.hold(restraint, "bob@example.net")
        assert restraint.begin(permitted, 0.0, 0.5) == Postponed(seconds=60.0, cause="mailbox")
        assert restraint.budget.tokens(0.0) >= 1, "and the token is free for another"

    def test_do_not_hold_back_what_is_free(self, restraint: Restraint) -> None:
        self.hold(restraint, *TWO)
        last = permit(restraint, spool_record(*TWO), is_free=True)
        assert restraint.begin(last, 0.0, 0.5) is last.record

    def test_say_when_those_who_are_left_may_be_tried(self, restraint: Restraint) -> None:
        record = spool_record(*TWO)
        full, busy = Deferred(Stage.RCPT, FULL), Deferred(Stage.RCPT, NOT_NOW)
        assert end(restraint, permit(restraint, record), Delivered(OK), full) == 60.0
        assert end(restraint, permit(restraint, record, is_free=True), busy, full) is None
        assert end(restraint, permit(restraint, record), Delivered(OK), Delivered(OK)) is None

    def test_are_tried_by_two_until_one_gets_through(self, restraint: Restraint) -> None:
        self.hold(restraint, "bob@example.net")
        trials = [restraint.admit(spool_record(), 60.0, 0.5, is_free=False)]
        trials += [restraint.admit(spool_record(), 60.0, 0.5, is_free=False)]
        for each in trials:
            assert isinstance(each, Permit)
            assert restraint.begin(each, 60.0, 0.5) is each.record
        assert isinstance(restraint.admit(spool_record(), 60.0, 0.5, is_free=False), Postponed)
        first = trials[0]
        assert isinstance(first, Permit)
        restraint.end(first, first.record, delivered(), 60.0, 0.5)
        for _ in range(5):
            permitted = restraint.admit(spool_record(), 60.0, 0.5, is_free=False)
            assert isinstance(permitted, Permit)
            assert isinstance(restraint.begin(permitted, 60.0, 0.5), SpoolRecord)

    def test_with_trials_that_were_not_made_may_be_tried_again(self, restraint: Restraint) -> None:
        self.hold(restraint, "bob@example.net")
        for _ in range(5):
            permitted = restraint.admit(spool_record(), 60.0, 0.5, is_free=False)
            assert isinstance(permitted, Permit)
            restraint.begin(permitted, 60.0, 0.5)
            restraint.drop(permitted, 60.0)


class FullMailboxes:
    """A backend in which some mailboxes are full; it counts how often they are asked."""

    def __init__(self, middle: Middle, *full: bytes) -> None:
        self.full = set(full)
        self.asked = Counter[bytes]()
        middle.backend.always(self.answer)

    def answer(self, message: OutboundMessage) -> TransactionResult:
        self.asked.update(path for path, _ in message.recipients)
        return sort_out({path: Deferred(Stage.RCPT, FULL) for path in self.full})(message)


@in_virtual_time
async def test_full_mailboxes_do_not_slow_down_the_others(tmp_path: Path) -> None:
    """30 % of the recipients are full; the others take as long as if they were alone."""
    middle = Middle(tmp_path, slots=4)
    middle.backend.seconds = 0.5
    boxes = [f"r{number}@example.net" for number in range(20)]
    backend = FullMailboxes(middle, *(box.encode() for box in boxes[:6]))
    for number in range(400):
        await middle.keep(spool_record(boxes[number % 20], wall=WALL - 2000 + number))
    async with middle.draining():
        await until(lambda: len(middle.backend.handed) == 280)
        alone, first_wave = 280 * 0.5 / 4, 6 * 4 * 0.5 / 4
        assert middle.clock.monotonic() <= alone + first_wave + 1
        assert middle.drainer.held_mailboxes.used == 6
        await asyncio.sleep(HOUR - middle.clock.monotonic())
        for box in backend.full:
            # Some were on their way at first; then pauses that grow, with two trials after each.
            assert 4 <= backend.asked[box] <= 8 + 2 * (HOUR / 150)
        backend.full.clear()
        await until(lambda: len(middle.backend.handed) == 400, HOUR)
        assert middle.drainer.held_mailboxes.used == 0
    assert middle.spool.balance() == 0
    assert max(Counter(middle.backend.handed_ids).values()) == 1


@in_virtual_time
async def test_nobody_starves_behind_a_crowd_for_one_full_mailbox(tmp_path: Path) -> None:
    """All of them are older, and the spool shows the oldest first."""
    middle = Middle(tmp_path, slots=4)
    middle.backend.seconds = 0.1
    backend = FullMailboxes(middle, b"full@example.net")
    for number in range(500):
        await middle.keep(spool_record("full@example.net", wall=WALL - 20_000 + number))
    others = [await middle.keep(spool_record(wall=WALL - n)) for n in range(40)]
    async with middle.draining():
        await until(lambda: len(middle.backend.handed) == 40, 2)
        assert sorted(middle.backend.handed_ids) == sorted(others)
        assert backend.asked[b"full@example.net"] == 4, "those that were on their way"
        assert len(middle.spool.settlements) <= 500 + 40 + 4, "each is put off once"


@in_virtual_time
async def test_a_crowd_for_one_full_mailbox_is_no_storm(
    tmp_path: Path, spool: WatchedSpool
) -> None:
    """Neither at the backend nor in the spool, nor is anyone forgotten."""
    middle = Middle(tmp_path, slots=4, spool=spool)
    backend = FullMailboxes(middle, b"full@example.net")
    crowd = [await middle.keep(spool_record("full@example.net")) for _ in range(100)]
    async with middle.draining():
        await asyncio.sleep(2 * HOUR)
        asked = backend.asked[b"full@example.net"]
        assert 10 <= asked <= 4 + 2 * (2 * HOUR / 240)
        attempts = [spool.record(queue_id).attempts for queue_id in crowd]
        assert sum(attempts) == asked, "waiting is no attempt"
        # Each would have been tried, and its attempt written, once in 465 s on average.
        assert len(spool.settlements) < 2 * 100 * 2 * HOUR / 465
        assert spool.due_calls < 2.1 * len(spool.settlements), "one finds it, one looks after"
        backend.full.clear()
        await until(lambda: len(middle.backend.handed) == 100, 2 * 900)
    assert spool.balance() == 0


@in_virtual_time
async def test_clinical_mail_for_a_full_mailbox_is_tried_soon(middle: Middle) -> None:
    backend = FullMailboxes(middle, b"bob@example.net")
    for _ in range(5):
        await middle.keep(spool_record(names=BULK))
    async with middle.draining():
        await asyncio.sleep(HOUR)
        backend.asked.clear()
        urgent = await middle.keep(spool_record(names=CLINICAL, wall=middle.clock.wall()))
        middle.drainer.on_spooled(CLINICAL)
        await asyncio.sleep(600)
        assert backend.asked[b"bob@example.net"] >= 600 / URGENT_PAUSES[1]
        backend.full.clear()
        began = middle.clock.monotonic()
        await until(lambda: urgent in middle.backend.handed_ids)
        assert middle.clock.monotonic() - began <= URGENT_PAUSES[1] + 1


@in_virtual_time
async def test_a_message_goes_to_those_who_are_not_full(middle: Middle) -> None:
    backend = FullMailboxes(middle, b"a@example.net")
    await middle.keep(spool_record("a@example.net"))
    async with middle.draining():
        await until(lambda: backend.asked[b"a@example.net"])
        both = await middle.keep(spool_record(*TWO, wall=middle.clock.wall()))
        middle.drainer.on_spooled(PERSONAL)
        await until(lambda: middle.backend.handed)
        assert middle.backend.asked[-1].recipients == ((b"b@example.net", ()),)
        (left,) = middle.spool.record(both).recipients
        assert left.address == b"a@example.net"
        backend.full.clear()
        await until(lambda: len(middle.backend.handed) == 3)
    assert middle.spool.balance() == 0
    assert max(Counter(middle.backend.handed_ids).values()) == 2, "each recipient once"


class TestRetriesThatFail:
    @in_virtual_time
    async def test_do_not_amplify_trouble_and_first_attempts_go_on(self, tmp_path: Path) -> None:
        """An overloaded backend fails what it is given again."""
        middle = Middle(tmp_path, slots=4)
        empty(middle.drainer._outlets["fake"].restraint)
        again = {
            await middle.keep(spool_record(f"r{n}@example.net", attempts=3)) for n in range(200)
        }
        is_failing = True

        def answer(message: OutboundMessage) -> TransactionResult:
            if is_failing and message.queue_id in again:
                return defer(NOT_NOW, Stage.DOT)(message)
            return take(message)

        middle.backend.always(answer)
        async with middle.draining():
            for _ in range(900):
                await middle.keep(spool_record(wall=middle.clock.wall()))
                middle.drainer.on_spooled(PERSONAL)
                await asyncio.sleep(1)
            assert len(middle.backend.handed) == 900, "first attempts go on"
            retries = len(middle.backend.asked) - 900
            assert retries == pytest.approx((0.1 * 900 + 10 * 15) / 0.9, rel=0.15)
            postponed = {"class": "personal", "cause": "retry_budget"}
            assert middle.book.count("messages_postponed_total", **postponed) > 200
            assert middle.drainer.retry_tokens.used <= 1
            is_failing = False
            await until(lambda: len(middle.backend.handed) == 1100, 2 * 900)
            assert middle.drainer.retry_tokens.used >= 1
        assert middle.spool.balance() == 0

    @in_virtual_time
    async def test_are_few_at_a_backend_that_has_nothing_else_to_do(self, middle: Middle) -> None:
        empty(middle.drainer._outlets["fake"].restraint)
        for number in range(200):
            await middle.keep(spool_record(f"r{number}@example.net", attempts=3))
        middle.backend.always(defer(NOT_NOW, Stage.DOT))
        async with middle.draining():
            await asyncio.sleep(1800)
            assert len(middle.backend.asked) == pytest.approx(10 * 30 / 0.9, rel=0.1)

    @in_virtual_time
    async def test_of_clinical_mail_are_not_counted(self, middle: Middle) -> None:
        empty(middle.drainer._outlets["fake"].restraint)
        urgent = await middle.keep(spool_record(names=CLINICAL, attempts=3))
        middle.backend.always(defer(NOT_NOW, Stage.DOT))
        async with middle.draining():
            await until(lambda: middle.backend.asked_ids == [urgent], 1)
            await asyncio.sleep(2 * HOUR)
            assert len(middle.backend.asked) >= 2 * HOUR / 900, "as often as its pauses say"

    @in_virtual_time
    async def test_give_their_token_back_if_the_backend_is_away(self, middle: Middle) -> None:
        for number in range(20):
            await middle.keep(spool_record(f"r{number}@example.net", attempts=1))
        middle.backend.always(be_away)
        async with middle.draining():
            await asyncio.sleep(HOUR)
        assert middle.drainer.retry_tokens.used == TOKENS_MAX


@in_virtual_time
async def test_what_is_postponed_is_in_the_log_for_who_looks_closely(middle: Middle) -> None:
    empty(middle.drainer._outlets["fake"].restraint)
    queue_id = await middle.keep(spool_record(attempts=1))
    async with middle.draining():
        await until(lambda: middle.backend.handed)
    line = middle.log.one("postponed")
    assert (line["id"], line["cause"]) == (queue_id, "retry_budget")
    assert 30 <= line["next"] <= 270


@in_virtual_time
async def test_a_spool_that_cannot_postpone_loses_nothing(
    middle: Middle, spool: WatchedSpool
) -> None:
    empty(middle.drainer._outlets["fake"].restraint)
    queue_id = await middle.keep(spool_record(attempts=1))
    spool.is_marking = False
    async with middle.draining():
        await asyncio.sleep(5)
        assert spool.due_calls < 20, "nor does it spin"
        spool.is_marking = True
        await until(lambda: queue_id not in spool)
    assert middle.faults == []


@pytest.mark.parametrize("then", [defer(NOT_NOW), vanish])
@in_virtual_time
async def test_a_hold_that_is_over_makes_no_later_failure_a_hurry(
    tmp_path: Path, then: Answer
) -> None:
    """The mailbox was full once; what fails now has the pause of any other failure."""
    middle = Middle(tmp_path)
    middle.backend.once(defer(FULL))
    middle.backend.always(then)
    ended: list[float] = []
    middle.backend.on_answer = lambda _message, _result: ended.append(middle.clock.monotonic())
    queue_id = await middle.keep(spool_record(names=CLINICAL))
    async with middle.draining():
        await until(lambda: len(ended) == 2)
        await asyncio.sleep(RETRY.delay_min - 1)
        assert len(ended) == 2
        assert middle.spool.record(queue_id).recipients[0].state is SpoolState.DEFERRED
        middle.backend.always(take)
