"""Mail data in transit: what was written is what is read, and budgets are given back."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.errors import BudgetExceeded
from mailshed.mail.content import (
    CHUNK_OCTETS,
    RESERVED_SHARE,
    Budget,
    Content,
    ContentStore,
)
from mailshed.mail.header import OCTETS_MAX as HEAD_OCTETS
from tests.support.builders import content_store

DEADLINE = 10.0
HEAD_OCTETS_SMALL = 16


async def put(content: Content, chunk: bytes) -> None:
    """Append as the listener does."""
    if not content.write(chunk):
        await content.spill(chunk)


async def whole(content: Content) -> bytes:
    return b"".join([chunk async for chunk in content.chunks()])


def open_descriptors() -> set[Path]:
    """Descriptors of this process, by number; the one that the look itself takes is among them."""
    return set(Path("/proc/self/fd").iterdir())


async def eventually(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not is_so():  # noqa: ASYNC110 - a thread makes it so, without telling
            await asyncio.sleep(0.001)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return content_store(tmp_path, memory=200_000, disk=1_000_000, memory_per_message=100_000)


@pytest.fixture(autouse=True)
def _no_descriptor_leaks() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() <= before


# Budgets.


def test_a_budget_is_never_passed() -> None:
    budget = Budget(10)
    assert budget.take(4)
    assert budget.take(6)
    assert not budget.take(1)
    assert budget.take(0)
    assert (budget.used, budget.peak) == (10, 10)


def test_what_does_not_fit_takes_nothing() -> None:
    budget = Budget(10, used=5)
    assert not budget.take(6)
    assert budget.used == 5


def test_a_share_can_be_kept_free() -> None:
    budget = Budget(10)
    assert budget.take(8, keep_free=2)
    assert not budget.take(1, keep_free=2)
    assert budget.take(2)


def test_the_peak_stays_when_octets_come_back() -> None:
    budget = Budget(10)
    budget.take(7)
    budget.give_back(7)
    assert (budget.used, budget.peak) == (0, 7)


def test_giving_back_twice_is_a_mistake_of_ours() -> None:
    budget = Budget(10, used=3)
    with pytest.raises(AssertionError):
        budget.give_back(4)


# Memory.


async def test_a_small_message_stays_in_memory(store: ContentStore) -> None:
    content = store.new()
    assert content.write(b"one")
    assert content.write(b"two")
    assert not content.is_spilled
    assert content.chunks_in_memory == [b"one", b"two"]
    assert content.head == b"onetwo"
    assert await content.read_head() == b"onetwo"
    assert await whole(content) == b"onetwo"
    assert (content.size, store.memory.used, store.disk.used) == (6, 6, 0)
    content.close()
    assert (store.memory.used, store.disk.used) == (0, 0)


async def test_an_empty_message_is_one(store: ContentStore) -> None:
    content = store.new()
    assert (content.head, await content.read_head(), await whole(content)) == (b"", b"", b"")
    content.close()


def test_a_message_over_its_own_limit_does_not_fit_in_memory(store: ContentStore) -> None:
    content = store.new()
    assert content.write(b"x" * 100_000)
    assert not content.write(b"x")
    assert (content.size, store.memory.used) == (100_000, 100_000)
    content.close()


def test_messages_over_the_common_limit_do_not_fit_in_memory(store: ContentStore) -> None:
    contents = [store.new() for _ in range(3)]
    assert [content.write(b"x" * 80_000) for content in contents] == [True, True, False]
    for content in contents:
        content.close()
    assert store.memory.used == 0


# Spilling.


async def test_a_large_message_keeps_its_head_in_memory(store: ContentStore) -> None:
    content = store.new()
    data = os.urandom(300_000)
    for start in range(0, len(data), 50_000):
        await put(content, data[start : start + 50_000])
    assert content.is_spilled
    assert content.size == len(data)
    assert content.head == data[:HEAD_OCTETS]
    assert await content.read_head() == data[:HEAD_OCTETS]
    assert (store.memory.used, store.disk.used) == (HEAD_OCTETS, len(data) - HEAD_OCTETS)
    assert await whole(content) == data
    assert await whole(content) == data, "it can be read again"
    content.close()
    assert (store.memory.used, store.disk.used) == (0, 0)


async def test_a_first_chunk_that_is_too_large_for_memory_leaves_its_head_there(
    store: ContentStore,
) -> None:
    """Else a fast client's header would not be seen: not its class, and not a loop."""
    content = store.new()
    data = os.urandom(150_000)
    assert not content.write(data)
    await content.spill(data)
    assert content.head == data[:HEAD_OCTETS]
    assert await whole(content) == data
    content.close()


