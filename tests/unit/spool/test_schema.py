"""The database's settings, its versions, and how it refuses what it must not touch."""

import sqlite3
import stat
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from mailshed.errors import SpoolSick
from mailshed.spool import schema
from mailshed.spool.extract import extract
from mailshed.spool.filter import EVERYTHING, QueueFilter
from mailshed.spool.reader import count_messages, find_ids, list_messages, show_messages
from mailshed.spool.schema import (
    CHUNK_BITS,
    DATABASE,
    check_version,
    open_reader,
    open_writer,
    pragma,
)
from mailshed.terms import QueueAction, QueueId
from tests.support.builders import BULK, WALL, spool_record
from tests.support.spools import Faults, io_error, joined, pieces, sqlite_spool


def test_commits_are_durable_and_deleted_content_is_overwritten(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / DATABASE)) as connection:
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "synchronous") == 2
        assert pragma(connection, "secure_delete") == 1
        assert pragma(connection, "foreign_keys") == 1
        assert pragma(connection, "auto_vacuum") == 2
        assert pragma(connection, "wal_autocheckpoint") == 0
        assert pragma(connection, "application_id") == schema.APPLICATION_ID
        assert pragma(connection, "user_version") == schema.SCHEMA_VERSION


@pytest.mark.parametrize("setting", ["synchronous", "journal_mode", "secure_delete"])
def test_a_setting_that_does_not_hold_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """SQLite ignores a PRAGMA that it does not know or cannot follow."""
    genuine = schema.pragma

    def deaf(connection: sqlite3.Connection, name: str) -> int | str:
        return 1234 if name == setting else genuine(connection, name)

    monkeypatch.setattr(schema, "pragma", deaf)
    with pytest.raises(SpoolSick, match=f"refused {setting}"):
        open_writer(tmp_path / DATABASE)


def test_the_database_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    open_writer(tmp_path / DATABASE).close()
    assert stat.S_IMODE((tmp_path / DATABASE).stat().st_mode) == 0o600


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        with closing(open_writer(tmp_path / DATABASE)) as connection:
            connection.execute(
                "INSERT INTO ledger VALUES ('bulk', 'accepted', 1) ON CONFLICT DO UPDATE"
                " SET recipients = recipients + 1"
            )
    with closing(open_reader(tmp_path / DATABASE)) as connection:
        assert connection.execute("SELECT recipients FROM ledger").fetchall() == [(2,)]


