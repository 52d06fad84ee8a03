"""What the writer does between commits and how it survives; the rest through the whole store."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue

import pytest

from mailshed.errors import SpoolError, SpoolSick
from mailshed.spool.database import Database
from mailshed.spool.marks import MARK_PRIORITY, Quarantine
from mailshed.spool.recovery import Opened
from mailshed.spool.schema import DATABASE, open_writer, pragma
from mailshed.spool.writer import Outcome, Writer
from mailshed.terms import QueueId
from tests.support.spools import Faults, io_error

SECONDS = 60.0


def test_free_pages_are_given_back_so_many_at_a_time(tmp_path: Path) -> None:
    """Python's execute() would stop after the first page."""
    with closing(open_writer(tmp_path / DATABASE)) as connection:
        connection.execute("INSERT INTO chunk VALUES (1, zeroblob(4096 * 200))")
        connection.execute("DELETE FROM chunk")
        writer = Writer(Database(tmp_path / DATABASE), lambda _: None)
        writer._connection = connection
        before = int(pragma(connection, "freelist_count"))
        writer._vacuum(50)
        assert pragma(connection, "freelist_count") == before - 50


def _answer_of(order: Callable[[Callable[[Opened | SpoolError], None]], None]) -> object:
    answers: SimpleQueue[Opened | SpoolError] = SimpleQueue()
    order(answers.put)
    return answers.get(timeout=SECONDS)


@pytest.mark.parametrize("error", [ValueError("odd"), io_error(), MemoryError()])
def test_an_order_is_answered_whatever_the_database_does(tmp_path: Path, error: Exception) -> None:
    faults = Faults()
    outcomes: SimpleQueue[Outcome] = SimpleQueue()
    writer = Writer(Database(tmp_path / DATABASE, faults.factory(), lambda: 0.0), outcomes.put)
    writer.start()
    faults.fail("SELECT traffic_class, state", error)
    assert isinstance(_answer_of(writer.open), SpoolSick)
    assert isinstance(_answer_of(writer.open), Opened)
    assert isinstance(_answer_of(writer.stop), SpoolError)
    writer.join()


def test_an_answer_that_cannot_be_given_does_not_end_the_thread(tmp_path: Path) -> None:
    """What nobody foresaw is reported, and the next order is obeyed."""
    outcomes: SimpleQueue[Outcome] = SimpleQueue()
    writer = Writer(Database(tmp_path / DATABASE), outcomes.put)
    writer.start()

    def fail(_: object) -> None:
        raise RuntimeError("nobody is there")

    writer.open(fail)
    assert "nobody is there" in str(outcomes.get(timeout=SECONDS).sick)
    assert isinstance(_answer_of(writer.open), Opened)
    writer.stop(fail)
    writer.join()


async def test_a_job_whose_outcome_cannot_be_delivered_is_refused(tmp_path: Path) -> None:
    """The thread goes on, and says of the job what it says of all whose fate is unknown."""
    outcomes: SimpleQueue[Outcome] = SimpleQueue()
    failures = [RuntimeError("nobody is there")]

    def deliver(outcome: Outcome) -> None:
        if failures:
            raise failures.pop()
        outcomes.put(outcome)

    writer = Writer(Database(tmp_path / DATABASE), deliver)
    writer.start()
    assert isinstance(_answer_of(writer.open), Opened)
    done = asyncio.get_running_loop().create_future()
    job = Quarantine(done=done, priority=MARK_PRIORITY, queue_id=QueueId("UNKNOWN"))
    writer.submit(job)
    outcome = outcomes.get(timeout=SECONDS)
    assert "nobody is there" in str(outcome.sick)
    assert [(each, type(error)) for each, error in outcome.failed] == [(job, SpoolSick)]
    assert isinstance(_answer_of(writer.open), Opened)
    assert isinstance(_answer_of(writer.stop), SpoolError)
    writer.join()


async def test_a_delivery_that_always_fails_does_not_end_the_thread(tmp_path: Path) -> None:
    calls: SimpleQueue[Outcome] = SimpleQueue()

    def fail(outcome: Outcome) -> None:
        calls.put(outcome)
        raise RuntimeError("nobody is there")

    writer = Writer(Database(tmp_path / DATABASE), fail)
    writer.start()
    assert isinstance(_answer_of(writer.open), Opened)
    done = asyncio.get_running_loop().create_future()
    writer.submit(Quarantine(done=done, priority=MARK_PRIORITY, queue_id=QueueId("UNKNOWN")))
    assert calls.get(timeout=SECONDS).sick is None
    assert calls.get(timeout=SECONDS).sick is not None
    assert isinstance(_answer_of(writer.open), Opened)
    assert isinstance(_answer_of(writer.stop), SpoolError)
    writer.join()


async def test_a_sick_writer_says_so_each_time_it_is_asked(tmp_path: Path) -> None:
    """Whoever missed that it fell sick would otherwise never ask it to recover."""
    outcomes: SimpleQueue[Outcome] = SimpleQueue()
    writer = Writer(Database(tmp_path / DATABASE), outcomes.put)
    writer.start()
    done = asyncio.get_running_loop().create_future()
    for _ in range(2):
        writer.submit(Quarantine(done=done, priority=MARK_PRIORITY, queue_id=QueueId("UNKNOWN")))
        assert outcomes.get(timeout=SECONDS).sick == writer.unhealthy_reason() == "not open"
    assert isinstance(_answer_of(writer.stop), SpoolError)
    writer.join()


def test_a_stop_breaks_off_a_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads a file that never ends, and the stop comes meanwhile."""
    monkeypatch.setattr("mailshed.spool.database.READ_OCTETS", 1)
    with (tmp_path / DATABASE).open("wb") as file:
        file.truncate(1 << 40)
    writer = Writer(Database(tmp_path / DATABASE), lambda _: None)
    writer.start()
    answers: SimpleQueue[object] = SimpleQueue()
    writer.open(answers.put)
    writer.stop(answers.put)
    assert "closed before" in str(answers.get(timeout=SECONDS))
    writer.join()
