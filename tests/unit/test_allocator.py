"""Memory goes back to the kernel; a C library that cannot do it is left alone."""

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mailshed import allocator

MEBIBYTE = 1024 * 1024

HOLES = """
from pathlib import Path
from mailshed import allocator

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

allocator.begin()
pieces = [bytes(20_000) for _ in range(4_000)]
pieces = pieces[::8]
before = resident()
allocator.give_back()
print(before - resident())
"""

HEAPS = """
import threading
from mailshed import allocator

allocator.begin()
kept = []
start = threading.Barrier(8)

def keep():
    start.wait()
    kept.extend(bytes(50_000) for _ in range(20))
    start.wait()

threads = [threading.Thread(target=keep) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
addresses = [id(piece) for piece in kept]
print(max(addresses) - min(addresses))
"""


def run(script: str) -> int:
    """The number that a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.skipif(os.sysconf("SC_PAGE_SIZE") != 4096, reason="counts pages of 4 KiB")
def test_what_is_free_between_what_is_used_goes_back_to_the_kernel() -> None:
    assert run(HOLES) > 20 * MEBIBYTE


def test_all_threads_share_one_heap() -> None:
    assert run(HEAPS) < 64 * MEBIBYTE  # heaps of threads are mapped 64 MiB apart or more


@pytest.mark.parametrize("error", [OSError("no"), MemoryError("no")])
def test_a_library_that_may_not_be_called_is_left_alone(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_name: None) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    allocator.begin()
    allocator.give_back()


def test_a_library_without_such_functions_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace())
    allocator.begin()
    allocator.give_back()
