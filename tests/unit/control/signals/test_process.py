"""Used and limit are what the kernel says, and what it does not say is no alarm."""

import os
import resource
from pathlib import Path

import pytest

from mailshed.control.signals.process import PAUSE_SECONDS, SLICE, ProcessMeter, ProcessUsage

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Kernel:
    """A /proc and a /sys/fs/cgroup of files."""

    def __init__(self, root: Path) -> None:
        self.proc, self.cgroups = root / "proc", root / "cgroup"
        (self.proc / "self/fd").mkdir(parents=True)
        self.cgroups.mkdir()
        for number in range(7):
            (self.proc / "self/fd" / str(number)).touch()
        (self.proc / "self/statm").write_text("900 25 10 1 0 60 0\n")
        (self.proc / "self/cgroup").write_text("0::/system.slice/mailshed.service\n")

    def limit(self, group: str, text: str) -> None:
        folder = self.cgroups / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(text)

    def meter(self, *, is_counting: bool = False) -> ProcessMeter:
        return ProcessMeter(proc=self.proc, cgroups=self.cgroups, is_counting=is_counting)

    def usage(self) -> ProcessUsage:
        return self.meter().look(0.0)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_what_is_used_is_counted(kernel: Kernel) -> None:
    usage = kernel.usage()
    assert (usage.files, usage.memory) == (7, 25 * PAGE)


def test_the_soft_limit_of_files_is_the_one_that_binds(kernel: Kernel) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        assert kernel.usage().files_max == soft - 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_a_control_group_the_machine_is_the_limit(kernel: Kernel) -> None:
    assert kernel.usage().memory_max == MACHINE
    kernel.limit("system.slice/mailshed.service", "max\n")
    assert kernel.usage().memory_max == MACHINE


@pytest.mark.parametrize("group", ["system.slice/mailshed.service", "system.slice", ""])
def test_the_lowest_limit_of_all_control_groups_counts(kernel: Kernel, group: str) -> None:
    kernel.limit("system.slice/mailshed.service", "max\n")
    kernel.limit(group, "1048576\n")
    assert kernel.usage().memory_max == 1048576


def test_control_groups_of_version_1_are_not_understood_and_do_no_harm(kernel: Kernel) -> None:
    (kernel.proc / "self/cgroup").write_text("9:memory:/x\n1:name=systemd:/y\n")
    kernel.limit("x", "1048576\n")
    assert kernel.usage().memory_max == MACHINE


def test_a_kernel_that_shows_nothing_is_no_alarm(tmp_path: Path) -> None:
    usage = ProcessMeter(proc=tmp_path / "no", cgroups=tmp_path / "no").look(0.0)
    assert (usage.files, usage.memory) == (0, 0)
    assert usage.memory_max == MACHINE


def test_a_look_costs_nothing_between_two_measurements(kernel: Kernel) -> None:
    meter = kernel.meter()
    first = meter.look(100.0)
    (kernel.proc / "self/fd/99").touch()
    assert meter.look(100.0 + PAUSE_SECONDS - 0.1) is first
    assert meter.look(100.0 + PAUSE_SECONDS).files == first.files + 1


def test_thousands_of_files_are_listed_slice_by_slice(kernel: Kernel) -> None:
    for number in range(100, 100 + 2 * SLICE):
        (kernel.proc / "self/fd" / str(number)).touch()
    meter = kernel.meter()
    seen = [meter.look(100.0 + number / 4).files for number in range(4)]
    assert seen == [0, 0, 2 * SLICE + 7, 2 * SLICE + 7]
    (kernel.proc / "self/fd/0").unlink()
    later = [meter.look(100.0 + PAUSE_SECONDS + number / 4).files for number in range(3)]
    assert later == [2 * SLICE + 7, 2 * SLICE + 7, 2 * SLICE + 6]


def test_a_kernel_that_counts_is_asked_for_the_number(kernel: Kernel) -> None:
    meter = kernel.meter(is_counting=True)
    assert meter.look(0.0).files == (kernel.proc / "self/fd").stat().st_size


@pytest.mark.parametrize("is_counting", [True, False])
def test_both_ways_see_a_file_that_is_opened(is_counting: bool, tmp_path: Path) -> None:
    if is_counting and not Path("/proc/self/fd").stat().st_size:
        pytest.skip("this kernel does not count")
    before = ProcessMeter(is_counting=is_counting).look(0.0).files
    with (tmp_path / "file").open("w"):
        assert ProcessMeter(is_counting=is_counting).look(0.0).files == before + 1


def test_this_very_process_is_seen() -> None:
    usage = ProcessMeter().look(0.0)
    assert 0 < usage.files < usage.files_max
    assert 10 * 1024**2 < usage.memory < usage.memory_max
