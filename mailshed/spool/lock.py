"""Exclusive ownership of a spool's folder.

The lock is an flock(2) on a file in the folder: the kernel drops it when the process ends, however
it ends, so there is no stale lock to clean up. The file holds the owner's process id, for the text
of the error only. A reader that finds the daemon down takes the same lock for some milliseconds,
which is why the owner tries for a moment before it gives up.

SQLite's WAL needs memory shared between processes and locks that work; network file systems have
neither reliably (https://sqlite.org/wal.html, "all processes ... on the same host"), so a spool on
one is refused. Nor is a folder made whose parent is missing: a disk that is not mounted would be
covered up by an empty spool on the disk below it.
"""

import contextlib
import fcntl
import os
import stat
import time
from pathlib import Path

from mailshed.errors import SpoolError, SpoolLocked

LOCK_FILE = "lock"
POLL_SECONDS = 0.02

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "pvfs2",
        "smb3",
        "smbfs",
    }
)


# What may lie in a folder that becomes a spool although no spool was there: mkfs makes it.
_NOT_PRECIOUS = frozenset({"lost+found"})
_OTHERS_MAY = 0o077


def prepare_folder(folder: Path, *, allow_network_filesystem: bool = False) -> None:
    """Create the folder with mode 0700 if need be; SpoolError if it cannot hold a spool.

    Only its last component is created, unless the path is relative: those are for trials.
    """
    try:
        _create(folder)
        _close_to_others(folder)
        file_system = file_system_of(folder)
    except OSError as error:
        raise SpoolError(
            f"cannot use {folder} for the spool: {error.strerror}; set spool.path to a folder that"
            " the service's user may write"
        ) from error
    if file_system in NETWORK_FILE_SYSTEMS and not allow_network_filesystem:
        raise SpoolError(
            f"{folder} is on a network file system ({file_system}), where a commit cannot be"
            " trusted: put the spool on a local disk, or force it with"
            " spool.allow_network_filesystem"
        )


def _create(folder: Path) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise SpoolError(f"{folder} is not a folder; set spool.path to one")
    is_relative = not folder.is_absolute()
    try:
        folder.mkdir(mode=0o700, parents=is_relative, exist_ok=True)
    except FileNotFoundError:
        raise SpoolError(
            f"the folder {folder.parent} does not exist; create it (is its disk mounted?)"
        ) from None


def _close_to_others(folder: Path) -> None:
    """Make a folder that was there before private; refuse it if it is not ours to change."""
    status = folder.stat()
    if not status.st_mode & _OTHERS_MAY:
        return
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
    if status.st_uid != os.geteuid():
        raise SpoolError(
            f"{folder} is open to others ({mode}) and belongs to uid {status.st_uid}, not to the"
            f" service's user (uid {os.geteuid()}): chown it to that user and chmod it to 0700"
        )
    names = {entry.name for entry in folder.iterdir()} - _NOT_PRECIOUS
    if names and LOCK_FILE not in names:
        raise SpoolError(
            f"{folder} is open to others ({mode}) and holds files that are not a spool's: give the"
            " spool a folder of its own"
        )
    folder.chmod(0o700)


def file_system_of(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Type of the file system that holds `folder`, as the kernel names it; empty if unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    path = folder.resolve()
    depth, file_system = -1, ""
    for line in lines:
        # proc(5): id parent major:minor root mount-point options [tags] - type source options
        left, _, right = line.partition(" - ")
        mount_point = Path(_unescape(left.split(" ")[4]))
        # Of two mounts on one point the later hides the earlier.
        if path.is_relative_to(mount_point) and len(mount_point.parts) >= depth:
            depth, file_system = len(mount_point.parts), right.split(" ")[0]
    return file_system


def _unescape(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


class SpoolLock:
    """The lock of one folder. Not inherited by child processes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_FILE
        self._file: int | None = None

    def acquire(self, patience: float = 0.0, *, create: bool = True) -> None:
        """Take the lock, trying for `patience` seconds; SpoolLocked if another holds it.

        Without `create`, a folder that has no lock file counts as locked by us: a reader, perhaps
        root, leaves no file behind that the owner could not open.
        """
        assert self._file is None, "locked already"
        deadline = time.monotonic() + patience
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            file = os.open(self._path, flags, 0o600)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not create:
                return
            raise SpoolError(f"cannot open {self._path}: {error.strerror}") from error
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    owner = os.pread(file, 32, 0).decode("ascii", "replace").strip()
                    os.close(file)
                    raise SpoolLocked(
                        f"{self._path.parent} is in use by process {owner or 'unknown'}"
                    ) from None
            time.sleep(POLL_SECONDS)
        self._file = file

    def write_owner(self) -> None:
        """Leave our process id for whoever finds the lock taken, if the disk has room for it."""
        assert self._file is not None, "not locked"
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock up; safe to call twice. The file stays, since removing it would race."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
