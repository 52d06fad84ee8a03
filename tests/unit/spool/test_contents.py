"""Content is read together, and each message has its own: piece by piece, and its own faults."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from mailshed.errors import SpoolCorrupt, SpoolSick
from mailshed.spool.changes import Changes
from mailshed.spool.contents import TOGETHER_MAX, Contents
from mailshed.spool.digest import begin_digest
from mailshed.spool.jobs import add_message, chunk_key
from mailshed.spool.lookup import Lookup
from mailshed.spool.schema import DATABASE, open_writer
from mailshed.terms import QueueId
from tests.support.builders import spool_record
from tests.support.spools import Faults, joined, sqlite_error

IDS = [QueueId(f"Q{number}") for number in range(1, 2 * TOGETHER_MAX + 2)]
TWO_PIECES = IDS[4]
"""The one whose content has a second piece."""


def content_of(queue_id: QueueId) -> bytes:
    return f"content of {queue_id}".encode()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """What the connections are asked, and their faults."""
    faults = Faults()
    monkeypatch.setattr("mailshed.spool.lookup.open_reader", faults.open_reader)
    return faults


@pytest.fixture
def connection(tmp_path: Path) -> sqlite3.Connection:
    """A spool with all of `IDS`, and one message without content."""
    connection = open_writer(tmp_path / DATABASE)
    changes = Changes()
    for number, queue_id in enumerate(IDS, start=1):
        content = content_of(queue_id)
        record = spool_record(queue_id=queue_id)
        digest = begin_digest(content).digest()
        add_message(changes, number, record, size=len(content), digest=digest)
        is_long = queue_id == TWO_PIECES
        pieces = [content[:3], content[3:]] if is_long else [content]
        for place, piece in enumerate(pieces):
            changes.chunks.append((chunk_key(number, place), piece))
    empty = spool_record(queue_id=QueueId("EMPTY"))
    add_message(changes, len(IDS) + 1, empty, size=0, digest=begin_digest(b"").digest())
    changes.write_rows(connection)
    return connection


@pytest.fixture
async def contents(
    tmp_path: Path, faults: Faults, connection: sqlite3.Connection
) -> AsyncIterator[Contents]:
    with closing(connection):
        lookup = Lookup(tmp_path / DATABASE)
        faults.statements.clear()
        yield Contents(lookup)
        lookup.close()


async def test_what_is_asked_for_at_once_is_read_in_few_steps(
    contents: Contents, faults: Faults
) -> None:
    read = await asyncio.gather(*(joined(contents.read(queue_id)) for queue_id in IDS))
    assert read == [content_of(queue_id) for queue_id in IDS]
    assert faults.count("SELECT queue_id") == 3


async def test_who_asks_later_is_answered_as_well(contents: Contents, faults: Faults) -> None:
    for queue_id in IDS[:3]:
        assert await joined(contents.read(queue_id)) == content_of(queue_id)
    assert faults.count("SELECT queue_id") == 3


async def test_content_of_nothing_is_nothing(contents: Contents) -> None:
    assert [piece async for piece in contents.read(QueueId("EMPTY"))] == []


async def test_an_unknown_message_is_not_there(contents: Contents) -> None:
    known, unknown = await asyncio.gather(
        joined(contents.read(IDS[0])),
        joined(contents.read(QueueId("UNKNOWN"))),
        return_exceptions=True,
    )
    assert known == content_of(IDS[0])
    assert isinstance(unknown, SpoolCorrupt)
    assert "not in the spool" in str(unknown)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("UPDATE chunk SET octets = CAST('X' AS BLOB) || substr(octets, 2)", "checksum"),
        ("UPDATE chunk SET octets = octets || octets", "missing"),
        ("DELETE FROM chunk", "missing"),
        ("UPDATE message SET digest = x'00'", "checksum"),
    ],
)
async def test_what_is_wrong_with_one_message_concerns_no_other(
    contents: Contents, connection: sqlite3.Connection, change: str, complaint: str
) -> None:
    key, number = ("chunk_id", 1 << 16) if "chunk" in change else ("message_id", 1)
    connection.execute(f"{change} WHERE {key} = {number}")
    wrong, right = await asyncio.gather(
        joined(contents.read(IDS[0])), joined(contents.read(IDS[1])), return_exceptions=True
    )
    assert isinstance(wrong, SpoolCorrupt)
    assert complaint in str(wrong)
    assert right == content_of(IDS[1])


async def test_a_later_piece_that_is_missing_is_noticed(
    contents: Contents, connection: sqlite3.Connection
) -> None:
    connection.execute("DELETE FROM chunk WHERE chunk_id = ?", (chunk_key(5, 1),))
    pieces = contents.read(TWO_PIECES)
    assert await anext(pieces) == content_of(TWO_PIECES)[:3]
    with pytest.raises(SpoolCorrupt, match="missing"):
        await anext(pieces)


async def test_a_step_that_fails_is_repeated_for_each_alone(
    contents: Contents, faults: Faults
) -> None:
    """Each of them is tried once more by itself; so three failures spoil the step, not more."""
    for _ in range(3):
        faults.fail("SELECT queue_id", sqlite_error(sqlite3.SQLITE_CORRUPT))
    read = await asyncio.gather(
        *(joined(contents.read(queue_id)) for queue_id in IDS[:3]), return_exceptions=True
    )
    assert read == [content_of(queue_id) for queue_id in IDS[:3]]


async def test_a_message_that_cannot_be_read_says_so(contents: Contents, faults: Faults) -> None:
    for _ in range(4):
        faults.fail("SELECT queue_id", sqlite_error(sqlite3.SQLITE_CORRUPT))
    with pytest.raises(sqlite3.OperationalError):
        await joined(contents.read(IDS[0]))
    assert await joined(contents.read(IDS[0])) == content_of(IDS[0])


async def test_who_gives_up_is_left_out_and_others_are_not(
    contents: Contents, faults: Faults
) -> None:
    for company in (IDS[1:3], []):
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(joined(contents.read(each))) for each in company]
            gone = group.create_task(joined(contents.read(IDS[0])))
            await asyncio.sleep(0)  # it has asked
            gone.cancel()
        assert gone.cancelled()
        assert [each.result() for each in others] == [content_of(each) for each in company]
    assert await joined(contents.read(IDS[4])) == content_of(IDS[4])


async def test_a_closed_spool_says_so_to_all(tmp_path: Path, faults: Faults) -> None:
    with closing(open_writer(tmp_path / DATABASE)):
        lookup = Lookup(tmp_path / DATABASE)
        lookup.close()
        contents = Contents(lookup)
        refused = await asyncio.gather(
            *(joined(contents.read(each)) for each in IDS), return_exceptions=True
        )
    assert {type(each) for each in refused} == {SpoolSick}