@pytest.mark.parametrize("octets", [100, HEAD_OCTETS, HEAD_OCTETS + 1, 300_000])
async def test_the_head_is_found_on_disk_when_there_is_no_memory(
    store: ContentStore, octets: int
) -> None:
    """Under load, when it matters most what a message is, there may be no memory to keep it in."""
    assert store.memory.take(store.memory.limit)
    content = store.new()
    data = os.urandom(octets)
    await put(content, data)
    assert content.head == b""
    assert await content.read_head() == data[:HEAD_OCTETS]
    assert await whole(content) == data
    assert store.memory.used == store.memory.limit
    content.close()
    store.memory.give_back(store.memory.limit)
    assert (store.memory.used, store.disk.used) == (0, 0)


async def test_the_head_is_put_together_from_memory_and_disk(store: ContentStore) -> None:
    content = store.new()
    data = os.urandom(90_000)
    assert content.write(data[:1000])
    assert store.memory.take(store.memory.limit - 1000)  # somebody else takes the rest
    await put(content, data[1000:])
    assert content.head == data[:1000]
    assert await content.read_head() == data[:HEAD_OCTETS]
    assert await whole(content) == data
    content.close()


async def test_after_the_first_spill_everything_goes_to_the_file(store: ContentStore) -> None:
    """Or the order would be lost."""
    content = store.new()
    await content.spill(b"x" * 100_000)
    assert not content.write(b"y")
    content.close()