def version_1(database: Path, messages: int = 3) -> None:
    """A spool as the first version left it, made of its own statements; message 1 is held."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute("PRAGMA journal_mode = WAL")
        for statement in schema.MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        for number in range(1, messages + 1):
            state = "hold" if number == 1 else "deferred"
            connection.execute(
                "INSERT INTO message VALUES (?, ?, 'bulk', 5, ?, x'', x'', 3, ?, 1.5, 9e9, 2.5, 1,"
                " 'saturated', '192.0.2.1', 'helo', 1, 0, 0)",
                (number, f"Q{number}", state, sha256(b"abc").digest()),
            )
            connection.execute(
                "INSERT INTO recipient VALUES (?, 0, CAST('a@x' AS BLOB), x'', ?, '450 busy')",
                (number, state),
            )
            connection.execute(
                "INSERT INTO chunk VALUES (?, CAST('abc' AS BLOB))", (number << CHUNK_BITS,)
            )
        connection.execute("INSERT INTO ledger VALUES ('bulk', 'accepted', ?)", (messages,))


def old_version(database: Path, version: int) -> None:
    """A spool as an older version left it, made of its own statements."""
    version_1(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for statements in schema.MIGRATIONS[1:version]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")


def everything(database: Path) -> list[list[tuple[object, ...]]]:
    """All rows, without the columns that version 1 did not have."""
    columns = {"message": "message_id, queue_id, state, digest, next_attempt, in_doubt"}
    with closing(sqlite3.connect(database)) as connection:
        return [
            connection.execute(f"SELECT {columns.get(table, '*')} FROM {table}").fetchall()
            for table in ("message", "recipient", "chunk", "ledger", "incoming")
        ]


def version_of(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(pragma(connection, "user_version"))


def test_a_spool_of_version_1_keeps_all_it_has(tmp_path: Path) -> None:
    version_1(tmp_path / DATABASE)
    before = everything(tmp_path / DATABASE)
    for _ in range(2):
        open_writer(tmp_path / DATABASE).close()
        assert version_of(tmp_path / DATABASE) == schema.SCHEMA_VERSION
        assert everything(tmp_path / DATABASE) == before


async def test_a_spool_of_version_1_works(tmp_path: Path) -> None:
    version_1(tmp_path / DATABASE)
    spool = sqlite_spool(tmp_path)
    await spool.open()
    held, second, third = (QueueId(f"Q{number}") for number in (1, 2, 3))
    found = await spool.due(WALL, "bulk", 10)
    assert [(each.queue_id, each.report_wall) for each in found] == [(second, None), (third, None)]
    assert await joined(spool.content(second)) == b"abc"
    assert await spool.delayed(WALL, 10) == []
    assert await spool.amend(held, QueueAction.RELEASE, WALL)
    late = spool_record(names=BULK, report_wall=WALL)
    await spool.add(late, pieces(b"abc"))
    assert [each.queue_id for each in await spool.delayed(WALL, 10)] == [late.queue_id]
    totals = await spool.totals()
    assert (totals.messages, dict(totals.ledger["bulk"])) == (4, {"accepted": 4})
    await spool.close()


@pytest.mark.parametrize("version", range(1, schema.SCHEMA_VERSION))
def test_a_spool_of_an_older_version_is_looked_at_and_left_as_it_is(
    tmp_path: Path, version: int
) -> None:
    """An update whose service does not start must not hide the mail that waits."""
    old_version(tmp_path / DATABASE, version)
    listed = list_messages(tmp_path, EVERYTHING, 10)
    assert [each["queue_id"] for each in listed] == ["Q1", "Q2", "Q3"]
    assert sum(int(str(each["messages"])) for each in count_messages(tmp_path)) == 3
    (shown,) = show_messages(tmp_path, [QueueId("Q2")])
    assert shown["backend"] == ""
    assert find_ids(tmp_path, QueueFilter(backends=("exch01",)), 10) == []
    extracted = extract(tmp_path, QueueId("Q2"), tmp_path)
    assert extracted is not None
    assert extracted.is_written
    assert version_of(tmp_path / DATABASE) == version


STEPS = [
    (version, statement)
    for version, statements in enumerate(schema.MIGRATIONS)
    for statement in (*statements, f"PRAGMA user_version = {version + 1}", "COMMIT")
]


@pytest.mark.parametrize(("version", "statement"), STEPS)
@pytest.mark.parametrize("is_after", [False, True])
def test_a_migration_that_is_broken_off_is_done_again_from_its_start(
    tmp_path: Path, version: int, statement: str, is_after: bool
) -> None:
    """At each statement, before it and after it."""
    if version:
        old_version(tmp_path / DATABASE, version)
    faults = Faults()
    faults.fail(" ".join(statement.split()), io_error(), is_after=is_after)
    with pytest.raises(SpoolSick) as caught:
        open_writer(tmp_path / DATABASE, faults.factory())
    assert "move it aside" not in str(caught.value), "an I/O error is not the file's fault"
    is_done = statement == "COMMIT" and is_after
    assert version_of(tmp_path / DATABASE) == version + is_done
    with closing(open_writer(tmp_path / DATABASE)) as connection:
        assert check_version(connection, tmp_path / DATABASE) == schema.SCHEMA_VERSION
        messages = 3 if version else 0
        assert connection.execute("SELECT count(*) FROM message").fetchone() == (messages,)


def test_a_crash_in_the_middle_of_a_migration_leaves_version_1(tmp_path: Path) -> None:
    """What is on disk right before COMMIT, as a power cut would leave it."""
    folder, crashed = tmp_path / "spool", tmp_path / "crashed"
    folder.mkdir()
    version_1(folder / DATABASE)
    before = everything(folder / DATABASE)

    class Crashing(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql == "COMMIT" and not crashed.exists():
                copytree(folder, crashed)
            return super().execute(sql, parameters)

    open_writer(folder / DATABASE, Crashing).close()
    assert (crashed / f"{DATABASE}-wal").exists()
    assert version_of(crashed / DATABASE) == 1
    open_writer(crashed / DATABASE).close()
    assert version_of(crashed / DATABASE) == schema.SCHEMA_VERSION
    assert everything(crashed / DATABASE) == before


def test_a_damaged_spool_of_version_1_is_not_migrated(tmp_path: Path) -> None:
    database = tmp_path / DATABASE
    version_1(database, messages=500)
    damaged = bytearray(database.read_bytes())
    damaged[-4096:] = bytes(range(256)) * 16
    database.write_bytes(damaged)
    with pytest.raises(SpoolSick, match="damaged"):
        open_writer(database)
    assert database.read_bytes() == damaged


def test_a_spool_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / DATABASE)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    before = (tmp_path / DATABASE).read_bytes()
    with pytest.raises(SpoolSick, match="written by a newer mailshed"):
        open_writer(tmp_path / DATABASE)
    assert (tmp_path / DATABASE).read_bytes() == before


def test_a_database_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("CREATE TABLE theirs (id)")
        connection.commit()
    with pytest.raises(SpoolSick, match=r"not a mailshed spool; .*docs/operating\.md"):
        open_writer(tmp_path / DATABASE)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(SpoolSick, match=r"not a database; .*move it aside.*docs/operating\.md"):
        open_writer(tmp_path / DATABASE)


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    with (
        closing(open_writer(tmp_path / DATABASE)),
        closing(open_reader(tmp_path / DATABASE)) as reader,
        pytest.raises(sqlite3.OperationalError),
    ):
        reader.execute("DELETE FROM ledger")


def test_a_path_with_odd_characters_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "a ?b#c%d"
    folder.mkdir()
    with closing(open_writer(folder / DATABASE)), closing(open_reader(folder / DATABASE)) as reader:
        assert check_version(reader, folder / DATABASE) == schema.SCHEMA_VERSION
