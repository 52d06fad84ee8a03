"""SqliteSpool: what is particular to it, beyond the contract that all stores share."""

import asyncio
import errno
import os
import re
import resource
import sqlite3
import stat
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mailshed.errors import SpoolCorrupt, SpoolError, SpoolFull, SpoolLocked, SpoolSick
from mailshed.spool import schema
from mailshed.spool.backlog import JOBS_MAX
from mailshed.spool.changes import Changes
from mailshed.spool.database import CONDITION_FILE
from mailshed.spool.lookup import Lookup
from mailshed.spool.recovery import recount
from mailshed.spool.schema import CHUNK_OCTETS, DATABASE
from mailshed.spool.sqlite import ANSWERS_PER_TURN, SqliteSpool
from mailshed.spool.store import Report, Settlement, SpoolRecord
from mailshed.terms import Ending, QueueAction, QueueId, Reason
from tests.support.builders import CLINICAL, PERSONAL, WALL, spool_record
from tests.support.clock import ManualClock
from tests.support.processes import wait_until
from tests.support.spools import (
    Faults,
    full_error,
    io_error,
    joined,
    pieces,
    sqlite_error,
    sqlite_spool,
)

DATA = b"Subject: test\r\n\r\nHello.\r\n"
LATER = WALL + 100 * 86400


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def spool(tmp_path: Path, faults: Faults) -> AsyncIterator[SqliteSpool]:
    opened = sqlite_spool(tmp_path / "spool", connection_factory=faults.factory())
    await opened.open()
    yield opened
    faults.release_commit()
    faults.heal()
    await opened.close()


async def add(spool: SqliteSpool, data: bytes = DATA, **changes: Any) -> SpoolRecord:
    record = spool_record(**changes)
    await spool.add(record, pieces(data))
    return record


def delivered(record: SpoolRecord, **changes: Any) -> Settlement:
    endings = {recipient.index: Ending.DELIVERED for recipient in record.recipients}
    return Settlement(
        queue_id=record.queue_id, endings=endings, attempts=1, next_attempt_wall=WALL, **changes
    )


async def ids(spool: SqliteSpool, name: str = "personal") -> set[QueueId]:
    return {record.queue_id for record in await spool.due(LATER, name, 10_000)}


def start(work: Any) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


async def until_held(faults: Faults) -> None:
    assert await asyncio.to_thread(faults.is_at_gate.wait, 60)


