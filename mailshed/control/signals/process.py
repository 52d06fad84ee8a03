"""What the process uses of what the kernel grants it: open files and memory.

Both end badly and without warning: without a descriptor accept(2) fails and clients hang, without
memory the kernel kills the process. So they are measured like every other limit.

The limit of memory is the lowest `memory.max` from our control group up to the root, which is where
systemd's `MemoryMax=` and a container's limit stand, else the memory of the machine. What cannot be
read counts as 0 used of 0: nobody is alarmed by a number that is not there.

Looking costs a listing of /proc/self/fd, so it is done every `PAUSE_SECONDS` and not at every
snapshot. Sources: proc(5); the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

import os
import resource
from dataclasses import dataclass
from pathlib import Path

PAUSE_SECONDS = 5.0

_PAGE_OCTETS = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUsage:
    """Used and limit of each; memory in octets, as resident in RAM."""

    files: int = 0
    files_max: int = 0
    memory: int = 0
    memory_max: int = 0


class ProcessMeter:
    """Looks at this process; `proc` and `cgroups` are where the kernel shows itself."""

    def __init__(
        self, *, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
    ) -> None:
        self._proc = proc / "self"
        self._cgroups = cgroups
        self._last: tuple[float, ProcessUsage] | None = None

    def look(self, now: float) -> ProcessUsage:
        """What is used at monotonic time `now`, or was at most `PAUSE_SECONDS` ago."""
        if self._last is None or now - self._last[0] >= PAUSE_SECONDS:
            self._last = (now, self._measure())
        return self._last[1]

    def _measure(self) -> ProcessUsage:
        files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return ProcessUsage(
            files=self._files(),
            files_max=0 if files_max == resource.RLIM_INFINITY else files_max,
            memory=self._memory(),
            memory_max=self._memory_max(),
        )

    def _files(self) -> int:
        try:
            with os.scandir(self._proc / "fd") as entries:
                return sum(1 for _ in entries)
        except OSError:
            return 0

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
