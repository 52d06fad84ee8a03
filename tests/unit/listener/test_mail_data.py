"""Receiving mail data: what is kept, what is refused, and when it is enough."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailshed.listener.mail_data import DataInterrupted, MailDataReceiver
from mailshed.listener.reader import WireReader
from mailshed.mail import reply
from mailshed.mail.content import ContentStore
from tests.support.builders import content_store, session_limits
from tests.support.clock import ManualClock

LIMITS = session_limits(message_size_max=1000, data_rate_min=500, data_timeout=7.0)


class Fixture:
    """A receiver whose client sends what the test feeds, at the test's own time."""

    def __init__(self, folder: Path, **store: Any) -> None:
        self.reader = WireReader(asyncio.get_running_loop())
        self.clock = ManualClock()
        self.deadlines: list[float] = []
        self.store: ContentStore = content_store(folder, **store)
        self.content = self.store.new()

    def receiver(self, *, is_normalising: bool = False) -> MailDataReceiver:
        return MailDataReceiver(
            self.reader,
            LIMITS,
            is_normalising=is_normalising,
            now=self.clock.monotonic,
            expect_within=self.deadlines.append,
        )


@pytest.fixture
async def fixture(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


async def test_data_is_kept_as_it_came_and_what_follows_stays_readable(fixture: Fixture) -> None:
    fixture.reader.feed_data(b"Subject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n")
    assert await fixture.receiver().receive(fixture.content) is None
    assert b"".join(fixture.content.chunks_in_memory) == b"Subject: x\r\n\r\n..dot\r\n"
    assert fixture.reader.take_line() == b"QUIT\r\n"


async def test_each_wait_for_data_moves_the_deadline(fixture: Fixture) -> None:
    loop = asyncio.get_running_loop()
    work = loop.create_task(fixture.receiver().receive(fixture.content))
    await asyncio.sleep(0)
    assert fixture.deadlines == [LIMITS.data_timeout]
    fixture.reader.feed_data(b"a\r\n")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert fixture.deadlines == [LIMITS.data_timeout] * 2
    fixture.reader.feed_data(b".\r\n")
    assert await work is None


def too_long() -> Iterator[bytes]:
    yield b"x" * 998 + b"\r\n"
    yield b"y\r\n.\r\nNOOP\r\n"


async def test_an_oversize_message_is_read_to_its_end_and_refused(fixture: Fixture) -> None:
    for block in too_long():
        fixture.reader.feed_data(block)
    assert await fixture.receiver().receive(fixture.content) is reply.TOO_LARGE
    assert fixture.reader.take_line() == b"NOOP\r\n"
    assert fixture.store.memory.used == 0


async def test_a_message_without_end_is_cut_off(fixture: Fixture) -> None:
    fixture.reader.feed_data(b"x" * 2001)
    with pytest.raises(DataInterrupted) as caught:
        await fixture.receiver().receive(fixture.content)
    assert caught.value.last is reply.TOO_LARGE


async def test_a_bare_line_ending_is_refused_or_normalised(fixture: Fixture) -> None:
    fixture.reader.feed_data(b"a\nb\r\n.\r\n")
    assert await fixture.receiver().receive(fixture.content) is reply.BARE_LINE_ENDING
    kept = fixture.store.new()
    fixture.reader.feed_data(b"a\n.b\r\n.\r\n")
    assert await fixture.receiver(is_normalising=True).receive(kept) is None
    assert b"".join(kept.chunks_in_memory) == b"a\r\n..b\r\n"
    assert kept.is_normalised
    clean = fixture.store.new()
    fixture.reader.feed_data(b"a\r\n.\r\n")
    assert await fixture.receiver(is_normalising=True).receive(clean) is None
    assert not clean.is_normalised


async def test_no_room_is_a_reply_and_the_message_is_read_to_its_end(tmp_path: Path) -> None:
    full = Fixture(tmp_path, memory=0, disk=0)
    full.reader.feed_data(b"a\r\n.\r\nNOOP\r\n")
    assert await full.receiver().receive(full.content) is reply.NO_ROOM_FOR_CONTENT
    assert full.reader.take_line() == b"NOOP\r\n"


async def test_a_client_that_leaves_ends_it_without_a_word(fixture: Fixture) -> None:
    fixture.reader.feed_data(b"a\r\n")
    fixture.reader.feed_eof()
    with pytest.raises(DataInterrupted) as caught:
        await fixture.receiver().receive(fixture.content)
    assert caught.value.last is None


async def test_data_that_drips_is_too_slow_after_the_grace(fixture: Fixture) -> None:
    receiver = fixture.receiver()
    fixture.clock.advance(LIMITS.data_rate_grace + 1)
    fixture.reader.feed_data(b"a\r\n")
    with pytest.raises(DataInterrupted) as caught:
        await receiver.receive(fixture.content)
    assert caught.value.last is reply.TOO_SLOW


# Chunks.


async def test_a_chunk_is_so_many_octets_and_what_follows_stays_readable(fixture: Fixture) -> None:
    receiver = fixture.receiver()
    fixture.reader.feed_data(b"Subject: x\r\n\r\n.dot\r\n" + b"QUIT\r\n")
    assert await receiver.receive_chunk(fixture.content, 10) is None
    assert await receiver.receive_chunk(fixture.content, 10, is_last=True) is None
    assert b"".join(fixture.content.chunks_in_memory) == b"Subject: x\r\n\r\n..dot\r\n"
    assert fixture.reader.take_line() == b"QUIT\r\n"
    assert not fixture.content.is_normalised


async def test_many_small_chunks_cost_what_one_large_one_does(fixture: Fixture) -> None:
    """One octet is an object of 34 octets, and a place in a list."""
    receiver = fixture.receiver()
    fixture.reader.feed_data(900 * b"x")
    for number in range(900):
        assert await receiver.receive_chunk(fixture.content, 1, is_last=number == 899) is None
    assert fixture.content.chunks_in_memory == [900 * b"x" + b"\r\n"]


async def test_chunks_beyond_the_limit_are_read_and_refused_and_so_is_what_follows(
    fixture: Fixture,
) -> None:
    receiver = fixture.receiver()
    fixture.reader.feed_data(1500 * b"x" + b"NOOP\r\n")
    assert await receiver.receive_chunk(fixture.content, 1000) is None
    assert await receiver.receive_chunk(fixture.content, 1) is reply.TOO_LARGE
    assert fixture.store.memory.used == 0
    assert await receiver.receive_chunk(fixture.content, 499, is_last=True) is reply.TOO_LARGE
    assert fixture.reader.take_line() == b"NOOP\r\n"
    assert receiver.octets == 500, "what was kept once is not counted, since it was never written"


@pytest.mark.parametrize("sizes", [(2001,), (1000, 1001), (10**19,)])
async def test_what_is_beyond_all_bounds_is_not_even_read(
    fixture: Fixture, sizes: tuple[int, ...]
) -> None:
    receiver = fixture.receiver()
    fixture.reader.feed_data(1000 * b"x")
    *before, last = sizes
    for size in before:
        await receiver.receive_chunk(fixture.content, size)
    with pytest.raises(DataInterrupted) as interrupted:
        await receiver.receive_chunk(fixture.content, last)
    assert interrupted.value.last is reply.TOO_LARGE


async def test_dots_count_as_after_data(fixture: Fixture) -> None:
    """What would be too large after DATA is too large in chunks: the spool has one form."""
    receiver = fixture.receiver()
    fixture.reader.feed_data(300 * b".\r\n")
    assert await receiver.receive_chunk(fixture.content, 900, is_last=True) is reply.TOO_LARGE


@pytest.mark.parametrize("flaw", [b"a\nb", b"a\rb", b"a\0b", b"ab\r"])
async def test_a_flaw_refuses_the_message_unless_it_is_normalised(
    fixture: Fixture, flaw: bytes
) -> None:
    fixture.reader.feed_data(2 * flaw)
    refused = await fixture.receiver().receive_chunk(fixture.content, len(flaw), is_last=True)
    assert refused is reply.BARE_LINE_ENDING
    content = fixture.store.new()
    receiver = fixture.receiver(is_normalising=True)
    assert await receiver.receive_chunk(content, len(flaw), is_last=True) is None
    assert content.is_normalised
    content.close()


async def test_a_chunk_that_drips_ends_the_session(fixture: Fixture) -> None:
    receiver = fixture.receiver()
    work = asyncio.get_running_loop().create_task(receiver.receive_chunk(fixture.content, 100))
    await asyncio.sleep(0)
    assert fixture.deadlines == [LIMITS.data_timeout]
    fixture.clock.advance(LIMITS.data_rate_grace + 1)
    fixture.reader.feed_data(b"x")
    with pytest.raises(DataInterrupted) as interrupted:
        await work
    assert interrupted.value.last is reply.TOO_SLOW


async def test_chunks_that_drip_end_it_too(fixture: Fixture) -> None:
    """Each comes whole, so nobody ever waits for one."""
    receiver = fixture.receiver()
    for _ in range(3):
        fixture.reader.feed_data(b"x")
        await receiver.receive_chunk(fixture.content, 1)
    fixture.clock.advance(LIMITS.data_rate_grace + 1)
    fixture.reader.feed_data(b"x")
    with pytest.raises(DataInterrupted) as interrupted:
        await receiver.receive_chunk(fixture.content, 1)
    assert interrupted.value.last is reply.TOO_SLOW


async def test_small_chunks_at_a_good_pace_are_no_drip(tmp_path: Path) -> None:
    """Also those count that are not put together yet."""
    fixture = Fixture(tmp_path)
    limits = session_limits(data_rate_min=10, data_rate_grace=60.0)
    receiver = MailDataReceiver(
        fixture.reader,
        limits,
        is_normalising=False,
        now=fixture.clock.monotonic,
        expect_within=fixture.deadlines.append,
    )
    for _ in range(10):
        fixture.reader.feed_data(100 * b"x")
        assert await receiver.receive_chunk(fixture.content, 100) is None
        fixture.clock.advance(9.0)
    assert fixture.content.size == 0, "nothing was written so far"


async def test_a_client_that_leaves_in_a_chunk_has_sent_nothing(fixture: Fixture) -> None:
    fixture.reader.feed_data(b"half")
    fixture.reader.feed_eof()
    with pytest.raises(DataInterrupted) as interrupted:
        await fixture.receiver().receive_chunk(fixture.content, 8)
    assert interrupted.value.last is None


async def test_octets_that_nobody_wants_are_dropped_within_bounds(fixture: Fixture) -> None:
    receiver = fixture.receiver()
    fixture.reader.feed_data(b"12345NOOP\r\n")
    await receiver.drop(5)
    assert fixture.reader.take_line() == b"NOOP\r\n"
    assert receiver.octets == 5
    with pytest.raises(DataInterrupted):
        await receiver.drop(2 * LIMITS.message_size_max)