class TestGroupCommit:
    async def test_all_that_wait_share_one_commit(self, spool: SqliteSpool, faults: Faults) -> None:
        faults.hold_commit()
        first = start(add(spool))
        await until_held(faults)
        commits = faults.count("COMMIT")
        rest = [start(add(spool)) for _ in range(100)]
        await asyncio.sleep(0)
        faults.release_commit()
        await asyncio.gather(first, *rest)
        assert faults.count("COMMIT") == commits + 1
        assert len(await ids(spool)) == 101

    async def test_every_commit_is_timed(self, tmp_path: Path) -> None:
        """One duration for each COMMIT and none for anything else."""
        faults, seconds = Faults(), list[float]()
        timed = sqlite_spool(
            tmp_path / "timed", connection_factory=faults.factory(), on_sync=seconds.append
        )
        await timed.open()
        before = faults.count("COMMIT")
        await add(timed)
        await add(timed)
        assert len(seconds) == faults.count("COMMIT") - before == 2
        assert all(each > 0 for each in seconds)
        await timed.close()

    async def test_a_group_is_bounded(self, spool: SqliteSpool, faults: Faults) -> None:
        faults.hold_commit()
        first = start(add(spool))
        await until_held(faults)
        commits = faults.count("COMMIT")
        rest = [start(add(spool)) for _ in range(2 * JOBS_MAX)]
        await asyncio.sleep(0)
        faults.release_commit()
        await asyncio.gather(first, *rest)
        assert faults.count("COMMIT") == commits + 2

    async def test_a_group_hears_of_its_commit_a_few_at_a_time(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        """The loop turns in between, so that nobody else waits for all of them."""
        turn, heard = 0, Counter[int]()

        async def noted() -> None:
            await add(spool)
            heard[turn] += 1

        faults.hold_commit()
        first = start(add(spool))
        await until_held(faults)
        rest = [start(noted()) for _ in range(JOBS_MAX)]
        await asyncio.sleep(0)
        faults.release_commit()
        while not all(task.done() for task in (first, *rest)):
            turn += 1
            await asyncio.sleep(0)
        assert max(heard.values()) <= ANSWERS_PER_TURN
        assert heard.total() == JOBS_MAX

    async def test_nothing_is_acknowledged_before_its_commit(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        faults.hold_commit()
        tasks = [start(add(spool)) for _ in range(3)]
        await until_held(faults)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        assert (await spool.totals()).messages == 0
        faults.release_commit()
        await asyncio.gather(*tasks)

    async def test_a_mark_is_not_acknowledged_before_its_commit(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        record = await add(spool)
        faults.hold_commit()
        task = start(spool.settle(delivered(record)))
        await until_held(faults)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        faults.release_commit()
        await task

    async def test_one_bad_job_fails_alone(self, spool: SqliteSpool, faults: Faults) -> None:
        there = await add(spool)
        faults.hold_commit()
        first = start(add(spool))
        await until_held(faults)
        commits = faults.count("COMMIT")
        good = [start(add(spool)) for _ in range(10)]
        bad = start(add(spool, queue_id=there.queue_id))
        good += [start(add(spool)) for _ in range(10)]
        await asyncio.sleep(0)
        faults.release_commit()
        with pytest.raises(SpoolError, match="already"):
            await bad
        await asyncio.gather(first, *good)
        assert faults.count("COMMIT") == commits + 1
        assert len(await ids(spool)) == 22
        assert spool.unhealthy_reason() is None

    async def test_what_is_stored_no_longer_counts_as_arriving(
        self, spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Counted twice, if only for a moment, it would refuse mail that there is room for."""
        accounts, apply = spool._accounts, spool._accounts.apply
        arriving: list[int] = []

        def apply_and_look(changes: Changes) -> None:
            arriving.append(accounts.arriving_messages)
            apply(changes)

        monkeypatch.setattr(accounts, "apply", apply_and_look)
        for _ in range(3):
            await add(spool)
        assert arriving == [0, 0, 0]

    async def test_a_cancelled_message_that_waits_is_left_out(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        faults.hold_commit()
        first = start(add(spool))
        await until_held(faults)
        second = start(add(spool))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        faults.release_commit()
        await first
        await add(spool)
        assert (await spool.totals()).messages == 2


class TestLargeMessages:
    async def test_each_piece_is_stored_before_the_next_is_asked_for(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        inserted_when_asked = []

        async def content() -> AsyncIterator[bytes]:
            for _ in range(8):
                inserted_when_asked.append(faults.count("INSERT INTO chunk"))
                yield bytes(CHUNK_OCTETS)

        await spool.add(spool_record(), content())
        # One piece is held back, since the last one goes with the message.
        assert inserted_when_asked == [0, 0, 1, 2, 3, 4, 5, 6]
        assert faults.count("INSERT INTO chunk") == 8

    async def test_a_small_message_waits_for_one_group_at_most(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        """Twenty large messages are coming in; clinical mail is in the next commit."""
        large = [start(add(spool, bytes(4 * CHUNK_OCTETS))) for _ in range(20)]
        async with asyncio.timeout(60):
            await asyncio.to_thread(faults.wait_for, "INSERT INTO chunk")
        faults.hold_commit()
        await until_held(faults)
        small = start(add(spool, names=CLINICAL))
        await asyncio.sleep(0)
        commits = faults.count("COMMIT")
        faults.release_commit()
        await small
        # The one that was held, its own, and what may have begun before this task went on.
        assert faults.count("COMMIT") - commits <= 3
        await asyncio.gather(*large)

    async def test_survives_neither_in_part_after_a_failure(
        self, spool: SqliteSpool, tmp_path: Path
    ) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield bytes(3 * CHUNK_OCTETS)
            raise OSError("gone")

        with pytest.raises(OSError, match="gone"):
            await spool.add(spool_record(), broken())
        await add(spool)  # what is removed is removed before this
        with closing(sqlite3.connect(tmp_path / "spool" / DATABASE)) as connection:
            assert connection.execute("SELECT count(*) FROM incoming").fetchone() == (0,)
            assert connection.execute("SELECT count(*) FROM chunk").fetchone() == (1,)

    async def test_what_was_coming_in_at_a_crash_is_swept_at_start(self, tmp_path: Path) -> None:
        with closing(schema.open_writer(tmp_path / DATABASE)) as connection:
            connection.execute("INSERT INTO incoming VALUES (7)")
            for place in range(3):
                key = 7 << schema.CHUNK_BITS | place
                connection.execute("INSERT INTO chunk VALUES (?, ?)", (key, bytes(1000)))
        spool = sqlite_spool(tmp_path)
        await spool.open()
        await spool.close()
        with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
            assert connection.execute("SELECT count(*) FROM chunk").fetchone() == (0,)
            assert connection.execute("SELECT count(*) FROM incoming").fetchone() == (0,)


class TestSums:
    async def test_what_is_kept_is_what_a_count_finds(
        self, spool: SqliteSpool, faults: Faults, tmp_path: Path
    ) -> None:
        """Whatever a message goes through, and although one of a group is refused."""
        records = [await add(spool, backend="mail", wall=WALL + n) for n in range(6)]
        await add(spool, bytes(3 * CHUNK_OCTETS))
        copies = [spool_record("a@example.net", "b@example.net", backend=b) for b in ("mail", "")]
        await spool.add_copies(copies, pieces(DATA))
        faults.hold_commit()
        group = [start(spool.add(spool_record(), pieces(DATA)))]
        await until_held(faults)
        group += [start(spool.add(each, pieces(DATA))) for each in (spool_record(), records[0])]
        await asyncio.sleep(0)
        faults.release_commit()
        assert isinstance((await asyncio.gather(*group, return_exceptions=True))[2], SpoolError)
        report = Report(record=spool_record(reverse_path=b"", is_generated=True), content=DATA)
        bounced = {0: Ending.BOUNCED}
        again: dict[str, Any] = {"attempts": 1, "next_attempt_wall": WALL}
        for settlement in (
            Settlement(queue_id=records[0].queue_id, endings=bounced, reports=(report,), **again),
            Settlement(queue_id=records[1].queue_id, deferred={0: "450 busy"}, **again),
            Settlement(queue_id=copies[0].queue_id, endings=bounced, **again),
        ):
            await spool.settle(settlement)
        await spool.amend(records[2].queue_id, QueueAction.HOLD, WALL)
        await spool.amend(records[3].queue_id, QueueAction.DELETE, WALL)
        await spool.quarantine(records[4].queue_id)
        await spool.assign({records[5].queue_id: "neighbour"})
        with closing(sqlite3.connect(tmp_path / "spool" / DATABASE)) as connection:
            kept = connection.execute("SELECT * FROM holding WHERE messages <> 0").fetchall()
            counted = recount(connection)
        assert set(kept) == set(counted)
        assert sum(row[3] for row in counted) == (await spool.totals()).messages == 10

    async def test_a_start_in_good_order_counts_nothing(self, tmp_path: Path) -> None:
        faults = Faults()
        for is_first in (True, False):
            spool = sqlite_spool(tmp_path, connection_factory=faults.factory())
            await spool.open()
            assert (faults.count("SELECT traffic_class, state, backend, count(*)") > 0) == is_first
            faults.statements.clear()
            if is_first:
                await add(spool)
            assert (await spool.totals()).messages == 1
            await spool.close()

    async def test_a_spool_that_a_hand_has_changed_is_counted(self, tmp_path: Path) -> None:
        spool = sqlite_spool(tmp_path)
        await spool.open()
        records = [await add(spool) for _ in range(3)]
        await spool.close()
        with closing(sqlite3.connect(tmp_path / DATABASE)) as connection, connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("DELETE FROM message WHERE queue_id = ?", (records[0].queue_id,))
        for _ in range(2):
            spool = sqlite_spool(tmp_path)
            await spool.open()
            assert (await spool.totals()).messages == 2
            await spool.close()


class TestFullDisk:
    async def test_refuses_mail_writes_marks_and_stays_well(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        there = await add(spool)
        faults.hold_commit()
        first = start(add(spool))
        await until_held(faults)
        mail = [start(add(spool)) for _ in range(5)]
        mark = start(spool.settle(delivered(there)))
        await asyncio.sleep(0)
        faults.fail("COMMIT", full_error())  # not the held one, which has passed this point
        faults.release_commit()
        results = await asyncio.gather(first, mark, *mail, return_exceptions=True)
        assert isinstance(results[0], SpoolRecord)
        assert results[1] is None
        assert [type(result) for result in results[2:]] == [SpoolFull] * 5
        assert spool.unhealthy_reason() is None
        await add(spool)
        totals = await spool.totals()
        assert totals.messages == 2
        assert totals.ledger["personal"] == {"accepted": 3, "delivered": 1}

    async def test_a_mark_that_does_not_fit_is_refused_and_may_be_repeated(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        there = await add(spool)
        faults.fail("COMMIT", full_error())
        with pytest.raises(SpoolFull):
            await spool.settle(delivered(there))
        await spool.settle(delivered(there))
        assert (await spool.totals()).messages == 0

    async def test_is_told_from_a_fault_when_sqlite_itself_reports_it(
        self, spool: SqliteSpool, faults: Faults, tmp_path: Path
    ) -> None:
        """A page limit stands for the disk: SQLite reports both as SQLITE_FULL."""
        there = await add(spool)
        assert spool._writer is not None
        connection = spool._writer._connection
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        with pytest.raises(SpoolFull):
            await add(spool, bytes(CHUNK_OCTETS))
        with pytest.raises(SpoolFull):
            await add(spool, bytes(8 * CHUNK_OCTETS))
        await spool.settle(delivered(there))
        connection.execute("PRAGMA max_page_count = 1000000")
        await add(spool, bytes(CHUNK_OCTETS))
        assert (await spool.totals()).messages == 1

    async def test_below_the_reserve_no_mail_is_taken_but_marks_are(self, tmp_path: Path) -> None:
        free = 10_000_000
        clock = ManualClock()
        spool = sqlite_spool(
            tmp_path, disk_reserve=1_000_000, clock=clock, measure_disk=lambda _: free
        )
        await spool.open()
        record = await add(spool)
        free = 999_999
        clock.advance(1)
        for names in (PERSONAL, CLINICAL):
            with pytest.raises(SpoolFull, match="reserved"):
                await add(spool, names=names)
        await spool.settle(delivered(record))
        free = 1_249_999
        clock.advance(1)
        with pytest.raises(SpoolFull, match="reserved"):
            await add(spool)
        await spool.settle(delivered(await add(spool, names=CLINICAL)))
        free = 2_000_000
        clock.advance(1)
        await add(spool)
        totals = await spool.totals()
        assert totals.disk_reserve == 1_000_000
        assert totals.disk_free <= 2_000_000
        await spool.close()

    async def test_what_arrives_between_two_looks_at_the_disk_is_counted(
        self, tmp_path: Path
    ) -> None:
        spool = sqlite_spool(
            tmp_path, disk_reserve=1_000_000, measure_disk=lambda _: 3_000_000, clock=ManualClock()
        )
        await spool.open()
        await add(spool, bytes(600_000))
        with pytest.raises(SpoolFull):
            await add(spool, bytes(600_000))
        await spool.close()


class TestSickness:
    @pytest.mark.parametrize("statement", ["COMMIT", "BEGIN", "INSERT INTO recipient"])
    async def test_an_io_error_fails_the_group_and_makes_the_store_sick(
        self, spool: SqliteSpool, faults: Faults, statement: str
    ) -> None:
        record = await add(spool)
        faults.hold_commit()
        first = start(add(spool))
        await until_held(faults)
        faults.fail(statement, io_error())
        others = [start(add(spool)) for _ in range(5)]
        await asyncio.sleep(0)
        faults.release_commit()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert isinstance(results[0], SpoolRecord)
        assert all(isinstance(result, SpoolSick) for result in results[1:])
        assert "disk I/O error" in (spool.unhealthy_reason() or "")
        for work in (
            add(spool),
            spool.settle(delivered(record)),
            spool.due(LATER, "personal", 1),
            spool.expired(LATER, 1),
            spool.next_due(),
            spool.quarantine(record.queue_id),
            spool.totals(),
            joined(spool.content(record.queue_id)),
        ):
            with pytest.raises(SpoolSick):
                await work

    @pytest.mark.parametrize("error", [io_error(), ValueError("nobody foresaw this")])
    @pytest.mark.parametrize(
        "statement", ["PRAGMA freelist_count", "PRAGMA wal_checkpoint(PASSIVE)"]
    )
    async def test_a_fault_between_commits_makes_it_sick_and_no_one_waits_for_ever(
        self,
        spool: SqliteSpool,
        faults: Faults,
        monkeypatch: pytest.MonkeyPatch,
        statement: str,
        error: Exception,
    ) -> None:
        monkeypatch.setattr("mailshed.spool.writer.IDLE_SECONDS", 0.0)
        faults.fail(statement, error)
        async with asyncio.timeout(60):
            record = await add(spool)
            await asyncio.to_thread(wait_until, spool.unhealthy_reason, "it stays well")
            assert str(error) in (spool.unhealthy_reason() or "")
            for work in (add(spool), spool.settle(delivered(record))):
                with pytest.raises(SpoolSick):
                    await work
            await spool.recover()
            await add(spool)
            assert (await spool.totals()).messages == 2

    async def test_a_full_disk_between_commits_does_not(
        self, spool: SqliteSpool, faults: Faults, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailshed.spool.writer.IDLE_SECONDS", 0.0)
        faults.fail("PRAGMA freelist_count", full_error())
        async with asyncio.timeout(60):
            await add(spool)
            await asyncio.to_thread(
                wait_until, lambda: faults.count("PRAGMA freelist_count") > 1, "no second try"
            )
            await add(spool)
        assert spool.unhealthy_reason() is None

    async def test_what_nobody_foresaw_is_answered_when_it_opens(
        self, tmp_path: Path, faults: Faults
    ) -> None:
        spool = sqlite_spool(tmp_path, connection_factory=faults.factory())
        faults.fail("SELECT max(message_id)", ValueError("nobody foresaw this"))
        async with asyncio.timeout(60):
            with pytest.raises(SpoolSick, match="nobody foresaw this"):
                await spool.open()
            await spool.recover()
        await add(spool)
        await spool.close()

    @pytest.mark.parametrize("error", [MemoryError(), ValueError("odd"), io_error()])
    async def test_what_was_promised_outlives_a_checkpoint_that_fails(
        self, tmp_path: Path, faults: Faults, error: Exception
    ) -> None:
        """The group is acknowledged by then; nothing takes it back."""
        spool = sqlite_spool(
            tmp_path, connection_factory=faults.factory(), disk_reserve=4, measure_disk=_plenty
        )
        await spool.open()
        faults.fail("PRAGMA wal_checkpoint(PASSIVE)", error)
        kept = await add(spool)
        async with asyncio.timeout(60):
            while spool.unhealthy_reason() is None:  # noqa: ASYNC110 -- another thread sees to it
                await asyncio.sleep(0.01)
        await spool.recover()
        assert [each.queue_id for each in await spool.due(4e9, "personal", 10)] == [kept.queue_id]
        await spool.close()

    async def test_a_disk_that_reads_well_and_does_not_sync_is_not_well(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        kept = await add(spool)
        faults.fail("COMMIT", io_error())
        with pytest.raises(SpoolSick):
            await add(spool)
        faults.fail("INSERT INTO incoming VALUES (0)", io_error())
        with pytest.raises(SpoolSick):
            await spool.recover()
        assert spool.unhealthy_reason() is not None
        await spool.recover()
        assert [each.queue_id for each in await spool.due(4e9, "personal", 10)] == [kept.queue_id]

    async def test_what_nobody_foresaw_is_answered_when_it_recovers(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        kept = await add(spool)
        faults.fail("COMMIT", io_error())
        with pytest.raises(SpoolSick):
            await add(spool)
        faults.fail("SELECT max(message_id)", ValueError("nobody foresaw this"))
        async with asyncio.timeout(60):
            with pytest.raises(SpoolSick, match="nobody foresaw this"):
                await spool.recover()
            await spool.recover()
        assert await ids(spool) == {kept.queue_id}

    async def test_whoever_measures_a_commit_cannot_undo_it(self, tmp_path: Path) -> None:
        def fail(_: float) -> None:
            raise ValueError("not a number that I like")

        spool = sqlite_spool(tmp_path, on_sync=fail)
        await spool.open()
        await add(spool)
        assert spool.unhealthy_reason() is None
        assert len(await ids(spool)) == 1
        await spool.close()

    async def test_jobs_that_wait_when_it_falls_sick_are_answered(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        faults.hold_commit()
        first = start(add(spool))
        await until_held(faults)
        faults.fail("BEGIN", io_error())
        rest = [start(add(spool)) for _ in range(3 * JOBS_MAX)]
        await asyncio.sleep(0)
        faults.release_commit()
        results = await asyncio.gather(first, *rest, return_exceptions=True)
        assert isinstance(results[0], SpoolRecord)
        assert [type(result) for result in results[1:]] == [SpoolSick] * len(rest)

    async def test_a_sick_store_does_not_touch_its_files(
        self, tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a failed sync the WAL is not what it seems; a checkpoint would make it worse."""
        monkeypatch.setattr("mailshed.spool.sqlite.CHECKPOINT_OCTETS", 1)
        spool = sqlite_spool(tmp_path, connection_factory=faults.factory())
        await spool.open()
        await add(spool)
        faults.fail("COMMIT", io_error())
        with pytest.raises(SpoolSick):
            await add(spool)
        begun = len(faults.statements)
        with pytest.raises(SpoolSick):
            await add(spool)
        await spool.close()
        assert [s for s in faults.statements[begun:] if s != "ROLLBACK"] == []
        assert faults.statements[begun - 2 : begun] == ["COMMIT", "ROLLBACK"]

    async def test_recovers_with_all_that_was_acknowledged(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        records = [await add(spool) for _ in range(5)]
        await spool.settle(delivered(records[0]))
        faults.fail("COMMIT", io_error())
        with pytest.raises(SpoolSick):
            await add(spool)
        await spool.recover()
        assert spool.unhealthy_reason() is None
        assert await ids(spool) == {record.queue_id for record in records[1:]}
        await add(spool)
        totals = await spool.totals()
        assert totals.messages == 5
        assert totals.ledger["personal"] == {"accepted": 6, "delivered": 1}

    async def test_retracts_what_reached_the_disk_though_its_commit_failed(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        """The client was told 451 and comes back; the copy that made it must not be sent too."""
        kept = await add(spool)
        faults.fail("COMMIT", io_error(), is_after=True)
        with pytest.raises(SpoolSick):
            await add(spool)
        await spool.recover()
        assert await ids(spool) == {kept.queue_id}
        assert (await spool.totals()).ledger["personal"]["accepted"] == 1

    async def test_a_mark_of_unknown_fate_can_be_repeated(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        record = await add(spool)
        report = Report(record=spool_record(reverse_path=b"", is_generated=True), content=DATA)
        bounced = Settlement(
            queue_id=record.queue_id,
            endings={0: Ending.BOUNCED},
            attempts=1,
            next_attempt_wall=WALL,
            reports=(report,),
        )
        faults.fail("COMMIT", io_error(), is_after=True)
        with pytest.raises(SpoolSick):
            await spool.settle(bounced)
        await spool.recover()
        await spool.settle(bounced)
        assert await ids(spool) == {report.record.queue_id}
        ledger = (await spool.totals()).ledger["personal"]
        assert ledger == {"accepted": 1, "generated": 1, "bounced": 1}

    async def test_stays_sick_while_the_fault_lasts(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        faults.fail("COMMIT", io_error())
        with pytest.raises(SpoolSick):
            await add(spool)
        faults.fail("PRAGMA quick_check", io_error())
        with pytest.raises(SpoolSick):
            await spool.recover()
        assert spool.unhealthy_reason() is not None
        await spool.recover()
        await add(spool)

    async def test_does_not_recover_without_what_it_has_acknowledged(
        self, spool: SqliteSpool, faults: Faults, tmp_path: Path
    ) -> None:
        await add(spool)
        lost = await add(spool)
        faults.fail("COMMIT", io_error())
        with pytest.raises(SpoolSick):
            await add(spool)
        with closing(sqlite3.connect(tmp_path / "spool" / DATABASE)) as connection, connection:
            connection.execute("DELETE FROM message WHERE queue_id = ?", (lost.queue_id,))
        with pytest.raises(SpoolSick, match="1 acknowledged"):
            await spool.recover()

    async def test_a_large_message_across_a_recovery_is_not_stored_in_half(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        may_go_on, is_half = asyncio.Event(), asyncio.Event()

        async def content() -> AsyncIterator[bytes]:
            yield bytes(3 * CHUNK_OCTETS)
            is_half.set()
            await may_go_on.wait()
            yield bytes(3 * CHUNK_OCTETS)

        large = start(spool.add(spool_record(), content()))
        await is_half.wait()
        faults.fail("COMMIT", io_error())
        with pytest.raises(SpoolSick):
            await add(spool)
        await spool.recover()
        may_go_on.set()
        with pytest.raises(SpoolSick, match="recovered"):
            await large
        assert (await spool.totals()).messages == 0
        assert spool.unhealthy_reason() is None

    async def test_a_real_failing_write_is_noticed(self, tmp_path: Path) -> None:
        """RLIMIT_FSIZE makes the kernel refuse to extend any file: EFBIG, which SQLite calls IOERR.

        It is for the whole process, so nothing else may write a large file meanwhile.
        """
        spool = sqlite_spool(tmp_path)
        await spool.open()
        kept = await add(spool)
        with _largest_file(200_000):
            with pytest.raises(SpoolSick):
                await add(spool, bytes(CHUNK_OCTETS))
            assert spool.unhealthy_reason() is not None
        await spool.recover()
        assert await ids(spool) == {kept.queue_id}
        await add(spool, bytes(CHUNK_OCTETS))
        await spool.close()


class _largest_file:  # noqa: N801 -- reads like the context manager that it is
    def __init__(self, octets: int) -> None:
        self._octets = octets
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def __enter__(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._octets, self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


class TestCorruption:
    @pytest.mark.parametrize("octets", [1000, 3 * CHUNK_OCTETS])
    async def test_a_flipped_bit_is_noticed_before_the_last_piece_is_handed_out(
        self, tmp_path: Path, octets: int
    ) -> None:
        mark = b"the last octets of a message about a patient"
        data = bytes(octets) + mark
        spool = sqlite_spool(tmp_path)
        await spool.open()
        record = await add(spool, data)
        await spool.close()
        _flip(tmp_path / DATABASE, mark)
        spool = sqlite_spool(tmp_path)
        await spool.open()
        got: list[bytes] = []
        with pytest.raises(SpoolCorrupt, match="checksum"):
            await _collect(spool.content(record.queue_id), got)
        assert sum(map(len, got)) <= octets - octets % CHUNK_OCTETS
        await spool.quarantine(record.queue_id)
        assert await ids(spool) == set()
        await spool.close()

    async def test_missing_pieces_are_noticed(self, spool: SqliteSpool, tmp_path: Path) -> None:
        record = await add(spool, bytes(3 * CHUNK_OCTETS))
        with closing(sqlite3.connect(tmp_path / "spool" / DATABASE)) as connection, connection:
            connection.execute("DELETE FROM chunk WHERE chunk_id & 65535 = 1")
        with pytest.raises(SpoolCorrupt, match="missing"):
            await joined(spool.content(record.queue_id))

    async def test_a_damaged_database_is_not_opened(self, tmp_path: Path) -> None:
        spool = sqlite_spool(tmp_path)
        await spool.open()
        for _ in range(50):
            await add(spool, bytes(2000))
        await spool.close()
        database = tmp_path / DATABASE
        damaged = bytearray(database.read_bytes())
        for page in range(4096, len(damaged), 4096):
            damaged[page : page + 100] = os.urandom(100)
        database.write_bytes(damaged)
        (tmp_path / CONDITION_FILE).unlink()
        spool = sqlite_spool(tmp_path)
        with pytest.raises(SpoolSick):
            await spool.open()
        await spool.close()


class TestSickFromTheStart:
    """Opening finds a spool that cannot be used: it is ours all the same, and may recover."""

    async def check(self, spool: SqliteSpool, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Open, and see that it is sick, says so, and is owned."""
        monkeypatch.setattr("mailshed.spool.sqlite.LOCK_PATIENCE_SECONDS", 0.0)
        with pytest.raises(SpoolSick, match=text):
            await spool.open()
        assert re.search(text, spool.unhealthy_reason() or "")
        for work in (
            add(spool),
            spool.settle(delivered(spool_record())),
            spool.amend(QueueId("Q"), QueueAction.HOLD, WALL),
            spool.note_delay(QueueId("Q"), None),
            spool.quarantine(QueueId("Q")),
            spool.due(LATER, "personal", 1),
            spool.expired(LATER, 1),
            spool.delayed(LATER, 1),
            spool.next_due(),
            spool.totals(),
            joined(spool.content(QueueId("Q"))),
            spool.recover(),
        ):
            with pytest.raises(SpoolSick, match=text):
                await work
        second = sqlite_spool(spool._path)
        with pytest.raises(SpoolLocked):
            await second.open()
        await second.close()

    async def well_again(self, spool: SqliteSpool, messages: int) -> None:
        await spool.recover()
        assert spool.unhealthy_reason() is None
        assert len(await ids(spool)) == messages
        record = await add(spool)
        assert await joined(spool.content(record.queue_id)) == DATA
        assert (await spool.totals()).messages == messages + 1
        await spool.close()

    async def with_mail(self, folder: Path, messages: int = 40) -> Path:
        """A closed spool's database."""
        spool = sqlite_spool(folder)
        await spool.open()
        for _ in range(messages):
            await add(spool, bytes(2000))
        await spool.close()
        return folder / DATABASE

    async def test_a_damaged_database(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database = await self.with_mail(tmp_path)
        whole = database.read_bytes()
        database.write_bytes(whole[:8192] + os.urandom(len(whole) - 8192))
        (tmp_path / CONDITION_FILE).unlink()  # within a tick of the clock it might be believed
        spool = sqlite_spool(tmp_path)
        await self.check(spool, "damaged|malformed", monkeypatch)
        database.write_bytes(whole)
        await self.well_again(spool, 40)

    async def test_a_file_that_is_no_database(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database = tmp_path / DATABASE
        database.write_bytes(b"not a database, but long enough to look at" * 100)
        spool = sqlite_spool(tmp_path)
        await self.check(spool, "not a database", monkeypatch)
        database.unlink()
        await self.well_again(spool, 0)

    async def test_a_newer_version(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        database = await self.with_mail(tmp_path)
        with closing(sqlite3.connect(database)) as connection:
            connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
        spool = sqlite_spool(tmp_path)
        await self.check(spool, "written by a newer mailshed", monkeypatch)
        with closing(sqlite3.connect(database)) as connection:
            connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
        await self.well_again(spool, 40)

    async def test_a_database_that_cannot_be_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A folder in its place is refused by the kernel, whoever asks."""
        (tmp_path / DATABASE).mkdir()
        spool = sqlite_spool(tmp_path)
        await self.check(spool, "cannot open", monkeypatch)
        (tmp_path / DATABASE).rmdir()
        await self.well_again(spool, 0)

    async def test_an_io_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        await self.with_mail(tmp_path)
        (tmp_path / CONDITION_FILE).unlink()
        faults = Faults()
        spool = sqlite_spool(tmp_path, connection_factory=faults.factory())
        for _ in range(2):
            faults.fail("PRAGMA quick_check", io_error())
        await self.check(spool, "disk I/O error", monkeypatch)
        await self.well_again(spool, 40)

    async def test_a_large_one_after_a_power_cut_is_verified_while_mail_is_relayed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await self.with_mail(tmp_path)
        (tmp_path / CONDITION_FILE).unlink()
        monkeypatch.setattr("mailshed.spool.database.VERIFY_AT_START_OCTETS", 4096)
        faults = Faults()
        spool = sqlite_spool(tmp_path, connection_factory=faults.factory())
        with pytest.raises(SpoolSick, match="not closed in good order"):
            await spool.open()
        assert faults.statements == []
        await self.well_again(spool, 40)
        assert faults.count("PRAGMA quick_check") == 1

    async def test_is_closed_like_any_other(self, tmp_path: Path) -> None:
        (tmp_path / DATABASE).mkdir()
        spool = sqlite_spool(tmp_path)
        for _ in range(2):
            with pytest.raises(SpoolSick):
                await spool.open()
            await spool.close()
            await spool.close()
            assert spool.unhealthy_reason() == "the spool is closed"
            with pytest.raises(SpoolSick, match="closed"):
                await spool.recover()
        (tmp_path / DATABASE).rmdir()
        await spool.open()
        await spool.close()

    async def test_a_fault_right_after_a_recovery_is_not_overlooked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The writer falls sick again while the readers are being opened."""
        (tmp_path / DATABASE).mkdir()
        spool = sqlite_spool(tmp_path)
        with pytest.raises(SpoolSick):
            await spool.open()
        (tmp_path / DATABASE).rmdir()
        writer = spool._writer
        assert writer is not None
        genuine = Lookup

        def slow(database: Path) -> Lookup:
            writer._deliver(writer._fall_sick(io_error(), []))
            return genuine(database)

        monkeypatch.setattr("mailshed.spool.sqlite.Lookup", slow)
        with pytest.raises(SpoolSick, match="disk I/O error"):
            await spool.recover()
        assert "disk I/O error" in (spool.unhealthy_reason() or "")
        await self.well_again(spool, 0)


class TestVerification:
    """When opening reads everything; `test_database` has the rules."""

    async def verifies(self, folder: Path, *, is_sick: bool = False) -> bool:
        """Whether a process that opens the spool now reads all of it."""
        faults = Faults()
        spool = sqlite_spool(folder, connection_factory=faults.factory())
        await spool.open()
        await add(spool)
        if is_sick:
            faults.fail("COMMIT", io_error())
            with pytest.raises(SpoolSick):
                await add(spool)
        await spool.close()
        return faults.count("PRAGMA quick_check") > 0

    async def test_is_for_the_first_time_and_not_after_a_stop(self, tmp_path: Path) -> None:
        assert [await self.verifies(tmp_path) for _ in range(3)] == [True, False, False]

    async def test_follows_a_sickness(self, tmp_path: Path) -> None:
        assert await self.verifies(tmp_path)
        assert not await self.verifies(tmp_path, is_sick=True)
        assert await self.verifies(tmp_path)
        assert not await self.verifies(tmp_path)

    async def test_follows_a_sickness_whose_process_was_killed(self, tmp_path: Path) -> None:
        faults = Faults()
        spool = sqlite_spool(tmp_path, connection_factory=faults.factory())
        await spool.open()
        condition = tmp_path / CONDITION_FILE
        assert condition.read_text().startswith("running ")
        faults.fail("COMMIT", io_error())
        with pytest.raises(SpoolSick):
            await add(spool)
        await asyncio.to_thread(wait_until, lambda: not condition.exists(), "it is still trusted")
        await spool.recover()
        assert condition.read_text().startswith("running ")
        await spool.close()
        assert condition.read_text().startswith("stopped ")

    async def test_follows_a_stop_that_could_not_finish(self, tmp_path: Path) -> None:
        faults = Faults()
        spool = sqlite_spool(tmp_path, connection_factory=faults.factory())
        await spool.open()
        await add(spool)
        faults.fail("PRAGMA wal_checkpoint(TRUNCATE)", io_error())
        await spool.close()
        assert await self.verifies(tmp_path)


class TestQuota:
    """SQLite reports a quota that is used up (EDQUOT) as an I/O error."""

    @pytest.fixture
    def refused(self) -> sqlite3.Error:
        return sqlite_error(sqlite3.SQLITE_IOERR_WRITE, "disk I/O error")

    async def test_counts_as_a_full_disk(
        self,
        spool: SqliteSpool,
        faults: Faults,
        refused: sqlite3.Error,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def no_room(path: Path, data: bytes) -> int:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

        there = await add(spool)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "write_bytes", no_room)
            faults.fail("COMMIT", refused)
            with pytest.raises(SpoolFull):
                await add(spool)
            assert spool.unhealthy_reason() is None
        await spool.settle(delivered(there))
        await add(spool)
        assert (await spool.totals()).ledger["personal"] == {"accepted": 2, "delivered": 1}

    async def test_is_no_excuse_while_there_is_room(
        self, spool: SqliteSpool, faults: Faults, refused: sqlite3.Error
    ) -> None:
        faults.fail("COMMIT", refused)
        with pytest.raises(SpoolSick):
            await add(spool)


class TestReadErrors:
    """A failure to read says nothing about commits, nor about the mail."""

    @pytest.fixture
    async def reading(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[tuple[SqliteSpool, Faults]]:
        """An open spool and the faults of its readers."""
        faults = Faults()
        monkeypatch.setattr("mailshed.spool.lookup.open_reader", faults.open_reader)
        spool = sqlite_spool(tmp_path)
        await spool.open()
        yield spool, faults
        await spool.close()

    QUERIES = (
        ("SELECT message_id, queue_id", lambda spool: spool.due(LATER, "personal", 1)),
        ("SELECT message_id, queue_id", lambda spool: spool.expired(LATER, 1)),
        ("SELECT min(next_attempt)", lambda spool: spool.next_due()),
        ("SELECT min(received)", lambda spool: spool.totals()),
    )

    @pytest.mark.parametrize(("statement", "query"), QUERIES)
    async def test_one_is_not_even_noticed(
        self, reading: tuple[SqliteSpool, Faults], statement: str, query: Any
    ) -> None:
        spool, faults = reading
        await add(spool)
        faults.fail(statement, sqlite_error(sqlite3.SQLITE_IOERR_READ))
        assert await query(spool)
        assert spool.unhealthy_reason() is None

    @pytest.mark.parametrize(("statement", "query"), QUERIES)
    async def test_two_fail_the_query_and_not_the_store(
        self, reading: tuple[SqliteSpool, Faults], statement: str, query: Any
    ) -> None:
        spool, faults = reading
        await add(spool)
        for _ in range(2):
            faults.fail(statement, sqlite_error(sqlite3.SQLITE_IOERR_READ))
        with pytest.raises(SpoolError) as raised:
            await query(spool)
        assert type(raised.value) is SpoolError
        assert spool.unhealthy_reason() is None
        await add(spool)
        assert await query(spool)

    @pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB])
    async def test_damage_makes_the_store_sick(
        self, reading: tuple[SqliteSpool, Faults], code: int
    ) -> None:
        spool, faults = reading
        await add(spool)
        for _ in range(2):
            faults.fail("SELECT min(next_attempt)", sqlite_error(code, "malformed"))
        with pytest.raises(SpoolSick, match="malformed"):
            await spool.next_due()
        assert "malformed" in (spool.unhealthy_reason() or "")
        await spool.recover()
        assert await spool.next_due() is not None

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (sqlite3.SQLITE_CANTOPEN, SpoolError),
            (sqlite3.SQLITE_NOMEM, SpoolError),
            (sqlite3.SQLITE_BUSY, SpoolError),
            (sqlite3.SQLITE_IOERR_READ, SpoolError),
            (sqlite3.SQLITE_CORRUPT, SpoolCorrupt),
            (sqlite3.SQLITE_NOTADB, SpoolCorrupt),
        ],
    )
    @pytest.mark.parametrize(("statement", "times"), [("SELECT queue_id", 4), ("SELECT CAST", 2)])
    async def test_content_is_corrupt_only_if_it_is_damaged(
        self,
        reading: tuple[SqliteSpool, Faults],
        code: int,
        kind: type[SpoolError],
        statement: str,
        times: int,
    ) -> None:
        """The first piece is read with those of others, then alone, and either is repeated."""
        spool, faults = reading
        data = bytes(2 * CHUNK_OCTETS)
        record = await add(spool, data)
        for _ in range(times):
            faults.fail(statement, sqlite_error(code))
        with pytest.raises(SpoolError) as raised:
            await joined(spool.content(record.queue_id))
        assert type(raised.value) is kind
        assert spool.unhealthy_reason() is None
        assert await joined(spool.content(record.queue_id)) == data

    @pytest.mark.parametrize("statement", ["SELECT CAST", "ROLLBACK"])
    async def test_a_piece_that_is_read_twice_counts_once_in_the_checksum(
        self, reading: tuple[SqliteSpool, Faults], statement: str
    ) -> None:
        spool, faults = reading
        data = os.urandom(3 * CHUNK_OCTETS + 1)
        record = await add(spool, data)
        content = spool.content(record.queue_id)
        got = [await anext(content)]
        connections = faults.connections
        faults.fail(statement, sqlite_error(sqlite3.SQLITE_IOERR_READ))
        got += [piece async for piece in content]
        assert b"".join(got) == data
        assert faults.connections == connections + 1

    async def test_exhausted_descriptors_do_not_keep_mail_from_being_read(
        self, spool: SqliteSpool
    ) -> None:
        record = await add(spool)
        with _no_descriptors():
            assert len(await spool.due(LATER, "personal", 1)) == 1
            both = await asyncio.gather(*(joined(spool.content(record.queue_id)) for _ in "12"))
            await spool.settle(delivered(record))
        assert both == [DATA, DATA]
        assert spool.unhealthy_reason() is None

    async def test_a_spool_whose_readers_cannot_open_is_sick_until_they_can(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spool, faults = sqlite_spool(tmp_path), Faults()
        with monkeypatch.context() as patched:
            patched.setattr("mailshed.spool.lookup.open_reader", faults.open_reader)
            for operation in (spool.open, spool.recover):
                faults.fail("PRAGMA schema_version", sqlite_error(sqlite3.SQLITE_CANTOPEN))
                with pytest.raises(SpoolSick, match="cannot be read"):
                    await operation()
                with pytest.raises(SpoolSick, match="cannot be read"):
                    await add(spool)
        await spool.recover()
        await add(spool)
        assert len(await ids(spool)) == 1
        await spool.close()


@contextmanager
def _no_descriptors() -> Iterator[None]:
    """Nothing in this process can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


async def _collect(content: AsyncIterator[bytes], into: list[bytes]) -> None:
    async for piece in content:
        into.append(piece)  # noqa: PERF401 -- what came before a failure counts


def _flip(database: Path, mark: bytes) -> None:
    raw = bytearray(database.read_bytes())
    place = raw.index(mark)
    raw[place] ^= 1
    database.write_bytes(raw)


class TestOddRows:
    """Rows as this version never writes them: made by a newer one, or by hand."""

    async def edited(self, folder: Path, *statements: str) -> tuple[SqliteSpool, list[SpoolRecord]]:
        """An open spool with three messages, as the statements left it; each has two recipients."""
        spool = sqlite_spool(folder)
        await spool.open()
        records = [spool_record("a@example.net", "b@example.net") for _ in range(3)]
        for record in records:
            await spool.add(record, pieces(DATA))
        await spool.close()
        with closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
            connection.execute("PRAGMA foreign_keys = ON")
            for statement in statements:
                connection.execute(statement)
        await spool.open()
        return spool, records

    async def states(self, spool: SqliteSpool) -> list[tuple[str, int, int]]:
        rows = (await spool.totals()).by_class
        return [(row.state.value, row.messages, row.recipients) for row in rows]

    async def test_an_unknown_state_waits_for_an_operator(self, tmp_path: Path) -> None:
        spool, records = await self.edited(
            tmp_path,
            "UPDATE message SET state = 'frozen' WHERE message_id = 1",
            "UPDATE recipient SET state = 'frozen' WHERE message_id = 1",
        )
        frozen, *others = (record.queue_id for record in records)
        assert await ids(spool) == set(others)
        assert await self.states(spool) == [("queued", 2, 4), ("hold", 1, 2)]
        assert await spool.amend(frozen, QueueAction.RELEASE, WALL)
        assert await ids(spool) == {frozen, *others}
        await spool.settle(delivered(records[0]))
        assert await self.states(spool) == [("queued", 2, 4)]
        await spool.close()

    async def test_an_unknown_reason_keeps_no_mail_from_being_delivered(
        self, tmp_path: Path
    ) -> None:
        spool, records = await self.edited(tmp_path, "UPDATE message SET reason = 'moonphase'")
        found = await spool.due(LATER, "personal", 10)
        assert [record.queue_id for record in found] == [record.queue_id for record in records]
        assert {record.reason for record in found} == {Reason.INTERNAL}
        await spool.close()

    @pytest.mark.parametrize(
        ("edit", "left"),
        [
            ("UPDATE recipient SET state = 'frozen'", ("hold", 2)),
            ("UPDATE recipient SET state = 'hold'", ("hold", 2)),
            ("UPDATE recipient SET state = 'corrupt'", ("corrupt", 2)),
            ("DELETE FROM recipient", None),
        ],
    )
    @pytest.mark.parametrize("query", ["due", "expired", "delayed"])
    async def test_a_message_without_a_recipient_to_try_is_put_aside(
        self, tmp_path: Path, edit: str, left: tuple[str, int] | None, query: str
    ) -> None:
        """It stands before all others in the index, and must not hide them."""
        spool, records = await self.edited(
            tmp_path,
            f"{edit} WHERE message_id < 3",
            "UPDATE message SET report_at = 0",
        )
        lists = {
            "due": lambda: spool.due(LATER, "personal", 1),
            "expired": lambda: spool.expired(LATER, 1),
            "delayed": lambda: spool.delayed(LATER, 1),
        }
        assert [each.queue_id for each in await lists[query]()] == [records[2].queue_id]
        expected = [("queued", 1, 2)]
        if left is not None:
            expected.append((left[0], 2, 2 * left[1]))
        assert await self.states(spool) == expected
        await spool.settle(delivered(records[2]))
        assert await spool.next_due() is None
        await spool.close()

    async def test_putting_aside_can_wait_for_room(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spool, records = await self.edited(
            tmp_path, "UPDATE recipient SET state = 'hold' WHERE message_id = 1"
        )

        async def full(_: QueueId) -> None:
            raise SpoolFull("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(spool, "_realign", full)
            found = await spool.due(LATER, "personal", 2)
            assert [each.queue_id for each in found] == [records[1].queue_id]
        assert len(await spool.due(LATER, "personal", 2)) == 2
        await spool.close()

    async def test_sums_that_somebody_else_has_spoilt_are_made_anew(self, tmp_path: Path) -> None:
        """A message is moved by hand while the service runs; whoever settles it is answered."""
        spool, records = await self.edited(tmp_path)
        with closing(sqlite3.connect(tmp_path / DATABASE)) as connection, connection:
            connection.execute("UPDATE message SET state = 'hold' WHERE message_id = 1")
        async with asyncio.timeout(60):
            await spool.settle(delivered(records[0]))
        assert "not what we made of it" in (spool.unhealthy_reason() or "")
        await spool.recover()
        assert await self.states(spool) == [("queued", 2, 4)]
        await spool.close()


class TestOwnership:
    async def test_a_second_instance_is_refused(
        self, spool: SqliteSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailshed.spool.sqlite.LOCK_PATIENCE_SECONDS", 0.0)
        second = sqlite_spool(tmp_path / "spool")
        with pytest.raises(SpoolLocked, match=f"process {os.getpid()}"):
            await second.open()
        await second.close()
        await add(spool)

    async def test_the_folder_and_its_files_are_ours_alone(
        self, spool: SqliteSpool, tmp_path: Path
    ) -> None:
        await add(spool)
        folder = tmp_path / "spool"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        expected = {"lock", "condition", DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"}
        assert modes == dict.fromkeys(expected, 0o600)

    async def test_only_one_connection_can_write_or_checkpoint(
        self, spool: SqliteSpool, faults: Faults
    ) -> None:
        """Before 3.51.3, SQLite can corrupt a WAL that two connections checkpoint."""
        record = await add(spool)
        await asyncio.gather(*(spool.due(LATER, "personal", 1) for _ in range(10)))
        assert faults.connections == 1
        assert spool._lookup is not None
        readers = [each.connection for each in spool._lookup._readers]
        assert readers
        assert all(type(reader) is sqlite3.Connection for reader in readers)
        await spool.settle(delivered(record))  # the readers are idle: none has a transaction
        for reader in readers:
            for statement in ("DELETE FROM message", "PRAGMA wal_checkpoint(TRUNCATE)"):
                with pytest.raises(sqlite3.OperationalError):
                    reader.execute(statement).fetchall()

    async def test_closing_leaves_everything_in_one_file_and_no_lock(self, tmp_path: Path) -> None:
        spool = sqlite_spool(tmp_path)
        await spool.open()
        waiting = [start(add(spool)) for _ in range(300)]
        await asyncio.sleep(0)
        await spool.close()
        await asyncio.gather(*waiting)
        assert sorted(os.listdir(tmp_path)) == ["condition", "lock", DATABASE]  # noqa: PTH208
        again = sqlite_spool(tmp_path)
        await again.open()
        assert len(await ids(again)) == 300
        await again.close()

    async def test_can_be_opened_again_after_it_was_closed(self, tmp_path: Path) -> None:
        spool = sqlite_spool(tmp_path)
        for messages in range(1, 4):
            await spool.open()
            await add(spool)
            assert (await spool.totals()).messages == messages
            await spool.close()
            with pytest.raises(SpoolSick, match="closed"):
                await add(spool)

    async def test_a_folder_that_cannot_be_made_is_a_plain_spool_error(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        spool = sqlite_spool(tmp_path / "file" / "spool")
        with pytest.raises(SpoolError) as raised:
            await spool.open()
        assert type(raised.value) is SpoolError


class TestUpkeep:
    async def test_free_pages_are_given_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailshed.spool.writer.IDLE_SECONDS", 0.0)
        spool = sqlite_spool(tmp_path)
        await spool.open()
        records = [await add(spool, bytes(CHUNK_OCTETS)) for _ in range(60)]
        for record in records:
            await spool.settle(delivered(record))
        database = tmp_path / DATABASE
        await asyncio.to_thread(
            wait_until, lambda: database.stat().st_size < 8 * 1024**2, "the file has not shrunk"
        )
        await spool.close()

    async def test_the_wal_does_not_grow_without_bound(self, tmp_path: Path) -> None:
        spool = sqlite_spool(tmp_path)
        await spool.open()
        for _ in range(100):
            await add(spool, bytes(CHUNK_OCTETS))
        assert (tmp_path / f"{DATABASE}-wal").stat().st_size < 16 * 1024**2
        await spool.close()

    async def test_a_reader_that_does_not_end_holds_the_wal_and_no_longer_than_it_reads(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An operator's own sqlite3, say: mail is taken meanwhile, and then the file is cut."""
        limit = 4 * 1024**2
        monkeypatch.setattr("mailshed.spool.schema.JOURNAL_SIZE_LIMIT", limit)
        spool = sqlite_spool(tmp_path)
        await spool.open()
        await add(spool)
        wal = tmp_path / f"{DATABASE}-wal"
        with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM message").fetchone()
            for _ in range(100):
                await add(spool, bytes(CHUNK_OCTETS))
            held = wal.stat().st_size
        assert held > 16 * 1024**2
        messages = 101
        async with asyncio.timeout(60.0):
            while wal.stat().st_size > limit:  # it is begun anew by the first that finds it empty
                await add(spool)
                messages += 1
        assert (await spool.totals()).messages == messages
        await spool.close()

    async def test_removed_content_leaves_no_trace(self, tmp_path: Path) -> None:
        secret = b"a diagnosis that nobody else may read"
        spool = sqlite_spool(tmp_path)
        await spool.open()
        record = await add(spool, secret * 3000)
        await spool.settle(delivered(record))
        await spool.close()
        assert secret not in (tmp_path / DATABASE).read_bytes()


@pytest.fixture(autouse=True)
def _no_leaked_threads() -> Iterator[None]:
    """Each test ends with as many spool threads as it began with."""

    def spool_threads() -> set[str]:
        return {t.name for t in threading.enumerate() if t.name.startswith("spool-")}

    before = spool_threads()
    yield
    assert spool_threads() == before


def _plenty(_: Path) -> int:
    return 1 << 40
