"""Whatever stands in a message's envelope, or in a filter, is a value to the spool and no SQL.

Each text of a record is made of what has broken out of statements elsewhere. It comes back as it
was, other messages stay as they are, and the schema is the one it was. A filter with the same in
it finds what it names, and nothing else.
"""

import asyncio
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mailshed.errors import RequestError
from mailshed.spool.filter import EVERYTHING, QueueFilter, parse_filter
from mailshed.spool.reader import count_messages, find_ids, list_messages, show_messages
from mailshed.spool.schema import DATABASE
from mailshed.spool.sqlite import SqliteSpool
from mailshed.spool.store import Settlement, SpoolRecipient, SpoolRecord
from mailshed.terms import Ending
from tests.support.builders import spool_record
from tests.support.intensity import tried
from tests.support.spools import joined, pieces, sqlite_spool

PIECES = [
    *(
        "'",
        '"',
        "`",
        ";",
        "--",
        "/*",
        "*/",
        "\\",
        "\\'",
        "''",
        "%",
        "_",
        "*",
        "?",
        "[",
        "]",
        "(",
        ")",
    ),
    *("'); DROP TABLE message; --", "' OR '1'='1", '" OR ""="', "1; DELETE FROM recipient", "\x00"),
    *(
        "' UNION SELECT * FROM sqlite_master --",
        ":state",
        "?1",
        "@id",
        "$x",
        "\x1a",
        "{}",
        "%s",
        "\u02bc",
    ),
    *(
        "'||(SELECT 1)||'",
        "); ATTACH DATABASE '/tmp/x' AS y; --",
        "\r\n",
        "\ufeff",
        "NULL",
        "0x27",
        "x",
    ),
]
HOSTILE = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join)
NO_NUL = HOSTILE.map(lambda text: text.replace("\x00", ""))
OCTETS = HOSTILE.map(str.encode)
CONTENT = b"Subject: '); DROP TABLE content; --\r\n\r\n'\r\n"


def schema(folder: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


RECORDS = st.builds(
    lambda words, paths: spool_record(
        reverse_path=paths[0],
        parameters=(b"".join(paths[1].split()) + b"x", b"ENVID='"),
        recipients=(
            SpoolRecipient(index=0, address=paths[2]),
            SpoolRecipient(index=1, address=paths[3]),
        ),
        client_address=words[0],
        helo=words[1],
        backend=words[2],
        login=words[3],
        traffic_class=words[4],
    ),
    st.lists(NO_NUL, min_size=5, max_size=5),
    st.lists(OCTETS, min_size=4, max_size=4),
)


async def _comes_back(spool: SqliteSpool, record: SpoolRecord, reply: str) -> None:
    witness = spool_record()
    await spool.add(witness, pieces(CONTENT))
    await spool.add(record, pieces(CONTENT))
    expected = replace(record, size=len(CONTENT))
    (found,) = await spool.due(
        record.next_attempt_wall, record.traffic_class, 10, backend=record.backend
    )
    assert found == expected
    assert await joined(spool.content(record.queue_id)) == CONTENT
    await spool.settle(
        Settlement(
            queue_id=record.queue_id,
            endings={0: Ending.DELIVERED},
            deferred={1: reply},
            attempts=1,
            next_attempt_wall=record.next_attempt_wall,
        )
    )
    (left,) = await spool.due(
        record.next_attempt_wall, record.traffic_class, 10, backend=record.backend
    )
    (recipient,) = left.recipients
    assert (recipient.address, recipient.last_reply) == (record.recipients[1].address, reply)
    (untouched,) = await spool.due(witness.next_attempt_wall, witness.traffic_class, 10)
    assert untouched.recipients == witness.recipients
    for each, indexes in ((record, [1]), (witness, [0])):
        endings = dict.fromkeys(indexes, Ending.DELIVERED)
        await spool.settle(
            Settlement(queue_id=each.queue_id, endings=endings, attempts=2, next_attempt_wall=0.0)
        )


def test_whatever_a_record_holds_it_comes_back_and_touches_nothing_else(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        spool = sqlite_spool(tmp_path)
        runner.run(spool.open())
        before = schema(tmp_path)

        @tried(60)
        @given(RECORDS, NO_NUL)
        def it_comes_back(record: SpoolRecord, reply: str) -> None:
            runner.run(_comes_back(spool, record, reply))

        it_comes_back()
        assert schema(tmp_path) == before
        runner.run(spool.close())
        assert list_messages(tmp_path, EVERYTHING, 10) == []


def test_whatever_a_filter_names_it_finds_that_alone(tmp_path: Path) -> None:
    async def fill() -> None:
        spool = sqlite_spool(tmp_path)
        await spool.open()
        for _ in range(3):
            await spool.add(spool_record(), pieces(CONTENT))
        await spool.close()

    asyncio.run(fill())
    before = schema(tmp_path)

    @tried(50)
    @given(HOSTILE)
    def it_finds_nothing(text: str) -> None:
        for wanted in (
            QueueFilter(classes=(text,)),
            QueueFilter(senders=(text,)),
            QueueFilter(recipients=(text, f"@{text}")),
            QueueFilter(backends=(f"'{text}",)),
        ):
            assert list_messages(tmp_path, wanted, 10) == []
            assert count_messages(tmp_path, wanted) == []
            assert find_ids(tmp_path, wanted, 10) == []
        for name in ("class", "from", "rcpt", "backend", "id", "state", text):
            with suppress(RequestError):
                found = list_messages(tmp_path, parse_filter({name: [text]}), 10)
                assert found == []

    it_finds_nothing()
    assert schema(tmp_path) == before
    assert len(show_messages(tmp_path, find_ids(tmp_path, EVERYTHING, 10), with_headers=True)) == 3
