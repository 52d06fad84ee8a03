"""The database file of a spool: when it is read in full before it is trusted, and how.

Reading all of it is the only way to find damage that no query meets, and it takes seconds for each
gigabyte, at the very moment when mail waits for the service to come back. So it is done only when
something can have happened to the file. A file beside it, `condition`, says that nothing can:

- `stopped`: we closed it, and its inode, size and time of change are what they were then;
- `running`: we had it open, on this boot of this kernel, and it is the same inode. A process that
  was killed cannot have damaged it: what it wrote, the kernel has, and a transaction that was cut
  off is SQLite's own business.

Everything else is verified before a promise is made: a power cut or a crash of the kernel, a
restored or edited file, a spool that fell sick. `stopped` is gone from the disk before the first
write; a `condition` that is missing or odd only costs the reading.

Pages of the tables alternate in the file, so SQLite's check asks for them one by one in an order
that no read-ahead foresees: 17 seconds for 1.2 GiB that one sequential pass reads in 2. That pass
comes first, and leaves the pages in the kernel's cache.

A verification that fails is repeated, since a fault may pass, but at a tenth of the time, or as
soon as the files change. Times are seconds of the monotonic clock.
"""

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailshed.errors import SpoolSick
from mailshed.spool.rows import is_damage
from mailshed.spool.schema import open_writer, sync_folder

CONDITION_FILE = "condition"

# Up to this size a database is verified while the service starts: under three seconds on a disk
# that reads 100 MB a second.
VERIFY_AT_START_OCTETS = 256 * 1024**2
READ_OCTETS = 1024**2
# A failed attempt is followed by so many times its own duration without one. Short ones cost
# nothing, and what is not damage may pass any moment, so it is not waited for longer than that.
PAUSE_FACTOR = 9
SHORT_SECONDS = 0.1
PAUSE_SECONDS_MAX = 60.0
# Written to find out whether there is room; more than SQLite asks for at a time.
PROBE_OCTETS = 64 * 1024

_Fingerprint = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class _Failure:
    """An attempt to open that failed, and until when it is not repeated on the same files."""

    text: str
    files: _Fingerprint
    until: float


class Database:
    """One database file. Everything but `hurry` belongs to the thread that writes."""

    def __init__(
        self,
        path: Path,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._wal = path.with_name(f"{path.name}-wal")
        self._condition = path.with_name(CONDITION_FILE)
        self._factory = factory
        self._monotonic = monotonic
        self._began = 0.0
        self._failure: _Failure | None = None
        self._is_in_a_hurry = threading.Event()
        self.was_trusted = False
        """Whether the last `open` took the database as it was."""

    # Opening. Each `open` is followed by `vouch` or `note_failure`.

    def open(self, *, is_start: bool = False) -> sqlite3.Connection:
        """Open for writing, verified if need be; SpoolSick with a text for the operator.

        At a start a large database that has to be verified is SpoolSick, for `open` to be called
        again when the service runs.
        """
        self._require_a_chance()
        self._began = self._monotonic()
        try:
            self.was_trusted = is_trusted = self._is_trusted()
            if is_trusted:
                self._note(self._running)
            else:
                self._forget()
        except OSError as error:
            raise SpoolSick(f"cannot open {self._path}: {error}") from error
        if not is_trusted:
            if is_start:
                self._require_small()
            self._read_ahead()
        return open_writer(self._path, self._factory, verify=not is_trusted)

    def vouch(self) -> None:
        """Note that the database is well, all of it: it is trusted while this kernel runs."""
        self._failure = None
        if not self._is_trusted():
            with suppress(OSError):  # then it is verified next time
                self._note(self._running)

    def note_failure(self, error: Exception) -> None:
        """Note that it could not be opened, or not be trusted once it was; no connection is left.

        It will be verified, but not before a pause if that took long.
        """
        self.distrust()
        now = self._monotonic()
        took = now - self._began
        pause = took * PAUSE_FACTOR if took > SHORT_SECONDS else 0.0
        if not is_damage(error.__cause__ or error):
            pause = min(pause, PAUSE_SECONDS_MAX)
        self._failure = _Failure(str(error), self._fingerprint(), now + pause)

    def distrust(self) -> None:
        """See to it that the next `open` verifies, whoever calls it."""
        with suppress(OSError):
            self._condition.unlink(missing_ok=True)

    def note_stopped(self) -> None:
        """Note that it has been closed in good order, with nothing left in the WAL."""
        with suppress(OSError):  # then it is verified next time, or trusted as `running`
            if not _size(self._wal):
                self._note(self._stopped)

    def hurry(self) -> None:
        """Break off a verification that has not got to the point, for good; from any thread."""
        self._is_in_a_hurry.set()

    def is_out_of_room(self) -> bool:
        """Whether writing beside the database fails because a disk or a quota is used up.

        SQLite knows ENOSPC, and calls a quota (EDQUOT) an I/O error.
        """
        probe = self._path.with_name("probe")
        try:
            probe.write_bytes(bytes(PROBE_OCTETS))
        except OSError as error:
            return error.errno in {errno.EDQUOT, errno.ENOSPC}
        else:
            return False
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)

    def _require_a_chance(self) -> None:
        """Raise as the last time if this is too early, and nothing has changed since."""
        failure = self._failure
        if failure is None or self._monotonic() >= failure.until:
            return
        if self._fingerprint() == failure.files:
            raise SpoolSick(failure.text)

    def _require_small(self) -> None:
        size = _size(self._path)
        if size > VERIFY_AT_START_OCTETS:
            raise SpoolSick(
                f"{self._path} ({size // 1024**2} MiB) was not closed in good order, or was changed"
                " since; all of it is being verified before it is used"
            )

    def _read_ahead(self) -> None:
        """Read the file from end to end; what is wrong with it, others will say."""
        buffer = bytearray(READ_OCTETS)
        with suppress(OSError), self._path.open("rb", buffering=0) as file:
            while file.readinto(buffer) and not self._is_in_a_hurry.is_set():
                pass
        if self._is_in_a_hurry.is_set():
            raise SpoolSick(f"{self._path} was closed before it could be verified")

    def _fingerprint(self) -> _Fingerprint:
        return tuple(_identity(path) for path in (self._path, self._wal))

    # The condition.

    def _is_trusted(self) -> bool:
        try:
            text = self._condition.read_text(encoding="ascii")
            if text.startswith("running"):
                return text == self._running()
            return text == self._stopped() and not _size(self._wal)
        except (OSError, UnicodeDecodeError):
            return False

    def _running(self) -> str:
        return f"running {_boot_id()} {self._path.stat().st_ino}\n"

    def _stopped(self) -> str:
        status = self._path.stat()
        return f"stopped {status.st_ino} {status.st_size} {status.st_mtime_ns}\n"

    def _note(self, condition: Callable[[], str]) -> None:
        """Replace the condition durably, or at least remove the one that was there."""
        new = self._condition.with_suffix(".new")
        try:
            with open(new, "w", encoding="ascii", opener=_open_private) as file:
                file.write(condition())
            new.replace(self._condition)
        except OSError:
            self._condition.unlink(missing_ok=True)
        sync_folder(self._path.parent)

    def _forget(self) -> None:
        """Remove the condition durably."""
        self._condition.unlink(missing_ok=True)
        sync_folder(self._path.parent)


def _boot_id() -> str:
    """What differs from boot to boot; raises OSError."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _size(path: Path) -> int:
    """Octets in a file; 0 if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or written to."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
