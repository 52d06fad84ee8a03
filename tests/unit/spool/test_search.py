"""What a filter finds, against a plain reading of it, and by which index."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.spool import search
from mailshed.spool.filter import EVERYTHING, QueueFilter, parse_filter
from mailshed.spool.schema import DATABASE
from mailshed.spool.search import count, find
from mailshed.spool.store import SpoolRecipient, SpoolRecord
from mailshed.terms import SpoolState
from tests.support.builders import BULK, CLINICAL, WALL, spool_record
from tests.support.spools import pieces, sqlite_spool

NOW = WALL + 1000.0
SENDERS = (b"", b"news@example.org", b"News@Sub.Example.ORG", b'"x@example.org"@other.example')
RECIPIENTS = (
    (b"bob@hospital.example",),
    (b"Postmaster",),
    (b"carol@x.hospital.example", b"BOB@HOSPITAL.EXAMPLE"),
)


def records() -> list[SpoolRecord]:
    """One for each combination, ten seconds apart; every fifth is held."""
    made = []
    for number, (names, sender, recipients) in enumerate(
        product((CLINICAL, BULK), SENDERS, RECIPIENTS)
    ):
        state = SpoolState.HOLD if number % 5 == 0 else SpoolState.QUEUED
        made.append(
            spool_record(
                names=names,
                reverse_path=sender,
                recipients=tuple(
                    SpoolRecipient(index=index, address=address, state=state)
                    for index, address in enumerate(recipients)
                ),
                received_wall=NOW - 10.0 * number,
                backend="exch" if number % 3 else "north",
            )
        )
    return made


STORED = records()


async def _store(path: Path) -> None:
    spool = sqlite_spool(path)
    await spool.open()
    for record in STORED:
        await spool.add(record, pieces(b"12345"))
    await spool.close()


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("spool")
    asyncio.run(_store(path))
    with closing(sqlite3.connect(path / DATABASE)) as opened:
        yield opened


def matches_address(patterns: Sequence[str], addresses: Sequence[bytes]) -> bool:
    """The grammar of addresses once more, by taking them apart."""

    def matches(pattern: str, address: str) -> bool:
        local, at, domain = address.lower().rpartition("@")
        if pattern == "<>":
            return not address
        if pattern.startswith("@."):
            return bool(at) and domain.endswith(pattern[1:])
        if pattern.startswith("@"):
            return bool(at) and domain == pattern[1:]
        return f"{local}{at}{domain}" == pattern

    return any(matches(each, address.decode()) for each in patterns for address in addresses)


def expected(wanted: QueueFilter) -> list[str]:
    """Queue ids of what matches, oldest first."""
    found = [
        record
        for record in STORED
        if (not wanted.classes or record.traffic_class in wanted.classes)
        and (not wanted.states or record.recipients[0].state in wanted.states)
        and (not wanted.senders or matches_address(wanted.senders, [record.reverse_path]))
        and (
            not wanted.recipients
            or matches_address(wanted.recipients, [each.address for each in record.recipients])
        )
        and (not wanted.backends or record.backend in wanted.backends)
        and (wanted.older_than is None or NOW - record.received_wall >= wanted.older_than)
        and (wanted.younger_than is None or NOW - record.received_wall < wanted.younger_than)
        and (not wanted.ids or record.queue_id in wanted.ids)
    ]
    return [record.queue_id for record in sorted(found, key=lambda each: each.received_wall)]


def found(connection: sqlite3.Connection, wanted: QueueFilter, limit: int = 100) -> list[str]:
    return [queue_id for _, _, queue_id in find(connection, wanted, limit, NOW)]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ({}, 24),
        ({"class": ["bulk"]}, 12),
        ({"class": ["telework"]}, 0),
        ({"state": ["hold"]}, 5),
        ({"from": ["<>"]}, 6),
        ({"from": ["@example.org"]}, 6),
        ({"from": ["@.example.org"]}, 6),
        ({"from": ["@example.org", "@.example.org"]}, 12),
        ({"from": ["NEWS@example.org"]}, 6),
        ({"from": ["ews@example.org"]}, 0),
        ({"from": ["@xample.org"]}, 0),
        ({"rcpt": ["bob@hospital.example"]}, 16),
        ({"rcpt": ["@.hospital.example"]}, 8),
        ({"rcpt": ["postmaster"]}, 8),
        ({"rcpt": ["@.example"]}, 16),
        ({"backend": ["north"]}, 8),
        ({"backend": ["north", "exch"], "class": ["bulk"]}, 12),
        ({"backend": ["nort"]}, 0),
        ({"older-than": ["230s"]}, 1),
        ({"younger-than": ["10s"]}, 1),
        ({"older-than": ["10s"], "younger-than": ["30s"]}, 2),
        ({"class": ["bulk"], "from": ["<>"], "rcpt": ["postmaster"]}, 1),
        ({"id": [STORED[3].queue_id, STORED[20].queue_id, "0"]}, 2),
        ({"id": [STORED[3].queue_id, STORED[20].queue_id], "class": ["bulk"]}, 1),
    ],
)
def test_finds_what_was_meant(
    connection: sqlite3.Connection, text: dict[str, list[str]], number: int
) -> None:
    wanted = parse_filter(text)

    assert found(connection, wanted) == expected(wanted)
    assert len(found(connection, wanted)) == number


_PATTERNS = st.sampled_from(
    [
        *("<>", "news@example.org", "@example.org", "@.example.org", "@sub.example.org"),
        *("@other.example", "@.example", "@example", "postmaster", "bob@hospital.example"),
    ]
)
_SOME = st.lists(_PATTERNS, max_size=2).map(tuple)
_AGES = st.one_of(st.none(), st.sampled_from([0.0, 10.0, 55.0, 120.0]))


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        QueueFilter,
        classes=st.lists(st.sampled_from(["bulk", "clinical"]), unique=True).map(tuple),
        states=st.lists(st.sampled_from(SpoolState), unique=True, max_size=2).map(tuple),
        senders=_SOME,
        recipients=_SOME,
        older_than=_AGES,
        younger_than=_AGES,
        ids=st.lists(
            st.sampled_from([record.queue_id for record in STORED]), unique=True, max_size=3
        ).map(tuple),
    )
)
def test_conditions_combine_as_they_read(
    connection: sqlite3.Connection, wanted: QueueFilter
) -> None:
    ids = expected(wanted)

    assert found(connection, wanted) == ids
    assert found(connection, wanted, limit=2) == ids[:2]
    assert sum(row[2] for row in count(connection, wanted, NOW)) == len(ids)


def test_counts_messages_recipients_and_octets(connection: sqlite3.Connection) -> None:
    rows = {row[:2]: row[2:] for row in count(connection, QueueFilter(classes=("bulk",)), NOW)}

    assert rows == {
        ("bulk", "hold"): (2, 3, 10, STORED[20].received_wall),
        ("bulk", "queued"): (10, 13, 50, STORED[23].received_wall),
    }
    assert sum(row[2] for row in count(connection, EVERYTHING, NOW)) == len(STORED)


@pytest.mark.parametrize(
    "wanted",
    [
        EVERYTHING,
        QueueFilter(classes=("bulk", "unknown")),
        QueueFilter(states=(SpoolState.HOLD, SpoolState.CORRUPT)),
        QueueFilter(classes=("clinical",), states=(SpoolState.QUEUED,)),
    ],
)
def test_what_is_known_is_what_a_count_would_find(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, wanted: QueueFilter
) -> None:
    known = count(connection, wanted, NOW)
    monkeypatch.setattr(search, "SUMS_KEPT", search.SUMS_OF_STRETCH)
    assert known == count(connection, wanted, NOW) != []


def test_how_much_there_is_is_not_counted(connection: sqlite3.Connection) -> None:
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    count(connection, QueueFilter(classes=("bulk",)), NOW)
    count(connection, QueueFilter(classes=("bulk",), backends=("exch",)), NOW)
    connection.set_trace_callback(None)
    counting = ["count(*)" in each for each in statements if "FROM message" in each]
    assert counting == [False] * 4 + [True] * 4


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (
            search.KEYS_OF_STRETCH,
            "message_oldest (traffic_class=? AND state=? AND received>? AND received<?)",
        ),
        (
            search.SUMS_OF_STRETCH,
            "message_oldest (traffic_class=? AND state=? AND received>? AND received<?)",
        ),
        (search.SUMS_KEPT, "message_oldest (traffic_class=? AND state=?)"),
        (search.KEYS_OF_NAMED, "sqlite_autoindex_message_1 (queue_id=?)"),
        (search.SUMS_OF_NAMED, "sqlite_autoindex_message_1 (queue_id=?)"),
    ],
)
def test_no_query_reads_more_than_its_stretch(
    connection: sqlite3.Connection, statement: str, index: str
) -> None:
    parameters: dict[str, object] = dict.fromkeys(
        ("class", "state", "classes", "states", "senders", "recipients", "backends", "ids"), None
    )
    parameters |= {"after": 0.0, "before": 0.0, "limit": 1}
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]

    assert any(
        step.startswith("SEARCH message USING") and step.endswith(f"INDEX {index}") for step in plan
    ), plan
    assert not any(step.startswith("SCAN message") for step in plan), plan


def test_a_filter_is_never_part_of_a_statement(connection: sqlite3.Connection) -> None:
    """Quotes and percent signs are legal in an address and mean nothing here."""
    assert found(connection, parse_filter({"from": ["'or'1'='1@example.org"]})) == []
    assert found(connection, parse_filter({"from": ["%@example.org"]})) == []
    assert found(connection, QueueFilter(classes=("x' OR 1=1 --",))) == []