async def test_what_comes_then_is_gathered_and_written_together(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread costs more than what it writes; but a message never has more than its memory."""
    sizes: list[int] = []
    real = os.writev

    def write(descriptor: int, pieces: Any) -> int:
        sizes.append(real(descriptor, pieces))
        return sizes[-1]

    monkeypatch.setattr(os, "writev", write)
    content = store.new()
    data = os.urandom(250_000)
    assert content.write(data[:100_000])
    await content.spill(data[100_000:110_000])
    for start in range(110_000, len(data), 10_000):
        await put(content, data[start : start + 10_000])
        assert store.memory.used <= store.memory_per_message
        assert store.memory.used + store.disk.used == content.size
    assert sizes == [110_000 - HEAD_OCTETS, 40_000, 40_000, 40_000]
    assert content.head == data[:HEAD_OCTETS]
    assert await whole(content) == data, "the last of it is still in memory"
    content.close()
    assert (store.memory.used, store.disk.used) == (0, 0)


async def test_nothing_is_gathered_when_memory_is_short(store: ContentStore) -> None:
    content = store.new()
    await content.spill(bytes(100_000))
    assert store.memory.take(store.memory.limit - store.memory.used)
    await content.spill(b"x")
    assert (store.memory.used, store.disk.used) == (store.memory.limit, 100_001 - HEAD_OCTETS)
    content.close()


async def test_the_head_is_put_together_from_disk_and_what_was_gathered(
    store: ContentStore,
) -> None:
    assert store.memory.take(store.memory.limit)
    content = store.new()
    await content.spill(b"a" * 10)
    store.memory.give_back(store.memory.limit)
    await content.spill(b"b" * HEAD_OCTETS)
    assert content.head == b""
    assert await content.read_head() == b"a" * 10 + b"b" * (HEAD_OCTETS - 10)
    content.close()


async def test_more_pieces_than_one_call_takes_are_written(store: ContentStore) -> None:
    """Of a client that sends octet by octet."""
    content = store.new()
    data = os.urandom(HEAD_OCTETS + 3000)
    assert content.write(data[:HEAD_OCTETS])
    for octet in data[HEAD_OCTETS:]:
        assert content.write(bytes((octet,)))
    await content.spill(data)
    assert await whole(content) == data + data
    content.close()


async def test_a_file_is_read_back_in_bounded_pieces(store: ContentStore) -> None:
    content = store.new()
    await put(content, bytes(HEAD_OCTETS + 2 * CHUNK_OCTETS + 1))
    sizes = [len(chunk) async for chunk in content.chunks()]
    assert sizes == [HEAD_OCTETS, CHUNK_OCTETS, CHUNK_OCTETS, 1]
    content.close()


async def test_the_file_has_no_name(store: ContentStore) -> None:
    """So it vanishes with the process."""
    content = store.new()
    await content.spill(bytes(100_000))
    assert list(store.folder.iterdir()) == []
    content.close()


async def test_closing_twice_is_closing_once(store: ContentStore) -> None:
    other = store.new()
    await other.spill(bytes(100_000))
    content = store.new()
    await content.spill(bytes(100_000))
    content.close()
    content.close()
    assert store.memory.used == HEAD_OCTETS
    assert store.disk.used == 100_000 - HEAD_OCTETS
    other.close()
    assert (store.memory.used, store.disk.used) == (0, 0)


async def test_a_file_that_lost_its_end_is_noticed(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = store.new()
    await content.spill(bytes(100_000))
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    with pytest.raises(OSError, match="shorter"):
        await whole(content)
    monkeypatch.setattr(os, "preadv", refusing(errno.EAGAIN))
    monkeypatch.setattr(os, "pread", lambda *_: b"")
    with pytest.raises(OSError, match="shorter"):
        await whole(content)
    content.close()


def refusing(error: int) -> Callable[..., int]:
    """An os.preadv that says why it does not read."""

    def read(*_: Any) -> int:
        raise OSError(error, os.strerror(error))

    return read


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.EOPNOTSUPP])
async def test_what_the_page_cache_does_not_have_is_read_by_a_thread(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Never by the event loop, on which all other sessions wait."""
    threads: set[int] = set()
    real = os.pread

    def read(*words: Any) -> bytes:
        threads.add(threading.get_ident())
        return real(*words)

    monkeypatch.setattr(os, "preadv", refusing(error))
    monkeypatch.setattr(os, "pread", read)
    content = store.new()
    data = os.urandom(HEAD_OCTETS + CHUNK_OCTETS + 1)
    await content.spill(data)
    assert await whole(content) == data
    assert threads
    assert threading.get_ident() not in threads
    content.close()


async def test_a_disk_that_cannot_be_read_is_an_error(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "preadv", refusing(errno.EIO))
    content = store.new()
    await content.spill(bytes(100_000))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        await whole(content)
    content.close()


# The disk budget.


async def test_over_the_disk_budget_the_message_is_refused(tmp_path: Path) -> None:
    store = content_store(tmp_path, memory=0, disk=1000)
    content = store.new(is_privileged=True)
    await content.spill(bytes(1000))
    with pytest.raises(BudgetExceeded):
        await content.spill(b"x")
    assert store.disk.used == 1000
    content.close()
    assert store.disk.used == 0


async def test_the_last_share_of_the_disk_is_for_privileged_clients(tmp_path: Path) -> None:
    store = content_store(tmp_path, memory=0, disk=1000)
    common, privileged = store.new(), store.new(is_privileged=True)
    free_for_all = 1000 - int(1000 * RESERVED_SHARE)
    await common.spill(bytes(free_for_all))
    with pytest.raises(BudgetExceeded, match=r"900 of 1000 octets are used, 100 are kept"):
        await common.spill(b"x")
    await privileged.spill(bytes(1000 - free_for_all))
    assert store.disk.used == 1000
    common.close()
    privileged.close()
    assert store.disk.used == 0


async def test_a_message_that_is_refused_by_the_budget_keeps_what_it_has_until_it_is_closed(
    tmp_path: Path,
) -> None:
    """Its first spill would move octets from memory to disk: refused, they stay where they were."""
    store = content_store(tmp_path, memory=200_000, disk=10, memory_per_message=100_000)
    content = store.new()
    data = os.urandom(90_000)
    assert content.write(data)
    with pytest.raises(BudgetExceeded):
        await content.spill(bytes(20_000))
    assert (store.memory.used, store.disk.used) == (90_000, 0)
    assert await whole(content) == data
    content.close()
    assert store.memory.used == 0


# A disk that is full or broken.


def failing(error: int, *, after: int) -> Callable[[int, Any], int]:
    """An os.writev that takes `after` octets and then fails."""
    left = after

    def write(descriptor: int, pieces: Any) -> int:
        nonlocal left
        if left == 0:
            raise OSError(error, os.strerror(error))
        written = os.write(descriptor, b"".join(pieces)[:left])
        left -= written
        return written

    return write


@pytest.mark.parametrize("after", [0, 1, 100_000])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
async def test_a_disk_that_is_full_refuses_the_message_and_leaks_nothing(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch, error: int, after: int
) -> None:
    content = store.new()
    if after == 100_000:  # the first write is all right, a later one is not
        await content.spill(bytes(100_000))
        after = 0
    monkeypatch.setattr(os, "writev", failing(error, after=after))
    with pytest.raises(BudgetExceeded, match=r"cannot write") as caught:
        await content.spill(bytes(100_000))
    assert isinstance(caught.value.__cause__, OSError)
    content.close()
    assert (store.memory.used, store.disk.used) == (0, 0)


async def test_a_folder_that_is_gone_refuses_the_message(store: ContentStore) -> None:
    store.folder.rmdir()
    content = store.new()
    with pytest.raises(BudgetExceeded):
        await content.spill(bytes(100_000))
    content.close()
    assert (store.memory.used, store.disk.used) == (0, 0)


def without_tmpfile(error: int) -> Callable[..., int]:
    """An os.open on a file system that knows no files without a name."""
    real = os.open

    def opened(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(error, os.strerror(error), str(path))
        return real(path, flags, mode, **options)

    return opened


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT])
async def test_where_files_need_a_name_they_have_one_for_a_moment(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Otherwise every large message would be refused for ever."""
    monkeypatch.setattr(os, "open", without_tmpfile(error))
    content = store.new()
    data = os.urandom(100_000)
    await content.spill(data)
    assert list(store.folder.iterdir()) == []
    assert await whole(content) == data
    content.close()
    assert (store.memory.used, store.disk.used) == (0, 0)


@pytest.mark.parametrize("error", [errno.EACCES, errno.EMFILE, errno.EROFS])
async def test_other_faults_of_opening_are_told_and_not_worked_around(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """The text is for the log: it names the folder and what the system said."""
    monkeypatch.setattr(os, "open", without_tmpfile(error))
    content = store.new()
    with pytest.raises(BudgetExceeded) as caught:
        await content.spill(bytes(100_000))
    assert os.strerror(error) in str(caught.value)
    assert str(store.folder) in str(caught.value)
    content.close()


async def test_a_file_that_cannot_lose_its_name_is_closed(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "no unlink")

    monkeypatch.setattr(os, "open", without_tmpfile(errno.EOPNOTSUPP))
    monkeypatch.setattr(Path, "unlink", refuse)
    content = store.new()
    with pytest.raises(BudgetExceeded, match="no unlink"):
        await content.spill(bytes(100_000))
    content.close()


async def test_short_writes_are_continued(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "writev", lambda fd, pieces: os.write(fd, b"".join(pieces)[:7]))
    content = store.new()
    data = os.urandom(HEAD_OCTETS + 1000)
    await content.spill(data)
    assert await whole(content) == data
    content.close()


# A client that leaves while a thread writes for it.


class _SlowDisk:
    """An os.writev that stops until it is let go on; remembers the descriptor it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.descriptor = -1
        self._file = -1
        self.begun = threading.Event()
        self.may_go_on = threading.Event()
        self._real = os.writev
        monkeypatch.setattr(os, "writev", self._write)

    def _write(self, descriptor: int, pieces: Any) -> int:
        self.descriptor = descriptor
        self._file = os.fstat(descriptor).st_ino
        self.begun.set()
        assert self.may_go_on.wait(DEADLINE)
        return self._real(descriptor, pieces)

    @property
    def is_open(self) -> bool:
        try:
            return os.fstat(self.descriptor).st_ino == self._file
        except OSError:
            return False


async def test_a_file_is_not_closed_while_a_thread_writes_to_it(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a descriptor that was closed is given to the next socket: another client's."""
    disk = _SlowDisk(monkeypatch)
    content = store.new()
    async with asyncio.TaskGroup() as group:
        session = group.create_task(content.spill(bytes(100_000)))
        await eventually(disk.begun.is_set)
        session.cancel()
    content.close()
    assert disk.is_open
    disk.may_go_on.set()
    await eventually(lambda: not disk.is_open)
    assert (store.memory.used, store.disk.used) == (0, 0)


async def test_the_event_loop_does_not_wait_until_a_large_file_is_freed(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    real = os.close

    def close(descriptor: int) -> None:
        threads.append(threading.get_ident())
        real(descriptor)

    monkeypatch.setattr("mailshed.mail.content.CLOSED_BY_THREAD_OCTETS", 300_000)
    for octets in (299_999, 300_000):
        content = store.new()
        await content.spill(bytes(HEAD_OCTETS + octets))
        monkeypatch.setattr(os, "close", close)
        content.close()
        await eventually(lambda: bool(threads))
        monkeypatch.setattr(os, "close", real)
        is_here = threads.pop() == threading.get_ident()
        assert is_here == (octets < 300_000)


async def test_a_thread_that_comes_too_late_finds_the_file_closed(store: ContentStore) -> None:
    content = store.new()
    await content.spill(bytes(100_000))
    file = content._file
    assert file is not None
    content.close()
    with pytest.raises(OSError, match="closed"):
        file.append([b"x"])
    with pytest.raises(OSError, match="closed"):
        file.read(1, 0)


# Any sequence.

steps = st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=40) | st.just(None)), max_size=30)

