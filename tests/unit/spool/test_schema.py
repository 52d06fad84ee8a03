"""The database's settings, its versions, and how it refuses what it must not touch."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from mailshed.errors import SpoolSick
from mailshed.spool import schema
from mailshed.spool.schema import DATABASE, check_version, open_reader, open_writer, pragma
from tests.support.spools import Faults, io_error


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


@pytest.mark.parametrize("place", range(len(schema.MIGRATIONS[0]) + 1))
def test_a_migration_that_is_broken_off_is_done_again_from_its_start(
    tmp_path: Path, place: int
) -> None:
    statement = (*schema.MIGRATIONS[0], "PRAGMA user_version = 1")[place]
    faults = Faults()
    faults.fail(" ".join(statement.split()), io_error())
    with pytest.raises(SpoolSick) as caught:
        open_writer(tmp_path / DATABASE, faults.factory())
    assert "move it aside" not in str(caught.value), "an I/O error is not the file's fault"
    with closing(open_writer(tmp_path / DATABASE)) as connection:
        assert check_version(connection, tmp_path / DATABASE) == schema.SCHEMA_VERSION
        assert connection.execute("SELECT count(*) FROM message").fetchone() == (0,)


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
