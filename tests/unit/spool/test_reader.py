"""The queue as the command line reads it, with and without a daemon."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailshed.errors import SpoolError
from mailshed.spool import reader
from mailshed.spool.filter import EVERYTHING, QueueFilter, parse_filter
from mailshed.spool.lock import SpoolLock
from mailshed.spool.reader import count_messages, find_ids, list_messages, show_messages
from mailshed.spool.schema import DATABASE
from mailshed.spool.store import Settlement, SpoolRecipient
from mailshed.terms import Ending, QueueId, SpoolState
from tests.support.builders import BULK, WALL, spool_record
from tests.support.spools import pieces, sqlite_spool

ROOT = Path(__file__).parents[3]
PERSONAL_ONLY = QueueFilter(classes=("personal",))
CHILD = """
import asyncio, os, sys
from pathlib import Path
from tests.support.builders import spool_record
from tests.support.spools import pieces, sqlite_spool

async def main():
    spool = sqlite_spool(Path(sys.argv[1]))
    await spool.open()
    for _ in range(5):
        await spool.add(spool_record(), pieces(b"x"))
    os._exit(9)

asyncio.run(main())
"""


async def fill(path: Path) -> list[QueueId]:
    """Four messages in three rows of the count; returns queue ids, oldest first."""
    spool = sqlite_spool(path)
    await spool.open()
    records = [
        spool_record(names=BULK, received_wall=WALL + 3),
        spool_record(received_wall=WALL + 1),
        spool_record("a@example.net", "b@example.net", received_wall=WALL + 2),
        spool_record(received_wall=WALL + 4),
    ]
    for record in records:
        await spool.add(record, pieces(b"12345"))
    await spool.settle(
        Settlement(
            queue_id=records[2].queue_id,
            endings={0: Ending.DELIVERED},
            deferred={1: "450 4.2.0 busy"},
            attempts=1,
            next_attempt_wall=WALL + 60,
        )
    )
    await spool.settle(
        Settlement(
            queue_id=records[3].queue_id,
            deferred={0: ""},
            state=SpoolState.HOLD,
            attempts=2,
            next_attempt_wall=WALL,
        )
    )
    await spool.close()
    ordered = sorted(records, key=lambda record: record.received_wall)
    return [record.queue_id for record in ordered]


async def test_lists_the_oldest_first_of_all_classes_or_one(tmp_path: Path) -> None:
    ids = await fill(tmp_path)
    assert [row["queue_id"] for row in list_messages(tmp_path, EVERYTHING, 10)] == ids
    assert [row["queue_id"] for row in list_messages(tmp_path, EVERYTHING, 2)] == ids[:2]
    personal = [row["queue_id"] for row in list_messages(tmp_path, PERSONAL_ONLY, 10)]
    assert personal == [ids[0], ids[1], ids[3]]
    assert list_messages(tmp_path, QueueFilter(classes=("unknown",)), 10) == []


async def test_shows_what_an_operator_asks_for(tmp_path: Path) -> None:
    ids = await fill(tmp_path)
    assert list_messages(tmp_path, EVERYTHING, 10, wall=WALL + 12)[1] == {
        "queue_id": ids[1],
        "class": "personal",
        "state": "deferred",
        "received": "2023-11-14T22:13:22Z",
        "received_epoch": WALL + 2,
        "age_seconds": 10.0,
        "size": 5,
        "attempts": 1,
        "next_attempt": "2023-11-14T22:14:20Z",
        "reason": "saturated",
        "sender": "alice@example.org",
        "recipients": [
            {"address": "b@example.net", "state": "deferred", "last_reply": "450 4.2.0 busy"}
        ],
    }


async def test_counts_by_class_and_state(tmp_path: Path) -> None:
    await fill(tmp_path)
    rows = {(row["class"], row["state"]): row for row in count_messages(tmp_path, wall=WALL + 10)}
    assert sorted(rows) == [
        ("bulk", "queued"),
        ("personal", "deferred"),
        ("personal", "hold"),
        ("personal", "queued"),
    ]
    assert rows["bulk", "queued"] == {
        "class": "bulk",
        "state": "queued",
        "messages": 1,
        "recipients": 1,
        "octets": 5,
        "oldest_epoch": WALL + 3,
        "oldest_age_seconds": 7.0,
    }


async def test_finds_and_counts_what_a_filter_means(tmp_path: Path) -> None:
    ids = await fill(tmp_path)
    held = QueueFilter(states=(SpoolState.HOLD,))
    young = QueueFilter(younger_than=10.0)
    assert find_ids(tmp_path, EVERYTHING, 10) == ids
    assert find_ids(tmp_path, EVERYTHING, 2) == ids[:2]
    assert find_ids(tmp_path, held, 10) == [ids[3]]
    assert find_ids(tmp_path, young, 10, wall=WALL + 13) == [ids[3]]
    assert find_ids(tmp_path, young, 10, wall=WALL + 14) == []
    (counted,) = count_messages(tmp_path, held)
    assert (counted["class"], counted["state"], counted["messages"]) == ("personal", "hold", 1)
    assert count_messages(tmp_path, QueueFilter(recipients=("@nowhere.example",))) == []


async def test_addresses_of_other_scripts_are_shown_and_found(tmp_path: Path) -> None:
    spool = sqlite_spool(tmp_path)
    await spool.open()
    record = spool_record(reverse_path="Jürgen@bücher.example".encode(), parameters=(b"SMTPUTF8",))
    recipient = replace(
        record.recipients[0],
        address="用户@example.net".encode(),
        parameters=("ORCPT=utf-8;用户@example.net".encode(),),
    )
    await spool.add(replace(record, recipients=(recipient,)), pieces(b"12345"))
    await spool.close()
    shown: Any = show_messages(tmp_path, [record.queue_id])[0]
    assert (shown["sender"], shown["recipients"][0]["address"]) == (
        "Jürgen@bücher.example",
        "用户@example.net",
    )
    assert shown["recipients"][0]["parameters"] == ["ORCPT=utf-8;用户@example.net"]
    for text in ("jürgen@bücher.example", "@bücher.example"):
        wanted = parse_filter({"from": [text]})
        assert find_ids(tmp_path, wanted, 10) == [record.queue_id]
    assert find_ids(tmp_path, parse_filter({"rcpt": ["用户@example.net"]}), 10) == [record.queue_id]
    assert find_ids(tmp_path, parse_filter({"rcpt": ["用@example.net"]}), 10) == []


async def test_shows_the_whole_envelope(tmp_path: Path) -> None:
    spool = sqlite_spool(tmp_path)
    await spool.open()
    record = spool_record(
        parameters=(b"SIZE=100", b"BODY=8BITMIME"),
        recipients=(
            SpoolRecipient(index=0, address=b"a@example.net", parameters=(b"NOTIFY=NEVER",)),
            SpoolRecipient(index=1, address=b"b@example.net"),
        ),
        in_doubt=1,
        is_trusted=False,
        backend="exch",
    )
    await spool.add(record, pieces(b"Subject: secret\r\nX-A: b\r\n\r\nHello.\r\n"))
    await spool.close()
    (shown,) = show_messages(tmp_path, [QueueId("NOTTHERE"), record.queue_id], wall=WALL + 5)
    (listed,) = list_messages(tmp_path, EVERYTHING, 1, wall=WALL + 5)
    assert {name: shown[name] for name in listed if name != "recipients"} == {
        name: listed[name] for name in listed if name != "recipients"
    }
    assert shown["recipients"] == [
        {
            "address": "a@example.net",
            "state": "queued",
            "last_reply": "",
            "parameters": ["NOTIFY=NEVER"],
        },
        {"address": "b@example.net", "state": "queued", "last_reply": "", "parameters": []},
    ]
    assert {name: shown[name] for name in shown.keys() - listed.keys()} == {
        "parameters": ["SIZE=100", "BODY=8BITMIME"],
        "expires": "2023-11-18T22:13:20Z",
        "expires_epoch": WALL + 4 * 86400,
        "client": "192.0.2.1",
        "helo": "client.example.org",
        "is_trusted": False,
        "is_generated": False,
        "in_doubt": 1,
        "backend": "exch",
    }
    (with_headers,) = show_messages(tmp_path, [record.queue_id], with_headers=True)
    assert with_headers["headers"] == [
        {"name": "subject", "value": "(6 characters)"},
        {"name": "x-a", "value": "(1 character)"},
    ]
    assert show_messages(tmp_path, []) == []


async def test_a_message_without_its_content_is_shown_without_headers(tmp_path: Path) -> None:
    ids = await fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("DELETE FROM chunk")
        connection.commit()
    (shown,) = show_messages(tmp_path, ids[:1], with_headers=True)
    assert shown["headers"] == []


async def test_a_question_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that does not end keeps the writer from emptying its log."""
    await fill(tmp_path)
    monkeypatch.setattr(reader, "QUERY_SECONDS_MAX", 0.0)
    monkeypatch.setattr(reader, "_STEPS", 1)
    with pytest.raises(SpoolError, match="takes longer than 0 s; name a class"):
        list_messages(tmp_path, EVERYTHING, 10)


