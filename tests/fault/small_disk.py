"""A real disk of a few MiB that a test can fill from outside: an ext4 file system in a file.

Mounting needs root and a loop device; without them a test is skipped, with the reason (and fails
when CI=true). However a test ends, the disk is unmounted. There is no share reserved for root, so
full is full for everybody, and few inodes, so that those can be used up as well.
"""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.debian import require_root, unavailable
from tests.support.processes import NotInTimeError, wait_until

_BLOCK_OCTETS = 4096
_INODES = 128
_COMMAND_SECONDS = 60.0
_UNMOUNT_SECONDS = 10.0


class SmallDisk:
    """A mounted disk; a context manager. `path` is its mount point."""

    def __init__(self, folder: Path, octets: int) -> None:
        self.path = folder / "disk"
        self._image = folder / "disk.img"
        self._octets = octets
        self._ballast = self.path / "ballast"
        self._clutter = self.path / "clutter"

    def __enter__(self) -> Self:
        require_root()
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(self._octets)
        _run("mkfs.ext4", "-q", "-m", "0", "-N", str(_INODES), str(self._image))
        _run("mount", "-o", "loop", str(self._image), str(self.path))
        # Made once: on a full disk there may be no block for a new name.
        self._ballast.touch()
        self._clutter.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Whoever used it may be about to end; a lazy unmount is the last resort.
        try:
            wait_until(lambda: _is_done("umount", self.path), "unmounted", _UNMOUNT_SECONDS)
        except NotInTimeError:
            _run("umount", "-l", str(self.path))
        self._image.unlink()

    @property
    def free_octets(self) -> int:
        """What may still be written."""
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take space until only about `leave` octets are free; to the last block if 0."""
        with self._ballast.open("ab") as ballast, _until_full():
            while (excess := self.free_octets - leave) >= _BLOCK_OCTETS:
                size = ballast.seek(0, os.SEEK_END)
                # Not all at once: what there is may be in pieces, and others take some.
                os.posix_fallocate(ballast.fileno(), size, max(_BLOCK_OCTETS, excess // 2))
            while leave == 0:  # what the kernel counts as free is not exact
                os.write(ballast.fileno(), bytes(_BLOCK_OCTETS))

    def release(self) -> None:
        """Give back all space and all inodes."""
        os.truncate(self._ballast, 0)
        for path in self._clutter.iterdir():
            path.unlink()

    def use_up_inodes(self) -> None:
        """Make empty files until no more can be made."""
        with _until_full():
            for number in range(10 * _INODES):
                (self._clutter / str(number)).touch()


@contextlib.contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
    except FileNotFoundError:
        unavailable(f"{command[0]} is missing")
    if done.returncode != 0:
        unavailable(f"no disk of our own: {' '.join(command)}: {done.stderr.strip()}")


def _is_done(command: str, path: Path) -> bool:
    return subprocess.run([command, path], capture_output=True, check=False).returncode == 0
