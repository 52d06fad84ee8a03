"""What the process uses of what the kernel grants it: open files and memory.

Both end badly and without warning: without a descriptor accept(2) fails and clients hang, without
memory the kernel kills the process. So they are measured like every other limit.

The limit of memory is the lowest `memory.max` from our control group up to the root, which is where
systemd's `MemoryMax=` and a container's limit stand, else the memory of the machine. What cannot be
read counts as 0 used of 0: nobody is alarmed by a number that is not there.

Looking is done every `PAUSE_SECONDS` and not at every snapshot. Since Linux 6.2 the size of
/proc/self/fd says how many files are open. Before that it has to be listed, which takes up to 20 ms
for ten thousand, and all sessions wait meanwhile; so `SLICE` files are listed at each snapshot, and
their number is known a few seconds later.
Sources: proc_pid_fd(5); the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

PAUSE_SECONDS = 5.0
SLICE = 500
"""Files that are listed in one go: a millisecond."""

_PAGE_OCTETS = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUsage:
    """Used and limit of each; memory in octets, as resident in RAM."""

    files: int = 0
    files_max: int = 0
    memory: int = 0
    memory_max: int = 0


class ProcessMeter:
    """Looks at this process; `proc` and `cgroups` are where the kernel shows itself.

    `is_counting`: whether it counts open files for us; None to find out.
    """

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        cgroups: Path = Path("/sys/fs/cgroup"),
        is_counting: bool | None = None,
    ) -> None:
        self._proc = proc / "self"
        self._cgroups = cgroups
        self._is_counting = self._size_of_files() > 0 if is_counting is None else is_counting
        self._measured: float | None = None
        self._last = ProcessUsage()
        self._slices: Iterator[int | None] = iter(())

    def look(self, now: float) -> ProcessUsage:
        """What is used at monotonic time `now`, or was at most `PAUSE_SECONDS` ago."""
        if self._measured is None or now - self._measured >= PAUSE_SECONDS:
            self._measured = now
            self._last = self._measure()
            if not self._is_counting:
                self._slices = self._list_files()
        files = next(self._slices, None)
        if files is not None:
            self._last = replace(self._last, files=files)
        return self._last

    def _measure(self) -> ProcessUsage:
        files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return ProcessUsage(
            files=self._size_of_files() if self._is_counting else self._last.files,
            files_max=0 if files_max == resource.RLIM_INFINITY else files_max,
            memory=self._memory(),
            memory_max=self._memory_max(),
        )

    def _size_of_files(self) -> int:
        try:
            return (self._proc / "fd").stat().st_size
        except OSError:
            return 0

    def _list_files(self) -> Iterator[int | None]:
        """Slice by slice; a number comes with the last."""
        try:
            with os.scandir(self._proc / "fd") as entries:
                count = 0
                while (listed := sum(1 for _ in islice(entries, SLICE))) == SLICE:
                    count += listed
                    yield None
                yield count + listed
        except OSError:
            yield 0

    def _memory(self) -> int:
        try:
            return int((self._proc / "statm").read_text().split()[1]) * _PAGE_OCTETS
        except (OSError, ValueError, IndexError):
            return 0

    def _memory_max(self) -> int:
        """The lowest limit there is; `max` in a control group is none."""
        limits = [_number(path) for path in self._limit_files()]
        machine = os.sysconf("SC_PHYS_PAGES") * _PAGE_OCTETS
        return min([machine, *(limit for limit in limits if limit is not None)])

    def _limit_files(self) -> list[Path]:
        """`memory.max` of our control group and of all above it, if this is a system of version 2.

        A line of /proc/self/cgroup there is `0::/system.slice/mailshed.service`.
        """
        try:
            lines = (self._proc / "cgroup").read_text().splitlines()
        except OSError:
            return []
        places = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
        return [
            self._cgroups / folder / "memory.max"
            for place in places
            for folder in (Path(place), *Path(place).parents)
        ]


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
