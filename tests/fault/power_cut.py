"""Files as a power cut may leave them: what was synced, and any part of what was not.

`write_log.c` writes down all that a process did to the files of a folder, with the promises that it
made in between. `PowerCuts` cuts that log at some place. A file then holds all that was written
before the last sync of it that had returned; of every later write each sector of 512 octets may be
there or not, since disks and file systems write when and in which order they like; a file that grew
may be short, and one that was cut may be whole. A file that was removed or renamed may still have
its old name until the folder is synced. Shared memory (`-shm`) is gone.

This is the model of a disk, not of any file system; that a file which was made has its name is
taken for granted. It shows what kill -9 cannot: that a sync is missing or comes late.
"""

import random
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.debian import program, require

SECTOR = 512
_HEAD = struct.Struct("=4Q")
_WRITE, _TRUNCATE, _SYNC_BEGINS, _SYNC_ENDS, _MARK, _UNLINK, _RENAME = range(1, 8)
_FOLDER = "."
_SOURCE = Path(__file__).parent / "write_log.c"
_BUILT = Path(__file__).parents[1] / ".cache/fault/write_log.so"


def library() -> Path:
    """The library to preload, built if need be; without a compiler the test is skipped or fails."""
    require("gcc")
    compiler = program("cc")
    assert compiler is not None
    if not _BUILT.exists() or _BUILT.stat().st_mtime < _SOURCE.stat().st_mtime:
        _BUILT.parent.mkdir(parents=True, exist_ok=True)
        flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, "-o", _BUILT, _SOURCE, "-ldl"], check=True)
    return _BUILT


@dataclass(frozen=True, slots=True)
class _Step:
    kind: int
    name: str
    offset: int
    data: bytes


@dataclass(slots=True)
class _File:
    """One file at the moment of a cut: what is sure, and what may have happened since."""

    sure: bytearray = field(default_factory=bytearray)
    loose: list[_Step] = field(default_factory=list)
    syncing: int = 0
    """How many of the loose steps a sync that is under way covers."""

    def end_sync(self) -> None:
        for step in self.loose[: self.syncing]:
            _apply(self.sure, step)
        del self.loose[: self.syncing]
        self.syncing = 0

    def image(self, chance: random.Random) -> bytes:
        """The file with any part of what was not synced."""
        content = bytearray(self.sure)
        share = chance.choice((0.0, 0.3, 0.7, 0.95, 1.0))
        for step in self.loose:
            if step.kind == _TRUNCATE:
                if chance.random() < share:
                    _apply(content, step)
                continue
            for start in range(0, len(step.data), SECTOR):
                if chance.random() < share:
                    sector = step.data[start : start + SECTOR]
                    _apply(content, _Step(_WRITE, step.name, step.offset + start, sector))
        return bytes(content)


def _apply(content: bytearray, step: _Step) -> None:
    if step.kind == _TRUNCATE:
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
        return
    end = step.offset + len(step.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[step.offset : end] = step.data


@dataclass(frozen=True, slots=True)
class Image:
    """What a cut left: the files by name, and the promises that had been made before it."""

    files: dict[str, bytes]
    promises: tuple[str, ...]
    begun: tuple[str, ...]
    """All promises that were begun before the cut (`mark` lines that start with 'begin ')."""

    def restore(self, folder: Path) -> None:
        """Write the files into `folder`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class _Disk:
    """The folder's files by name, and what the process has promised."""

    def __init__(self) -> None:
        self.files: dict[str, _File] = {}
        self.marks: list[str] = []
        self._moved: list[tuple[str, str | None, _File]] = []
        """Renamed (to) or removed (None), and the folder not synced since."""

    def replay(self, step: _Step) -> None:
        """Let one step happen."""
        name = step.name
        if step.kind == _MARK:
            self.marks.append(name)
        elif name == _FOLDER:
            if step.kind == _SYNC_ENDS:
                self._moved.clear()
        elif name.endswith("-shm"):
            pass
        elif step.kind in (_UNLINK, _RENAME):
            target = step.data.decode() or None
            held = self.files.pop(name)
            self._moved.append((name, target, held))
            if target is not None:
                self.files[target] = held
        else:
            self._change(self.files.setdefault(name, _File()), step)

    def _change(self, held: _File, step: _Step) -> None:
        if step.kind == _SYNC_BEGINS:
            held.syncing = len(held.loose)
        elif step.kind == _SYNC_ENDS:
            held.end_sync()
        else:
            held.loose.append(step)

    def image(self, chance: random.Random) -> dict[str, bytes]:
        """The files as a cut now may leave them."""
        named = dict(self.files)
        for name, target, held in self._moved:
            if name not in named and chance.random() < 0.5:
                named[name] = held
                if target is not None and named.get(target) is held:
                    del named[target]
        return {name: held.image(chance) for name, held in named.items()}


class PowerCuts:
    """All cuts of one log."""

    def __init__(self, log: Path) -> None:
        self._steps = list(_read(log.read_bytes()))

    def __len__(self) -> int:
        return len(self._steps)

    def images(self, count: int, chance: random.Random) -> Iterator[Image]:
        """`count` images of cuts at random places, in the order of the places."""
        places = sorted(chance.randrange(1, len(self._steps) + 1) for _ in range(count))
        disk, done = _Disk(), 0
        for place in places:
            for step in self._steps[done:place]:
                disk.replay(step)
            done = place
            yield Image(
                disk.image(chance),
                tuple(mark for mark in disk.marks if not mark.startswith("begin ")),
                tuple(
                    mark.removeprefix("begin ") for mark in disk.marks if mark.startswith("begin ")
                ),
            )


def _read(log: bytes) -> Iterator[_Step]:
    position = 0
    while position < len(log):
        kind, name_length, offset, length = _HEAD.unpack_from(log, position)
        position += _HEAD.size
        name = log[position : position + name_length].decode()
        position += name_length
        yield _Step(kind, name, offset, log[position : position + length])
        position += length