async def test_reads_beside_a_daemon(tmp_path: Path) -> None:
    spool = sqlite_spool(tmp_path)
    await spool.open()
    await spool.add(spool_record(), pieces(b"x"))
    assert len(list_messages(tmp_path, EVERYTHING, 10)) == 1
    await spool.add(spool_record(), pieces(b"x"))
    assert count_messages(tmp_path)[0]["messages"] == 2
    await spool.close()


async def test_reads_the_log_that_a_killed_daemon_left(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    child = await asyncio.to_thread(subprocess.run, command, check=False, cwd=ROOT)
    assert child.returncode == 9
    assert (tmp_path / f"{DATABASE}-wal").stat().st_size > 0
    assert count_messages(tmp_path)[0]["messages"] == 5
    assert len(list_messages(tmp_path, EVERYTHING, 10)) == 5
    spool = sqlite_spool(tmp_path)
    await spool.open()
    assert (await spool.totals()).messages == 5
    await spool.close()


async def test_gives_the_lock_back(tmp_path: Path) -> None:
    await fill(tmp_path)
    list_messages(tmp_path, EVERYTHING, 10)
    lock = SpoolLock(tmp_path)
    lock.acquire()
    lock.release()


@pytest.mark.parametrize("read", [count_messages, lambda path: list_messages(path, EVERYTHING, 1)])
def test_says_that_there_is_no_spool(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(SpoolError, match="there is no spool"):
        read(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_says_that_it_is_not_a_spool(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"no database" * 1000)
    with pytest.raises(SpoolError, match="cannot read"):
        count_messages(tmp_path)


def test_starts_fast() -> None:
    """The command line imports it; nothing heavy may come along."""
    code = (
        "import sys, mailshed.spool.reader;"
        "heavy = {'asyncio', 'pydantic', 'aiohttp', 'email', 'yaml'} & set(sys.modules);"
        "sys.exit(','.join(heavy) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
