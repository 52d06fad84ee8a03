"""What every SpoolStore promises, asked of each store that there is.

The last tests compare a store with the reference model over long random histories.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mailshed.errors import SpoolCorrupt, SpoolError, SpoolFull, SpoolSick
from mailshed.spool.schema import DATABASE
from mailshed.spool.sqlite import SqliteSpool
from mailshed.spool.store import (
    Report,
    Settlement,
    SpoolRecipient,
    SpoolRecord,
    SpoolStore,
    SpoolTotals,
)
from mailshed.terms import Ending, QueueAction, QueueId, Reason, SpoolState
from tests.support.builders import BULK, CLINICAL, PERSONAL, WALL, queue_id, spool_record
from tests.support.memory_spool import MemorySpool
from tests.support.spools import joined, pieces, sqlite_spool

LATER = WALL + 100 * 86400
KIB = 1024
PIECE_MAX = 256 * KIB
CONTENT = b"Subject: test\r\n\r\nHello.\r\n"
BACKENDS = ("", "exch", "north")

NewStore = Callable[..., SpoolStore]


@pytest.fixture(params=["memory", "sqlite"])
async def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NewStore]:
    """Make a store with limits; it is closed at the end."""
    made: list[SpoolStore] = []

    def make(**limits: int) -> SpoolStore:
        folder = tmp_path / f"spool{len(made)}"
        is_memory = request.param == "memory"
        made.append(MemorySpool(**limits) if is_memory else sqlite_spool(folder, **limits))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
async def store(new_store: NewStore) -> SpoolStore:
    opened = new_store()
    await opened.open()
    return opened


async def add(store: SpoolStore, *to: str, data: bytes = CONTENT, **changes: Any) -> SpoolRecord:
    record = spool_record(*to, **changes)
    await store.add(record, pieces(data))
    return replace(record, size=len(data))


async def due_ids(store: SpoolStore, wall: float = LATER, name: str = "personal") -> list[QueueId]:
    return [record.queue_id for record in await store.due(wall, name, 1000)]


def settlement(record: SpoolRecord, **changes: Any) -> Settlement:
    made = Settlement(
        queue_id=record.queue_id,
        attempts=record.attempts + 1,
        next_attempt_wall=record.next_attempt_wall + 60,
    )
    return replace(made, **changes)


def report_about(record: SpoolRecord, content: bytes = b"Subject: report\r\n\r\n") -> Report:
    return Report(
        record=spool_record(
            record.reverse_path.decode(), reverse_path=b"", is_trusted=False, is_generated=True
        ),
        content=content,
    )


def ledger(totals: SpoolTotals, name: str = "personal") -> dict[str, int]:
    return {term: count for term, count in totals.ledger.get(name, {}).items() if count}


def balance(totals: SpoolTotals) -> int:
    """Accepted + generated - ended - spooled: 0, always."""
    result = -sum(row.recipients for row in totals.by_class)
    for terms in totals.ledger.values():
        result += terms.get("accepted", 0) + terms.get("generated", 0)
        result -= sum(terms.get(ending.value, 0) for ending in Ending)
    return result


class TestAdd:
    async def test_returns_the_whole_record_from_due_with_its_size(self, store: SpoolStore) -> None:
        record = spool_record(
            parameters=(b"ENVID=x1", b"RET=HDRS"),
            recipients=(
                SpoolRecipient(index=0, address=b"bob@example.net"),
                SpoolRecipient(
                    index=2, address=b'"odd one"@example.net', parameters=(b"NOTIFY=NEVER",)
                ),
            ),
            reason=Reason.IN_DOUBT,
            helo="client.example.org",
            is_trusted=True,
            attempts=3,
            in_doubt=1,
            report_wall=WALL + 900.5,
        )
        await store.add(record, pieces(CONTENT))
        assert await store.due(WALL, "personal", 10) == [replace(record, size=len(CONTENT))]

    async def test_keeps_the_null_reverse_path(self, store: SpoolStore) -> None:
        record = await add(store, reverse_path=b"", is_trusted=False)
        assert await store.due(WALL, "personal", 10) == [record]

    @pytest.mark.parametrize(
        "octets", [0, 1, PIECE_MAX - 1, PIECE_MAX, PIECE_MAX + 1, 3 * PIECE_MAX, 1_000_003]
    )
    @pytest.mark.parametrize("arriving", [1000, 64 * KIB, 700_000])
    async def test_returns_content_byte_for_byte_in_bounded_pieces(
        self, store: SpoolStore, octets: int, arriving: int
    ) -> None:
        data = Random(octets).randbytes(octets)
        record = spool_record()
        await store.add(record, pieces(data, arriving))
        found = [piece async for piece in store.content(record.queue_id)]
        assert b"".join(found) == data
        assert all(0 < len(piece) <= PIECE_MAX for piece in found)

    async def test_stores_nothing_if_the_content_fails(self, store: SpoolStore) -> None:
        async def broken() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield bytes(200 * KIB)
            raise OSError("the client's file is gone")

        with pytest.raises(OSError, match="gone"):
            await store.add(spool_record(), broken())
        totals = await store.totals()
        assert (totals.messages, totals.octets, ledger(totals)) == (0, 0, {})

    async def test_stores_nothing_if_cancelled_before_the_content_ends(
        self, store: SpoolStore
    ) -> None:
        is_waiting = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield bytes(300 * KIB)
            is_waiting.set()
            await asyncio.Event().wait()

        record = spool_record()
        adding = asyncio.get_running_loop().create_task(store.add(record, endless()))
        await is_waiting.wait()
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        with pytest.raises(SpoolCorrupt):
            await joined(store.content(record.queue_id))
        assert (await store.totals()).messages == 0

    async def test_leaves_a_message_whole_or_absent_whenever_cancelled(
        self, store: SpoolStore
    ) -> None:
        data = Random(0).randbytes(700 * KIB)
        records = [spool_record() for _ in range(60)]
        loop = asyncio.get_running_loop()
        for number, record in enumerate(records):
            task = loop.create_task(store.add(record, pieces(data if number % 2 else CONTENT)))
            for _ in range(number):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await add(store, names=BULK)  # behind all that is still on its way to the disk
        whole = await due_ids(store)
        for number, record in enumerate(records):
            expected = data if number % 2 else CONTENT
            if record.queue_id in whole:
                assert await joined(store.content(record.queue_id)) == expected
        totals = await store.totals()
        assert totals.messages == len(whole) + 1
        assert balance(totals) == 0

    async def test_refuses_a_queue_id_that_is_there_and_no_other(self, store: SpoolStore) -> None:
        first = await add(store)
        others = [spool_record() for _ in range(5)]
        again = spool_record(queue_id=first.queue_id)
        results = await asyncio.gather(
            *(store.add(record, pieces(CONTENT)) for record in (*others[:2], again, *others[2:])),
            return_exceptions=True,
        )
        assert [type(result) for result in results if result] == [SpoolError]
        expected = sorted([first.queue_id, *(record.queue_id for record in others)])
        assert sorted(await due_ids(store)) == expected
        assert balance(await store.totals()) == 0


class TestLimits:
    async def test_refuses_more_messages_than_the_limit(self, new_store: NewStore) -> None:
        store = new_store(messages_max=3)
        await store.open()
        records = [await add(store) for _ in range(3)]
        with pytest.raises(SpoolFull):
            await add(store)
        await store.settle(settlement(records[0], endings={0: Ending.DELIVERED}))
        await add(store)
        assert (await store.totals()).messages == 3

    async def test_refuses_more_octets_than_the_limit_while_they_arrive(
        self, new_store: NewStore
    ) -> None:
        store = new_store(octets_max=2 * 1000 * KIB)
        await store.open()
        await add(store, data=bytes(1000 * KIB))
        asked_for = 0

        async def arriving() -> AsyncIterator[bytes]:
            nonlocal asked_for
            while True:
                asked_for += 100 * KIB
                yield bytes(100 * KIB)

        with pytest.raises(SpoolFull):
            await store.add(spool_record(), arriving())
        assert asked_for <= 1000 * KIB
        totals = await store.totals()
        assert (totals.messages, totals.octets) == (1, 1000 * KIB)
        await add(store, data=bytes(900 * KIB))

    async def test_keeps_the_last_three_percent_for_rank_0(self, new_store: NewStore) -> None:
        store = new_store(messages_max=100)
        await store.open()
        for _ in range(97):
            await add(store)
        with pytest.raises(SpoolFull):
            await add(store)
        for _ in range(3):
            await add(store, names=CLINICAL)
        with pytest.raises(SpoolFull):
            await add(store, names=CLINICAL)

    async def test_reports_are_stored_beyond_the_limits(self, new_store: NewStore) -> None:
        store = new_store(messages_max=2)
        await store.open()
        record = await add(store, "bob@example.net", "carol@example.net")
        await add(store)
        await store.settle(
            settlement(
                record,
                endings={0: Ending.BOUNCED},
                deferred={1: "450 busy"},
                reports=(report_about(record),),
            )
        )
        assert (await store.totals()).messages == 3


class TestDue:
    async def test_lists_what_is_due_and_of_the_class_only(self, store: SpoolStore) -> None:
        now = await add(store, next_attempt_wall=WALL + 10)
        await add(store, next_attempt_wall=WALL + 10.5)
        await add(store, names=BULK)
        assert await due_ids(store, WALL + 10) == [now.queue_id]

    async def test_lists_those_first_that_are_due_longest_then_the_oldest(
        self, store: SpoolStore
    ) -> None:
        third = await add(store, next_attempt_wall=WALL + 5, received_wall=WALL + 2)
        second = await add(store, next_attempt_wall=WALL + 5, received_wall=WALL + 1)
        fourth = await add(store, next_attempt_wall=WALL + 9, received_wall=WALL)
        first = await add(store, next_attempt_wall=WALL + 1, received_wall=WALL + 3)
        expected = [record.queue_id for record in (first, second, third, fourth)]
        assert await due_ids(store) == expected
        assert [r.queue_id for r in await store.due(LATER, "personal", 2)] == expected[:2]

    async def test_leaves_out_what_is_excluded_and_still_fills_the_limit(
        self, store: SpoolStore
    ) -> None:
        ids = [(await add(store)).queue_id for _ in range(6)]
        found = await store.due(LATER, "personal", 3, exclude=[ids[0], ids[2], queue_id()])
        assert [record.queue_id for record in found] == [ids[1], ids[3], ids[4]]

    async def test_leaves_out_held_recipients(self, store: SpoolStore) -> None:
        record = await add(store, "a@example.net", "b@example.net", "c@example.net")
        await store.settle(settlement(record, deferred={1: "held"}, state=SpoolState.HOLD))
        found = await store.due(LATER, "personal", 10)
        assert [[r.index for r in each.recipients] for each in found] == [[0, 2]]
        await store.settle(settlement(record, deferred={0: "", 2: ""}, state=SpoolState.HOLD))
        assert await due_ids(store) == []

    async def test_next_due_is_the_earliest_of_all_classes(self, store: SpoolStore) -> None:
        assert await store.next_due() is None
        await add(store, next_attempt_wall=WALL + 30)
        early = await add(store, names=BULK, next_attempt_wall=WALL + 20)
        assert await store.next_due() == WALL + 20
        await store.settle(settlement(early, deferred={0: "held"}, state=SpoolState.HOLD))
        assert await store.next_due() == WALL + 30

    async def test_beyond_finds_what_is_due_after_a_time_that_can_be(
        self, store: SpoolStore
    ) -> None:
        assert await store.beyond(WALL, 10) == []
        far = await add(store, next_attempt_wall=WALL + 31)
        other = await add(store, names=BULK, next_attempt_wall=WALL + 9999)
        held = await add(store, next_attempt_wall=WALL + 9999)
        await store.settle(
            settlement(
                held, deferred={0: "held"}, state=SpoolState.HOLD, next_attempt_wall=WALL + 9999
            )
        )
        await add(store, next_attempt_wall=WALL + 30)
        assert sorted(await store.beyond(WALL + 30, 10)) == sorted([far.queue_id, other.queue_id])
        assert len(await store.beyond(WALL + 30, 1)) == 1
        for record in (far, other):
            assert await store.amend(record.queue_id, QueueAction.RETRY, WALL)
        assert await store.beyond(WALL + 30, 10) == []


class TestExpired:
    async def test_lists_those_whose_time_has_come_first_expired_first(
        self, store: SpoolStore
    ) -> None:
        second = await add(store, expires_wall=WALL + 20)
        first = await add(store, names=BULK, expires_wall=WALL + 10)
        await add(store, expires_wall=WALL + 20.5)
        found = await store.expired(WALL + 20, 10)
        assert [record.queue_id for record in found] == [first.queue_id, second.queue_id]
        assert [r.queue_id for r in await store.expired(WALL + 20, 1)] == [first.queue_id]
        assert await store.expired(WALL + 20, 1, exclude=[first.queue_id]) == [second]

    async def test_leaves_out_held_messages(self, store: SpoolStore) -> None:
        record = await add(store)
        await store.settle(settlement(record, deferred={0: "held"}, state=SpoolState.HOLD))
        assert await store.expired(LATER, 10) == []


class TestSettle:
    async def test_removes_a_message_whose_recipients_have_all_ended(
        self, store: SpoolStore
    ) -> None:
        record = await add(store, "a@example.net", "b@example.net", data=bytes(600 * KIB))
        endings = {0: Ending.DELIVERED, 1: Ending.REFUSED}
        await store.settle(settlement(record, endings=endings))
        totals = await store.totals()
        assert (totals.messages, totals.octets, totals.by_class) == (0, 0, ())
        assert ledger(totals) == {"accepted": 2, "delivered": 1, "refused": 1}
        with pytest.raises(SpoolCorrupt):
            await joined(store.content(record.queue_id))

    async def test_a_mark_that_is_repeated_changes_nothing_and_reports_once(
        self, store: SpoolStore
    ) -> None:
        """As when its commit failed, and yet had reached the disk."""
        record = await add(store, "a@example.net", "b@example.net")
        report = report_about(record)
        mark = settlement(
            record, endings={0: Ending.BOUNCED}, deferred={1: "busy"}, reports=(report,)
        )
        await store.settle(mark)
        await store.settle(mark)
        totals = await store.totals()
        assert ledger(totals) == {"accepted": 2, "generated": 1, "bounced": 1}
        assert sum(row.messages for row in totals.by_class) == 2
        assert await joined(store.content(report.record.queue_id)) == report.content

    async def test_keeps_the_deferred_with_their_reply_and_the_new_numbers(
        self, store: SpoolStore
    ) -> None:
        record = await add(store, "a@example.net", "b@example.net")
        await store.settle(
            Settlement(
                queue_id=record.queue_id,
                endings={0: Ending.DELIVERED},
                deferred={1: "450 4.2.0 busy"},
                attempts=4,
                next_attempt_wall=WALL + 77,
                in_doubt=1,
            )
        )
        assert await store.due(WALL + 76, "personal", 10) == []
        assert await store.due(WALL + 77, "personal", 10) == [
            replace(
                record,
                recipients=(
                    replace(
                        record.recipients[1],
                        state=SpoolState.DEFERRED,
                        last_reply="450 4.2.0 busy",
                    ),
                ),
                attempts=4,
                next_attempt_wall=WALL + 77,
                in_doubt=1,
            )
        ]
        assert await joined(store.content(record.queue_id)) == CONTENT

    async def test_twice_is_once(self, store: SpoolStore) -> None:
        record = await add(store, "a@example.net", "b@example.net")
        for _ in range(2):
            await store.settle(
                settlement(record, endings={0: Ending.BOUNCED}, reports=(report_about(record),))
            )
        totals = await store.totals()
        assert totals.messages == 2
        assert ledger(totals) == {"accepted": 2, "generated": 1, "bounced": 1}

    async def test_of_a_message_that_is_gone_changes_nothing(self, store: SpoolStore) -> None:
        gone = spool_record()
        await store.settle(
            settlement(gone, endings={0: Ending.BOUNCED}, reports=(report_about(gone),))
        )
        totals = await store.totals()
        assert (totals.messages, ledger(totals)) == (0, {})

    async def test_stores_the_report_as_mail_to_be_delivered(self, store: SpoolStore) -> None:
        record = await add(store)
        report = report_about(record, b"Subject: sorry\r\n\r\n")
        await store.settle(settlement(record, endings={0: Ending.BOUNCED}, reports=(report,)))
        expected = replace(report.record, size=len(report.content))
        assert await store.due(LATER, "personal", 10) == [expected]
        assert await joined(store.content(expected.queue_id)) == report.content
        assert ledger(await store.totals()) == {"accepted": 1, "generated": 1, "bounced": 1}

    async def test_and_its_report_happen_together_or_not_at_all(self, store: SpoolStore) -> None:
        record, other = await add(store), await add(store)
        report = report_about(record)
        clash = replace(report, record=replace(report.record, queue_id=other.queue_id))
        with pytest.raises(SpoolError):
            await store.settle(
                settlement(record, endings={0: Ending.BOUNCED}, reports=(report, clash))
            )
        assert await due_ids(store) == [record.queue_id, other.queue_id]
        assert ledger(await store.totals()) == {"accepted": 2}

    async def test_a_held_message_can_be_released_and_removed(self, store: SpoolStore) -> None:
        record = await add(store)
        await store.settle(settlement(record, deferred={0: ""}, state=SpoolState.HOLD))
        await store.settle(settlement(record, deferred={0: ""}, next_attempt_wall=WALL + 1))
        assert await due_ids(store) == [record.queue_id]
        await store.settle(settlement(record, endings={0: Ending.REMOVED}))
        assert ledger(await store.totals()) == {"accepted": 1, "removed": 1}


class TestQuarantine:
    async def test_keeps_the_message_out_of_every_list(self, store: SpoolStore) -> None:
        record = await add(store, "a@example.net", "b@example.net")
        await store.quarantine(record.queue_id)
        await store.quarantine(queue_id())
        assert await due_ids(store) == []
        assert await store.expired(LATER, 10) == []
        assert await store.next_due() is None
        totals = await store.totals()
        assert [(row.state, row.messages, row.recipients) for row in totals.by_class] == [
            (SpoolState.CORRUPT, 1, 2)
        ]
        assert balance(totals) == 0


async def mixed(store: SpoolStore, **changes: Any) -> SpoolRecord:
    """A message with a recipient in each state: queued, deferred and held; it has been tried."""
    record = await add(store, "a@example.net", "b@example.net", "c@example.net", **changes)
    await store.settle(settlement(record, deferred={1: "450 busy"}))
    held = settlement(record, deferred={2: "450 odd"}, state=SpoolState.HOLD, in_doubt=1)
    await store.settle(held)
    return record


def states(totals: SpoolTotals) -> list[tuple[SpoolState, int, int]]:
    return [(row.state, row.messages, row.recipients) for row in totals.by_class]


async def state_of_all(store: SpoolStore, record: SpoolRecord) -> dict[int, SpoolState]:
    """The states of the recipients that may be tried; the rest can only be counted."""
    found = await store.due(LATER, record.traffic_class, 1000)
    return {
        recipient.index: recipient.state
        for each in found
        if each.queue_id == record.queue_id
        for recipient in each.recipients
    }


class TestAmend:
    @pytest.mark.parametrize("action", list(QueueAction))
    async def test_of_a_message_that_is_not_there_changes_nothing(
        self, store: SpoolStore, action: QueueAction
    ) -> None:
        record = await add(store)
        assert not await store.amend(queue_id(), action, LATER)
        assert await store.due(WALL, "personal", 10) == [record]
        assert ledger(await store.totals()) == {"accepted": 1}

    async def test_hold_takes_a_message_out_of_every_list(self, store: SpoolStore) -> None:
        record = await mixed(store, report_wall=WALL)
        assert await store.amend(record.queue_id, QueueAction.HOLD, LATER)
        assert await due_ids(store) == []
        assert await store.next_due() is None
        assert await store.expired(LATER, 10) == []
        assert await store.delayed(LATER, 10) == []
        assert states(await store.totals()) == [(SpoolState.HOLD, 1, 3)]
        assert not await store.amend(record.queue_id, QueueAction.HOLD, LATER)

    async def test_release_of_a_message_that_was_never_tried_queues_it_again(
        self, store: SpoolStore
    ) -> None:
        record = await add(store, next_attempt_wall=WALL + 10)
        await store.amend(record.queue_id, QueueAction.HOLD, WALL)
        assert await store.amend(record.queue_id, QueueAction.RELEASE, WALL + 77)
        assert await store.due(WALL + 76, "personal", 10) == []
        assert await store.next_due() == WALL + 77
        assert await store.due(WALL + 77, "personal", 10) == [
            replace(record, next_attempt_wall=WALL + 77)
        ]

    async def test_release_of_a_message_that_was_tried_defers_the_held_ones(
        self, store: SpoolStore
    ) -> None:
        record = await mixed(store)
        assert await store.amend(record.queue_id, QueueAction.RELEASE, WALL + 5)
        (found,) = await store.due(WALL + 5, "personal", 10)
        assert [each.state for each in found.recipients] == [
            SpoolState.QUEUED,
            SpoolState.DEFERRED,
            SpoolState.DEFERRED,
        ]
        assert [each.last_reply for each in found.recipients] == ["", "450 busy", "450 odd"]
        assert (found.attempts, found.in_doubt, found.next_attempt_wall) == (1, 1, WALL + 5)
        assert not await store.amend(record.queue_id, QueueAction.RELEASE, WALL + 6)
        assert await store.next_due() == WALL + 5

    async def test_retry_makes_due_what_waits_and_nothing_else(self, store: SpoolStore) -> None:
        record = await mixed(store)
        assert await store.next_due() == WALL + 60
        assert await store.amend(record.queue_id, QueueAction.RETRY, WALL + 5)
        assert await store.next_due() == WALL + 5
        (found,) = await store.due(WALL + 5, "personal", 10)
        assert [each.state for each in found.recipients] == [
            SpoolState.QUEUED,
            SpoolState.DEFERRED,
        ]
        assert (found.attempts, found.in_doubt) == (1, 1)

    async def test_retry_of_what_is_due_already_leaves_it_its_place(
        self, store: SpoolStore
    ) -> None:
        record = await add(store, next_attempt_wall=WALL + 5)
        for wall in (WALL + 5, WALL + 6):
            assert not await store.amend(record.queue_id, QueueAction.RETRY, wall)
        assert await store.next_due() == WALL + 5

    async def test_retry_does_not_release(self, store: SpoolStore) -> None:
        record = await add(store, next_attempt_wall=WALL + 60)
        await store.amend(record.queue_id, QueueAction.HOLD, WALL)
        assert not await store.amend(record.queue_id, QueueAction.RETRY, WALL)
        assert await due_ids(store) == []
        assert states(await store.totals()) == [(SpoolState.HOLD, 1, 1)]

    @pytest.mark.parametrize("action", [*QueueAction][:3])
    async def test_corrupt_recipients_stay_as_they_are(
        self, store: SpoolStore, action: QueueAction
    ) -> None:
        record = await mixed(store)
        await store.quarantine(record.queue_id)
        assert not await store.amend(record.queue_id, action, LATER)
        assert states(await store.totals()) == [(SpoolState.CORRUPT, 1, 3)]

    async def test_a_message_has_the_state_of_its_liveliest_recipient(
        self, store: SpoolStore
    ) -> None:
        """One recipient is damaged for ever; the other is held, released and ends."""
        record = await add(store, "a@example.net", "b@example.net")
        damaged = settlement(record, deferred={0: ""}, state=SpoolState.CORRUPT)
        await store.settle(damaged)
        for action, state in (
            (QueueAction.HOLD, SpoolState.HOLD),
            (QueueAction.RELEASE, SpoolState.DEFERRED),
        ):
            assert await store.amend(record.queue_id, action, WALL)
            assert states(await store.totals()) == [(state, 1, 2)]
        assert await state_of_all(store, record) == {1: SpoolState.DEFERRED}

    async def test_delete_ends_all_recipients_whatever_their_state(self, store: SpoolStore) -> None:
        record, other = await mixed(store), await add(store)
        await store.settle(settlement(record, endings={0: Ending.DELIVERED}))
        damaged = await add(store, "a@example.net", "b@example.net", data=bytes(700 * KIB))
        await store.quarantine(damaged.queue_id)
        for each in (record, damaged):
            assert await store.amend(each.queue_id, QueueAction.DELETE, WALL)
            with pytest.raises(SpoolCorrupt):
                await joined(store.content(each.queue_id))
            assert not await store.amend(each.queue_id, QueueAction.DELETE, WALL)
        totals = await store.totals()
        assert ledger(totals) == {"accepted": 6, "delivered": 1, "removed": 4}
        assert (totals.messages, totals.octets) == (1, len(CONTENT))
        assert await due_ids(store) == [other.queue_id]
        assert balance(totals) == 0

    async def test_what_was_deleted_settles_as_what_is_gone(self, store: SpoolStore) -> None:
        """A message in transmission is deleted, and delivered all the same."""
        record = await add(store)
        await store.amend(record.queue_id, QueueAction.DELETE, WALL)
        await store.settle(
            settlement(record, endings={0: Ending.BOUNCED}, reports=(report_about(record),))
        )
        totals = await store.totals()
        assert (totals.messages, ledger(totals)) == (0, {"accepted": 1, "removed": 1})


class TestDelay:
    async def test_lists_those_whose_report_is_due_the_earliest_first(
        self, store: SpoolStore
    ) -> None:
        third = await add(store, report_wall=WALL + 20)
        first = await add(store, names=BULK, report_wall=WALL + 10)
        second = await add(store, report_wall=WALL + 20, received_wall=WALL - 5)
        await add(store, report_wall=WALL + 20.5)
        await add(store)
        assert await store.delayed(WALL + 9, 10) == []
        assert await store.delayed(WALL + 20, 10) == [first, third, second]
        assert await store.delayed(WALL + 20, 2) == [first, third]

    async def test_leaves_out_held_and_corrupt_recipients(self, store: SpoolStore) -> None:
        record = await mixed(store, report_wall=WALL)
        (found,) = await store.delayed(WALL, 10)
        assert [each.index for each in found.recipients] == [0, 1]
        await store.quarantine(record.queue_id)
        assert await store.delayed(WALL, 10) == []

    async def test_is_noted_once_with_its_report(self, store: SpoolStore) -> None:
        record = await add(store, report_wall=WALL)
        report = report_about(record, b"Subject: late\r\n\r\n")
        for each in (report, report_about(record), None):
            await store.note_delay(record.queue_id, each)
        assert await store.delayed(LATER, 10) == []
        assert await store.due(LATER, "personal", 10) == [
            replace(record, report_wall=None),
            replace(report.record, size=len(report.content)),
        ]
        assert await joined(store.content(report.record.queue_id)) == report.content
        assert ledger(await store.totals()) == {"accepted": 1, "generated": 1}

    async def test_is_noted_without_a_report(self, store: SpoolStore) -> None:
        record = await add(store, report_wall=WALL)
        await store.note_delay(record.queue_id, None)
        assert await store.due(LATER, "personal", 10) == [replace(record, report_wall=None)]

    async def test_of_a_message_that_never_reports_or_is_gone_stores_no_report(
        self, store: SpoolStore
    ) -> None:
        record, gone = await add(store), await add(store, report_wall=WALL)
        await store.settle(settlement(gone, endings={0: Ending.DELIVERED}))
        for each in (record, gone):
            await store.note_delay(each.queue_id, report_about(each))
        assert await store.due(LATER, "personal", 10) == [record]
        assert ledger(await store.totals()) == {"accepted": 2, "delivered": 1}

    async def test_and_its_report_happen_together_or_not_at_all(self, store: SpoolStore) -> None:
        record, other = await add(store, report_wall=WALL), await add(store)
        report = report_about(record)
        clash = replace(report, record=replace(report.record, queue_id=other.queue_id))
        with pytest.raises(SpoolError):
            await store.note_delay(record.queue_id, clash)
        assert await store.delayed(LATER, 10) == [record]
        assert ledger(await store.totals()) == {"accepted": 2}

    async def test_reports_are_stored_beyond_the_limits(self, new_store: NewStore) -> None:
        store = new_store(messages_max=1)
        await store.open()
        record = await add(store, report_wall=WALL, names=CLINICAL)
        await store.note_delay(record.queue_id, report_about(record))
        assert (await store.totals()).messages == 2

    async def test_stays_due_for_a_report_while_attempts_change_the_message(
        self, store: SpoolStore
    ) -> None:
        record = await add(store, report_wall=WALL)
        await store.settle(settlement(record, deferred={0: "450 busy"}))
        await store.amend(record.queue_id, QueueAction.HOLD, WALL)
        await store.amend(record.queue_id, QueueAction.RELEASE, WALL)
        assert [each.report_wall for each in await store.delayed(WALL, 10)] == [WALL]


class TestTotals:
    async def test_of_an_empty_store_are_its_limits(self, new_store: NewStore) -> None:
        store = new_store(octets_max=5000, messages_max=7)
        await store.open()
        totals = await store.totals()
        assert (totals.by_class, dict(totals.ledger)) == ((), {})
        assert (totals.octets_max, totals.messages_max) == (5000, 7)

    async def test_have_a_row_for_each_class_and_state(self, store: SpoolStore) -> None:
        await add(store, "a@example.net", "b@example.net", received_wall=WALL + 5)
        await add(store, received_wall=WALL + 3)
        tried = await add(store, received_wall=WALL + 1)
        await add(store, names=BULK, received_wall=WALL + 2)
        await store.settle(settlement(tried, deferred={0: "450 busy"}))
        totals = await store.totals()
        assert [
            (row.traffic_class, row.state, row.messages, row.recipients, row.oldest_wall)
            for row in totals.by_class
        ] == [
            ("bulk", SpoolState.QUEUED, 1, 1, WALL + 2),
            ("personal", SpoolState.QUEUED, 2, 3, WALL + 3),
            ("personal", SpoolState.DEFERRED, 1, 1, WALL + 1),
        ]
        assert totals.messages == 4
        assert totals.octets == 4 * len(CONTENT)

    async def test_count_a_message_under_its_liveliest_recipient(self, store: SpoolStore) -> None:
        record = await add(store, "a@example.net", "b@example.net")
        await store.settle(settlement(record, deferred={0: ""}, state=SpoolState.HOLD))
        await store.settle(settlement(record, deferred={1: ""}, state=SpoolState.DEFERRED))
        rows = (await store.totals()).by_class
        assert [(row.state, row.messages, row.recipients) for row in rows] == [
            (SpoolState.DEFERRED, 1, 2)
        ]


class TestCopies:
    """One message for several backends: all of its copies, or none."""

    def records(self, count: int = 2, **changes: Any) -> list[SpoolRecord]:
        return [
            spool_record(f"{number}@example.net", backend=f"b{number}", **changes)
            for number in range(count)
        ]

    @pytest.mark.parametrize("size", [0, 100, PIECE_MAX, 3 * PIECE_MAX + 5])
    async def test_each_has_its_recipients_and_all_of_the_content(
        self, store: SpoolStore, size: int
    ) -> None:
        records, data = self.records(3), Random(size).randbytes(size)
        await store.add_copies(records, pieces(data, 100_000))
        for record in records:
            found = await store.due(WALL, "personal", 10, backend=record.backend)
            assert found == [replace(record, size=size)]
            assert await joined(store.content(record.queue_id)) == data
        totals = await store.totals()
        assert (totals.messages, totals.octets) == (3, 3 * size)
        assert ledger(totals) == {"accepted": 3}
        assert balance(totals) == 0

    @pytest.mark.parametrize("size", [100, 3 * PIECE_MAX])
    async def test_none_is_there_if_one_cannot_be(self, store: SpoolStore, size: int) -> None:
        there = await add(store)
        records = [*self.records(1), replace(self.records(1)[0], queue_id=there.queue_id)]
        with pytest.raises(SpoolError):
            await store.add_copies(records, pieces(bytes(size)))
        totals = await store.totals()
        assert totals.messages == 1
        assert ledger(totals) == {"accepted": 1}
        await store.add_copies(records[:1], pieces(CONTENT))

    async def test_they_need_room_for_all(self, new_store: NewStore) -> None:
        store = new_store(messages_max=100, octets_max=100_000)
        await store.open()
        with pytest.raises(SpoolFull):
            await store.add_copies(self.records(98), pieces(CONTENT))
        with pytest.raises(SpoolFull):
            await store.add_copies(self.records(2), pieces(bytes(60_000)))
        await store.add_copies(self.records(2), pieces(bytes(40_000)))
        totals = await store.totals()
        assert (totals.messages, totals.octets) == (2, 80_000)
        with pytest.raises(SpoolFull):
            await store.add(spool_record(), pieces(bytes(30_000)))
        await store.add(spool_record(), pieces(bytes(10_000)))

    async def test_cancelled_there_are_all_or_none(self, store: SpoolStore) -> None:
        records, began = self.records(), asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield bytes(PIECE_MAX)
                began.set()
                await asyncio.sleep(0)

        task = asyncio.create_task(store.add_copies(records, endless()))  # noqa: TID251
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await store.totals()).messages == 0
        await store.add_copies(records, pieces(CONTENT))


class TestBackends:
    async def test_what_is_due_at_one_is_not_due_at_another(self, store: SpoolStore) -> None:
        mine = [await add(store, backend="exch") for _ in range(2)]
        other = await add(store, backend="north", wall=WALL - 60)
        early = await add(store)
        assert await store.due(WALL, "personal", 10, backend="exch") == mine
        assert await store.due(WALL, "personal", 10, backend="north") == [other]
        assert await store.due(WALL, "personal", 10) == [early]
        assert await store.next_due() == WALL - 60
        assert await store.beyond(WALL - 30, 1) != [other.queue_id]

    async def test_what_expired_can_be_asked_of_some(self, store: SpoolStore) -> None:
        mine = await add(store, backend="exch", expires_wall=WALL + 2)
        other = await add(store, backend="ex", expires_wall=WALL + 1)
        assert await store.expired(WALL + 5, 10) == [other, mine]
        assert await store.expired(WALL + 5, 10, backends=["exch", "north"]) == [mine]
        assert await store.expired(WALL + 5, 10, backends=[]) == []

    async def test_totals_have_what_is_to_be_delivered_to_each(self, store: SpoolStore) -> None:
        await add(store, "a@example.net", "b@example.net", backend="exch")
        tried = await add(store, backend="exch", wall=WALL + 1)
        await store.settle(settlement(tried, deferred={0: "450 busy"}, next_attempt_wall=WALL - 9))
        held = await add(store, backend="exch")
        await store.amend(held.queue_id, QueueAction.HOLD, WALL)
        await add(store, backend="north", names=BULK, wall=WALL + 7)
        totals = await store.totals()
        assert [
            (row.backend, row.traffic_class, row.messages, row.recipients, row.octets, row.due_wall)
            for row in totals.by_backend
        ] == [
            ("exch", "personal", 2, 3, 2 * len(CONTENT), WALL - 9),
            ("north", "bulk", 1, 1, len(CONTENT), WALL + 7),
        ]
        (row,) = totals.of(["north", "gone"]).by_class
        assert (row.traffic_class, row.messages, row.oldest_wall) == ("bulk", 1, WALL + 7)
        assert totals.of([]).by_class == ()

    async def test_a_message_can_be_assigned_to_another(self, store: SpoolStore) -> None:
        record, rest = await add(store, backend="gone"), await add(store, backend="gone")
        held = await add(store, backend="gone")
        await store.amend(held.queue_id, QueueAction.HOLD, WALL)
        await store.assign({record.queue_id: "exch", queue_id(): "exch", held.queue_id: "exch"})
        moved = replace(record, backend="exch")
        assert await store.due(WALL, "personal", 10, backend="exch") == [moved]
        assert await store.due(WALL, "personal", 10, backend="gone") == [rest]
        rows = (await store.totals()).by_backend
        assert [(row.backend, row.messages) for row in rows] == [("exch", 1), ("gone", 1)]
        await store.amend(held.queue_id, QueueAction.RELEASE, WALL)
        assert len(await store.due(WALL, "personal", 10, backend="exch")) == 2


def spoil(store: SpoolStore) -> Callable[[], object]:
    """Make a store that is closed unfit to be opened; what is returned mends it."""
    if isinstance(store, MemorySpool):
        store.unhealthy = "spoilt"
        return lambda: setattr(store, "unhealthy", None)
    assert isinstance(store, SqliteSpool)
    in_its_place = store._path / DATABASE
    in_its_place.mkdir(parents=True)
    store._path.chmod(0o700)
    return in_its_place.rmdir


class TestSickFromTheStart:
    async def test_every_operation_says_so_until_it_has_recovered(
        self, new_store: NewStore
    ) -> None:
        store = new_store()
        mend = spoil(store)
        with pytest.raises(SpoolSick) as caught:
            await store.open()
        record = spool_record()
        for work in (
            store.add(record, pieces(CONTENT)),
            store.settle(settlement(record)),
            store.quarantine(record.queue_id),
            store.amend(record.queue_id, QueueAction.RETRY, WALL),
            store.note_delay(record.queue_id, None),
            store.due(WALL, "personal", 1),
            store.next_due(),
            store.expired(WALL, 1),
            store.delayed(WALL, 1),
            joined(store.content(record.queue_id)),
            store.totals(),
            store.recover(),
        ):
            with pytest.raises(SpoolSick):
                await work
        assert store.unhealthy_reason() == str(caught.value)
        mend()
        await store.recover()
        assert store.unhealthy_reason() is None
        await store.add(record, pieces(CONTENT))
        assert await due_ids(store) == [record.queue_id]

    async def test_closing_it_is_closing_any(self, new_store: NewStore) -> None:
        store = new_store()
        mend = spoil(store)
        with pytest.raises(SpoolSick):
            await store.open()
        await store.close()
        await store.close()
        mend()
        await store.open()
        assert await due_ids(store) == []


class TestLife:
    async def test_closing_twice_is_closing_once(self, store: SpoolStore) -> None:
        await store.close()
        await store.close()

    async def test_a_healthy_store_has_nothing_to_recover(self, store: SpoolStore) -> None:
        record = await add(store)
        await store.recover()
        assert store.unhealthy_reason() is None
        assert await due_ids(store) == [record.queue_id]


class _History:
    """The same random operations on a store and on the model, compared after each few."""

    def __init__(self, store: SpoolStore, seed: int) -> None:
        self.random = Random(seed)
        self.store = store
        self.model = MemorySpool(messages_max=60, octets_max=4_000_000)
        self.wall = WALL
        self.known: list[SpoolRecord] = []

    async def both(self, call: Callable[[SpoolStore], Any]) -> None:
        """Do it twice; both must answer the same, or fail alike."""
        outcomes: list[Any] = []
        for store in (self.model, self.store):
            try:
                outcomes.append(await call(store))
            except SpoolError as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]

    async def step(self) -> None:
        choose = self.random
        self.wall += choose.random() * 20
        kind = choose.random()
        if kind < 0.45 or not self.known:
            await self._add()
        elif kind < 0.75:
            await self._settle(choose.choice(self.known))
        elif kind < 0.88:
            await self._amend(choose.choice(self.known).queue_id)
        elif kind < 0.93:
            await self._note_delay(choose.choice(self.known))
        elif kind < 0.95:
            chosen = choose.sample(self.known, min(3, len(self.known)))
            places = {each.queue_id: choose.choice(BACKENDS) for each in chosen}
            await self.both(lambda store: store.assign(places))
        elif kind < 0.97:
            queue_id = choose.choice(self.known).queue_id
            await self.both(lambda store: store.quarantine(queue_id))
        else:
            # What was stored once and is still there, again.
            record = choose.choice(self.known)
            if record.queue_id in self.model:
                await self.both(lambda store: store.add(record, pieces(CONTENT)))

    async def _add(self) -> None:
        choose = self.random
        record = spool_record(
            *(f"r{index}@example.net" for index in range(choose.randint(1, 4))),
            names=choose.choice((CLINICAL, PERSONAL, BULK)),
            wall=self.wall,
            expires_wall=self.wall + choose.randint(1, 3000),
            report_wall=choose.choice((None, self.wall + choose.randint(1, 500))),
            backend=choose.choice(BACKENDS),
        )
        data = choose.randbytes(choose.choice((10, 3000, PIECE_MAX, 700_000)))
        records = [record]
        if choose.random() < 0.2:
            records.append(replace(record, queue_id=queue_id(self.wall), backend="north"))
        self.known += records
        await self.both(lambda store: store.add_copies(records, pieces(data, 100_000)))

    async def _settle(self, record: SpoolRecord) -> None:
        choose = self.random
        endings: dict[int, Ending] = {}
        deferred: dict[int, str] = {}
        for recipient in record.recipients:
            match choose.randint(0, 3):
                case 0:
                    endings[recipient.index] = choose.choice(list(Ending))
                case 1:
                    deferred[recipient.index] = f"450 try {choose.randint(1, 9)}"
        state = choose.choice((SpoolState.DEFERRED, SpoolState.DEFERRED, SpoolState.HOLD))
        reports: tuple[Report, ...] = ()
        if Ending.BOUNCED in endings.values():
            reports = (report_about(record),)
            self.known.append(reports[0].record)
        done = Settlement(
            queue_id=record.queue_id,
            endings=endings,
            deferred=deferred,
            state=state,
            attempts=choose.randint(1, 9),
            next_attempt_wall=self.wall + choose.randint(0, 600),
            in_doubt=choose.randint(0, 1),
            reports=reports,
        )
        await self.both(lambda store: store.settle(done))

    async def _amend(self, queue_id: QueueId) -> None:
        action = self.random.choices(list(QueueAction), (4, 4, 2, 1))[0]
        wall = self.wall + self.random.randint(-60, 60)
        await self.both(lambda store: store.amend(queue_id, action, wall))

    async def _note_delay(self, record: SpoolRecord) -> None:
        report = report_about(record) if self.random.random() < 0.7 else None
        if report is not None:
            self.known.append(report.record)
        await self.both(lambda store: store.note_delay(record.queue_id, report))

    async def compare(self) -> None:
        wall = self.wall + self.random.randint(-300, 600)
        exclude = [record.queue_id for record in self.random.sample(self.known, 2)]
        store, model = self.store, self.model
        keys = [(name, each) for name in ("clinical", "personal", "bulk") for each in BACKENDS]
        for name, backend in keys:
            found = await store.due(wall, name, 7, exclude, backend=backend)
            assert found == await model.due(wall, name, 7, exclude, backend=backend)
            for record in found[:2]:
                content = await joined(store.content(record.queue_id))
                assert content == model.raw_content(record.queue_id)
        assert await store.next_due() == await model.next_due()
        assert await store.expired(wall, 7, exclude) == await model.expired(wall, 7, exclude)
        some = self.random.sample(BACKENDS, 2)
        assert await store.expired(wall, 7, backends=some) == await model.expired(
            wall, 7, backends=some
        )
        assert await store.delayed(wall, 7) == await model.delayed(wall, 7)
        expected, totals = await model.totals(), await store.totals()
        assert totals.by_class == expected.by_class
        assert totals.by_backend == expected.by_backend
        assert (totals.messages, totals.octets) == (expected.messages, expected.octets)
        names = {*totals.ledger, *expected.ledger}
        assert {name: ledger(totals, name) for name in names} == {
            name: ledger(expected, name) for name in names
        }
        assert balance(totals) == 0


@pytest.mark.parametrize("seed", range(6))
async def test_sqlite_agrees_with_the_model_over_a_random_history(
    tmp_path: Path, seed: int
) -> None:
    """Also across a restart in the middle, which the model does not notice."""
    store = sqlite_spool(tmp_path, messages_max=60, octets_max=4_000_000)
    await store.open()
    history = _History(store, seed)
    for step in range(240):
        await history.step()
        if step % 8 == 7:
            await history.compare()
        if step == 120:
            await store.close()
            history.store = store = sqlite_spool(tmp_path, messages_max=60, octets_max=4_000_000)
            await store.open()
            await history.compare()
    await store.close()
