"""What is stored is what was given: records to rows and back."""

import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.spool.rows import (
    is_damage,
    is_full,
    is_refused_write,
    liveliest,
    message_values,
    printable,
    recipient_values,
    records_from,
)
from mailshed.spool.store import SpoolRecipient, SpoolRecord
from mailshed.terms import QueueId, Reason, SpoolState
from tests.support.spools import full_error, io_error, sqlite_error

_parameters = st.lists(
    st.binary(min_size=1, max_size=20).filter(lambda each: each.split() == [each]), max_size=3
).map(tuple)
_instants = st.floats(0, 4e9)
_recipients = st.builds(
    SpoolRecipient,
    index=st.integers(0, 1000),
    address=st.binary(max_size=30),
    parameters=_parameters,
    state=st.sampled_from(SpoolState),
    last_reply=st.text(st.characters(codec="utf-8"), max_size=20),
)
_records = st.builds(
    SpoolRecord,
    queue_id=st.text("ABC123", min_size=1, max_size=16).map(QueueId),
    traffic_class=st.sampled_from(["clinical", "bulk"]),
    rank=st.integers(0, 9),
    reverse_path=st.binary(max_size=30),
    parameters=_parameters,
    recipients=st.lists(_recipients, min_size=1, max_size=4, unique_by=lambda each: each.index).map(
        lambda found: tuple(sorted(found, key=lambda each: each.index))
    ),
    size=st.integers(0, 1 << 34),
    received_wall=_instants,
    expires_wall=_instants,
    next_attempt_wall=_instants,
    attempts=st.integers(0, 1000),
    reason=st.sampled_from(Reason),
    client_address=st.just("2001:db8::1"),
    helo=st.text(st.characters(codec="utf-8"), max_size=20),
    is_trusted=st.booleans(),
    is_generated=st.booleans(),
    in_doubt=st.integers(0, 3),
    report_wall=st.none() | _instants,
    backend=st.sampled_from(["", "mail"]),
    login=st.text(st.characters(codec="utf-8"), max_size=20),
)


@given(_records)
def test_a_record_survives_the_round_trip(record: SpoolRecord) -> None:
    values = message_values(7, record, record.size, b"digest")
    by_name = dict(zip(_COLUMNS, values, strict=True))
    selected = tuple(by_name[name] for name in _SELECTED)
    recipients = [recipient_values(7, recipient) for recipient in record.recipients]
    assert records_from([selected], recipients) == [record]  # type: ignore[list-item, arg-type]


def test_records_keep_the_order_of_their_rows_and_their_own_recipients() -> None:
    def row(message_id: int) -> tuple[object, ...]:
        record = replace(_RECORD, queue_id=QueueId(f"Q{message_id}"))
        by_name = dict(zip(_COLUMNS, message_values(message_id, record, 0, b""), strict=True))
        return tuple(by_name[name] for name in _SELECTED)

    recipients = [(1, 0, b"a@x", b"", "queued", ""), (2, 0, b"b@x", b"", "queued", "")]
    found = records_from([row(2), row(1)], recipients)  # type: ignore[list-item]
    assert [(each.queue_id, each.recipients[0].address) for each in found] == [
        ("Q2", b"b@x"),
        ("Q1", b"a@x"),
    ]


_RECORD = SpoolRecord(
    queue_id=QueueId("Q"),
    traffic_class="bulk",
    rank=5,
    reverse_path=b"",
    recipients=(SpoolRecipient(index=0, address=b"a@x"),),
    received_wall=1.0,
    expires_wall=2.0,
    next_attempt_wall=1.0,
    reason=Reason.SATURATED,
    client_address="192.0.2.1",
    is_trusted=False,
)
_COLUMNS = [
    "message_id",
    "queue_id",
    "traffic_class",
    "rank",
    "state",
    "reverse_path",
    "parameters",
    "size",
    "digest",
    "received",
    "expires",
    "next_attempt",
    "attempts",
    "reason",
    "client_address",
    "helo",
    "is_trusted",
    "is_generated",
    "in_doubt",
    "report_at",
    "backend",
    "login",
]
_SELECTED = [name for name in _COLUMNS if name not in {"state", "digest"}]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("corrupt", "corrupt"),
        ("corrupt hold", "hold"),
        ("hold deferred corrupt", "deferred"),
        ("deferred queued", "queued"),
    ],
)
def test_a_message_has_the_state_of_its_liveliest_recipient(states: str, expected: str) -> None:
    found = liveliest([SpoolState(state) for state in states.split()])
    assert found is SpoolState(expected)


def test_what_utf8_cannot_express_becomes_a_question_mark() -> None:
    assert printable("caf\u00e9 \udcff") == "caf\u00e9 ?"


def test_only_a_full_disk_is_full() -> None:
    assert is_full(full_error())
    assert not is_full(io_error())
    assert not is_full(sqlite3.OperationalError("no code"))
    assert not is_full(ValueError())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.SQLITE_CORRUPT_INDEX, True),
        (sqlite3.SQLITE_NOTADB, True),
        (sqlite3.SQLITE_IOERR_READ, False),
        (sqlite3.SQLITE_CANTOPEN, False),
        (sqlite3.SQLITE_NOMEM, False),
        (sqlite3.SQLITE_BUSY, False),
    ],
)
def test_damage_is_told_from_a_failure_to_read(code: int, expected: bool) -> None:
    assert is_damage(sqlite_error(code)) is expected


def test_an_error_without_a_code_is_no_proof_of_damage() -> None:
    assert not is_damage(sqlite3.OperationalError("no code"))


def test_only_a_write_that_was_refused_may_be_for_want_of_room() -> None:
    assert is_refused_write(sqlite_error(sqlite3.SQLITE_IOERR_WRITE))
    assert is_refused_write(sqlite_error(sqlite3.SQLITE_IOERR_SHMSIZE))
    assert not is_refused_write(io_error())
    assert not is_refused_write(full_error())
    assert not is_refused_write(sqlite3.OperationalError("no code"))