# The memory budget, the disk budget, and the memory for one message.
budgets = st.tuples(st.integers(0, 60), st.integers(0, 200), st.integers(1, 40))


@settings(deadline=None, max_examples=200)
@given(
    steps,
    budgets,
    st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_after_any_sequence_the_data_is_right_and_the_budgets_return_to_zero(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, bytes | None]],
    budgets: tuple[int, int, int],
    privileges: list[bool],
) -> None:
    """Three messages write chunks or are closed (None), and the budgets are too small for them."""
    memory, disk, memory_per_message = budgets
    store = content_store(
        tmp_path_factory.getbasetemp(),
        memory=memory,
        disk=disk,
        memory_per_message=memory_per_message,
    )

    async def run() -> None:
        contents = [store.new(is_privileged=each) for each in privileges]
        written = [b"", b"", b""]
        is_usable = [True, True, True]
        for which, chunk in steps:
            content = contents[which]
            if chunk is None:
                content.close()
                contents[which] = store.new(is_privileged=privileges[which])
                written[which], is_usable[which] = b"", True
            elif is_usable[which]:
                try:
                    await put(content, chunk)
                    written[which] += chunk
                except BudgetExceeded:
                    is_usable[which] = False
            assert 0 <= store.memory.used <= memory
            assert 0 <= store.disk.used <= disk
        for content, data, is_good in zip(contents, written, is_usable, strict=True):
            if is_good:
                assert content.size == len(data)
                assert await whole(content) == data
                assert data.startswith(content.head)
                head = await content.read_head()
                assert data.startswith(head)
                assert len(head) >= min(len(data), HEAD_OCTETS_SMALL)
            content.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mailshed.mail.content.HEAD_OCTETS", HEAD_OCTETS_SMALL)
        asyncio.run(run())
    assert (store.memory.used, store.disk.used) == (0, 0)
