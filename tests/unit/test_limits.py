"""The limit of open files is what the kernel allows, and never less than before."""

import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailshed.limits import FILES_EXPECTED, make_room_for_files, raise_file_limit

FILES = resource.RLIMIT_NOFILE


@pytest.fixture(autouse=True)
def low() -> Iterator[tuple[int, int]]:
    """A soft limit below the hard one, put back afterwards."""
    before = resource.getrlimit(FILES)
    lowered = (before[1] - 1, before[1])
    resource.setrlimit(FILES, lowered)
    yield lowered
    resource.setrlimit(FILES, before)


def test_the_soft_limit_becomes_the_hard_limit(low: tuple[int, int]) -> None:
    assert raise_file_limit() == low[1]
    assert resource.getrlimit(FILES) == (low[1], low[1])


def test_a_limit_that_is_high_already_is_left(
    low: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert raise_file_limit() == low[1]
    monkeypatch.delattr(resource, "setrlimit")
    try:
        assert raise_file_limit() == low[1]
    finally:
        monkeypatch.undo()


@pytest.mark.parametrize("error", [PermissionError("no"), ValueError("no")])
def test_a_kernel_that_refuses_leaves_the_limit_as_it_was(
    low: tuple[int, int], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(resource, "setrlimit", refuse)
        assert raise_file_limit() == low[0]
    assert resource.getrlimit(FILES) == low


def files_in_table() -> int:
    """How many files the kernel's table has room for (FDSize in /proc/self/status)."""
    status = Path("/proc/self/status").read_text()
    (size,) = [line.split()[1] for line in status.splitlines() if line.startswith("FDSize:")]
    return int(size)


def test_the_table_of_files_is_made_large_at_once() -> None:
    """In a process of its own, since a table never shrinks."""
    script = (
        "from mailshed.limits import make_room_for_files, raise_file_limit\n"
        "from tests.unit.test_limits import files_in_table\n"
        "make_room_for_files(raise_file_limit())\n"
        "print(files_in_table())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) >= min(FILES_EXPECTED, resource.getrlimit(FILES)[1])


def test_no_file_is_left_open() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    make_room_for_files(600)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("place", ["open", "fcntl"])
def test_where_no_room_can_be_made_the_service_starts_all_the_same(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError("no")

    monkeypatch.setattr(os if place == "open" else fcntl, place, refuse)
    make_room_for_files(600)
