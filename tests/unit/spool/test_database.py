"""When a database is read in full before it is trusted, and how often a bad one is tried."""

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import copy2

import pytest

from mailshed.errors import SpoolSick
from mailshed.spool import database as module
from mailshed.spool.database import CONDITION_FILE, Database
from mailshed.spool.schema import DATABASE, open_writer, sync_folder
from tests.support.clock import ManualClock
from tests.support.spools import Faults, io_error, sqlite_error

VERIFY = "PRAGMA quick_check"


def _octets_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


class Rig:
    """A database file, what is asked of it, and processes that come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / DATABASE
        self.condition = folder / CONDITION_FILE
        self.faults = Faults()
        self.clock = ManualClock()

    def process(self) -> Database:
        """The database as a process that has just been started sees it."""
        return Database(self.path, self.faults.factory(), self.clock.monotonic)

    def verifies(self, database: Database | None = None) -> bool:
        """Open; whether all of it was read. The connection is closed as by the end of a process."""
        before = self.faults.count(VERIFY)
        used = database or self.process()
        used.open().close()
        used.vouch()
        return self.faults.count(VERIFY) > before

    def stop(self) -> None:
        """A process opens the database and stops in good order."""
        database = self.process()
        database.open().close()
        database.vouch()
        database.note_stopped()
        assert self.condition.read_text().startswith("stopped ")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


class TestTrust:
    def test_what_nobody_vouched_for_is_verified(self, rig: Rig) -> None:
        open_writer(rig.path).close()
        for _ in range(2):
            rig.process().open().close()
        assert rig.faults.count(VERIFY) == 2

    def test_a_killed_process_has_damaged_nothing(self, rig: Rig) -> None:
        assert rig.verifies()
        assert not rig.verifies()
        assert not rig.verifies()

    def test_after_a_reboot_nothing_is_certain(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert rig.verifies()
        monkeypatch.setattr(module, "_boot_id", lambda: "another")
        assert rig.verifies()
        assert not rig.verifies()

    def test_a_stop_in_good_order_outlives_a_reboot(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rig.stop()
        monkeypatch.setattr(module, "_boot_id", lambda: "another")
        assert not rig.verifies()

    def test_a_kernel_that_does_not_say_which_boot_it_is_is_not_trusted(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown() -> str:
            raise FileNotFoundError

        monkeypatch.setattr(module, "_boot_id", unknown)
        assert rig.verifies()
        assert rig.verifies()
        rig.process().note_stopped()
        assert not rig.verifies()

    @pytest.mark.parametrize("is_stopped", [True, False])
    def test_a_copy_is_verified(self, rig: Rig, *, is_stopped: bool) -> None:
        rig.stop()
        if not is_stopped:
            assert not rig.verifies()
        copy2(rig.path, rig.folder / "copy")
        (rig.folder / "copy").replace(rig.path)
        assert rig.verifies()

    @pytest.mark.parametrize(
        "edit",
        [
            lambda path: os.utime(path, ns=(1, 1)),
            lambda path: path.write_bytes(path.read_bytes() + bytes(4096)),
            lambda path: path.with_name(f"{DATABASE}-wal").write_bytes(b"left behind"),
        ],
    )
    def test_a_file_that_was_changed_since_is_verified(
        self, rig: Rig, edit: Callable[[Path], object]
    ) -> None:
        rig.stop()
        edit(rig.path)
        assert rig.verifies()

    @pytest.mark.parametrize("text", [b"", b"stopped", b"running", b"\xff\xfe", b"stopped 1 2 3\n"])
    def test_an_odd_condition_only_costs_the_reading(self, rig: Rig, text: bytes) -> None:
        rig.stop()
        rig.condition.write_bytes(text)
        assert rig.verifies()

    def test_a_log_that_is_not_empty_is_no_stop_in_good_order(self, rig: Rig) -> None:
        database = rig.process()
        with closing(database.open()) as connection:
            database.vouch()
            connection.execute("INSERT INTO incoming VALUES (1)")
            database.note_stopped()
        assert rig.condition.read_text().startswith("running ")

    def test_a_fault_is_remembered(self, rig: Rig) -> None:
        rig.stop()
        rig.process().distrust()
        assert rig.verifies()
        database = rig.process()
        database.open().close()
        database.note_failure(io_error())
        assert rig.verifies()


class TestOrder:
    def test_a_stop_is_forgotten_on_disk_before_the_database_is_opened(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else a power cut could bring it back, beside a file that was written to meanwhile."""
        events: list[str] = []

        def sync(folder: Path) -> None:
            events.append(f"sync {rig.condition.read_text().split()[0]}")
            sync_folder(folder)

        class Watching(sqlite3.Connection):
            def __init__(self, *arguments: object, **keywords: object) -> None:
                events.append("open")
                super().__init__(*arguments, **keywords)  # type: ignore[arg-type]

        rig.stop()
        monkeypatch.setattr(module, "sync_folder", sync)
        Database(rig.path, Watching).open().close()
        assert events == ["sync running", "open"]

    def test_what_is_not_trusted_is_forgotten_on_disk_before_it_is_opened(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rig.stop()
        os.utime(rig.path, ns=(1, 1))
        forgotten: list[bool] = []
        monkeypatch.setattr(
            module, "sync_folder", lambda _: forgotten.append(not rig.condition.exists())
        )
        rig.process().open().close()
        assert forgotten == [True]

    def test_a_condition_that_cannot_be_written_is_removed(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        rig.stop()
        with monkeypatch.context() as patched:
            patched.setattr(module, "_open_private", full)
            assert not rig.verifies()
            assert not rig.condition.exists()
        assert rig.verifies()

    def test_a_condition_that_cannot_be_removed_keeps_the_database_closed(self, rig: Rig) -> None:
        rig.condition.mkdir()
        with pytest.raises(SpoolSick, match="cannot open"):
            rig.process().open()
        assert rig.faults.connections == 0


class TestReading:
    def test_a_large_database_is_not_verified_at_a_start(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_writer(rig.path).close()
        monkeypatch.setattr(module, "VERIFY_AT_START_OCTETS", 4096)
        database = rig.process()
        for _ in range(2):
            with pytest.raises(SpoolSick, match="is being verified"):
                database.open(is_start=True)
            database.note_failure(SpoolSick("large"))
        assert rig.verifies(database)
        database = rig.process()
        database.open(is_start=True).close()
        assert rig.faults.count(VERIFY) == 1

    def test_all_of_the_file_is_read_first(self, rig: Rig) -> None:
        """As the kernel counts what this process reads; nothing else here reads 32 MiB."""
        with rig.path.open("wb") as file:
            file.truncate(32 * 1024**2)
        before = _octets_read()
        rig.process()._read_ahead()
        assert _octets_read() - before >= 32 * 1024**2

    def test_a_stop_does_not_wait_for_it(self, rig: Rig) -> None:
        open_writer(rig.path).close()
        database = rig.process()
        database.hurry()
        with pytest.raises(SpoolSick, match="closed before"):
            database.open()
        assert rig.faults.connections == 0

    def test_a_trusted_database_is_opened_in_any_hurry(self, rig: Rig) -> None:
        rig.stop()
        database = rig.process()
        database.hurry()
        database.open().close()


class TestPatience:
    """Attempts that take two seconds, by the clock of the test."""

    SECONDS = 2.0
    ATTEMPT = f"{DATABASE}: injected"

    def fail(self, rig: Rig, database: Database, code: int, seconds: float = SECONDS) -> None:
        rig.faults.fail(VERIFY, sqlite_error(code))
        with pytest.raises(SpoolSick, match="injected") as caught:
            database.open()
        rig.clock.advance(seconds)
        database.note_failure(caught.value)
        assert rig.faults.count(VERIFY), "it was not even tried"

    def is_tried(self, rig: Rig, database: Database) -> bool:
        """Whether the database was opened, successfully; else the old error is repeated."""
        before = rig.faults.connections
        try:
            database.open().close()
        except SpoolSick as error:
            assert "injected" in str(error)  # noqa: PT017 -- it may as well succeed
        return rig.faults.connections > before

    @pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR_READ])
    def test_a_failing_verification_takes_a_tenth_of_the_time(self, rig: Rig, code: int) -> None:
        database = rig.process()
        self.fail(rig, database, code)
        rig.clock.advance(17.9)
        assert not self.is_tried(rig, database)
        rig.clock.advance(0.1)
        assert self.is_tried(rig, database)

    @pytest.mark.parametrize(
        ("code", "pause"), [(sqlite3.SQLITE_NOTADB, 900.0), (sqlite3.SQLITE_IOERR_READ, 60.0)]
    )
    def test_what_may_pass_is_not_waited_for_longer_than_a_minute(
        self, rig: Rig, code: int, pause: float
    ) -> None:
        database = rig.process()
        self.fail(rig, database, code, seconds=100.0)
        rig.clock.advance(pause - 0.1)
        assert not self.is_tried(rig, database)
        rig.clock.advance(0.1)
        assert self.is_tried(rig, database)

    def test_a_short_one_is_repeated_at_once(self, rig: Rig) -> None:
        database = rig.process()
        self.fail(rig, database, sqlite3.SQLITE_CORRUPT, seconds=0.05)
        assert self.is_tried(rig, database)

    @pytest.mark.parametrize("suffix", ["", "-wal"])
    def test_files_that_change_are_tried_at_once(self, rig: Rig, suffix: str) -> None:
        database = rig.process()
        self.fail(rig, database, sqlite3.SQLITE_CORRUPT)
        assert not self.is_tried(rig, database)
        changed = rig.path.with_name(f"{DATABASE}{suffix}")
        changed.touch()
        os.utime(changed, ns=(1, 1))
        assert self.is_tried(rig, database)

    def test_a_real_damage_is_found_once(self, rig: Rig) -> None:
        """Also by the check, which does not fail but says what it found."""
        with closing(open_writer(rig.path)) as connection:
            connection.executemany("INSERT INTO incoming VALUES (?)", ((n,) for n in range(5000)))
        damaged = bytearray(rig.path.read_bytes())
        damaged[-4096:] = os.urandom(4096)
        rig.path.write_bytes(damaged)
        database = rig.process()
        with pytest.raises(SpoolSick, match=r"damaged.*move it aside") as caught:
            database.open()
        assert "\n" not in str(caught.value)
        rig.clock.advance(100.0)
        database.note_failure(caught.value)
        rig.clock.advance(899.0)
        with pytest.raises(SpoolSick, match="damaged") as again:
            database.open()
        assert str(again.value) == str(caught.value)
        assert rig.faults.count(VERIFY) == 1


class TestRoom:
    @pytest.mark.parametrize(
        ("code", "expected"),
        [(errno.EDQUOT, True), (errno.ENOSPC, True), (errno.EIO, False), (errno.EROFS, False)],
    )
    def test_is_asked_of_the_kernel(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch, code: int, *, expected: bool
    ) -> None:
        def refuse(path: Path, data: bytes) -> int:
            path.touch()
            raise OSError(code, "refused")

        monkeypatch.setattr(Path, "write_bytes", refuse)
        assert rig.process().is_out_of_room() is expected
        assert list(rig.folder.iterdir()) == []

    def test_leaves_nothing_behind(self, rig: Rig) -> None:
        assert not rig.process().is_out_of_room()
        assert list(rig.folder.iterdir()) == []
