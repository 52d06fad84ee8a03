"""The log's writer never keeps the event loop waiting, whatever becomes of its reader."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from mailshed.linewriter import LineWriter

LINE = "x" * 199 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe as standard error is one: (read end, write end); the write end blocks."""
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            assert fd == reader, "only a test closes the reader itself"


def read_available(fd: int) -> bytes:
    """All that is in the pipe now."""
    os.set_blocking(fd, False)
    data = bytearray()
    while True:
        try:
            chunk = os.read(fd, 65536)
        except BlockingIOError:
            return bytes(data)
        if not chunk:
            return bytes(data)
        data += chunk


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition to hold."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a pipe sets no event
            await asyncio.sleep(0.005)


def test_writes_at_once_without_a_loop(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    LineWriter(fd).write("last words\n")
    assert read_available(reader) == b"last words\n"


async def test_writes_once_per_loop_iteration(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    writer = LineWriter(fd)
    writer.write("one\n")
    writer.write("two\n")
    assert read_available(reader) == b""
    await asyncio.sleep(0)
    assert read_available(reader) == b"one\ntwo\n"


async def test_a_stalled_reader_does_not_stop_the_loop_and_loses_only_what_does_not_fit(
    pipe: tuple[int, int],
) -> None:
    """1000 lines of 200 octets: a pipe holds 64 KiB, the buffer 50 000 octets more."""
    reader, fd = pipe
    writer = LineWriter(fd, octets_max=50_000)
    reports: list[int] = []
    writer.on_recovered = reports.append
    slowest = 0.0
    for _ in range(1000):
        begun = time.monotonic()
        writer.write(LINE)
        await asyncio.sleep(0)
        slowest = max(slowest, time.monotonic() - begun)
    assert slowest < 2.0, "a blocking write would have hung for ever"
    assert 0 < writer.dropped_total < 1000
    assert reports == [], "nothing is reported while the reader is stalled"

    received = bytearray()

    def all_arrived() -> bool:
        received.extend(read_available(reader))
        return len(received) == (1000 - writer.dropped_total) * len(LINE)

    await until(all_arrived)
    assert set(received.decode().splitlines()) == {LINE.rstrip()}, "lines stay whole"
    await until(lambda: reports == [writer.dropped_total])


async def test_a_reader_that_is_gone_costs_lines_and_nothing_else(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    writer = LineWriter(fd)
    writer.on_recovered = lambda lost: writer.write(f"{lost} lost\n")
    os.close(reader)
    for _ in range(3):
        writer.write(LINE)
    await asyncio.sleep(0)
    await until(lambda: writer.dropped_total == 3)
    assert writer.flush(0.0)


def test_a_reader_that_is_gone_does_not_raise_without_a_loop(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    os.close(reader)
    writer = LineWriter(fd)
    writer.on_recovered = lambda lost: writer.write(f"{lost} lost\n")
    writer.write(LINE)
    writer.write(LINE)
    assert writer.dropped_total == 2


def test_lines_longer_than_a_pipe_page_arrive_whole(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    writer = LineWriter(fd)
    writer.write("a" * 9000 + "\n")
    writer.write("b\n")
    assert read_available(reader) == b"a" * 9000 + b"\nb\n"


def test_flush_gives_up_after_its_timeout(pipe: tuple[int, int]) -> None:
    _, fd = pipe
    os.set_blocking(fd, False)
    while True:
        try:
            os.write(fd, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(fd, True)
    writer = LineWriter(fd)
    thread = threading.Thread(target=writer.write, args=(LINE,))
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert not writer.flush(0.0)


async def test_a_thread_that_waits_for_the_reader_does_not_hold_up_the_loop(
    pipe: tuple[int, int],
) -> None:
    """The lock that a waiting writer holds is never taken by the loop."""
    _, fd = pipe
    writer = LineWriter(fd)
    while writer.flush(0.0):
        for _ in range(100):
            writer.write(LINE)
    thread = threading.Thread(target=writer.write, args=(LINE,))
    thread.start()
    turns = 0
    while thread.is_alive():
        writer.write(LINE)
        await asyncio.sleep(0)
        turns += 1
    thread.join()
    assert turns > 20


def test_threads_do_not_mix_their_lines(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    writer = LineWriter(fd)
    received = bytearray()

    def talk(char: str) -> None:
        for _ in range(200):
            writer.write(char * 99 + "\n")

    threads = [threading.Thread(target=talk, args=(char,)) for char in "abc"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or not writer.flush(0.0):
        received += read_available(reader)
    received += read_available(reader)
    lines = received.decode().splitlines()
    assert sorted(lines) == sorted(char * 99 for char in "abc" for _ in range(200))
