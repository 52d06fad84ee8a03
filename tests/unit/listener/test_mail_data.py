"""Receiving mail data: what is kept, what is refused, and when it is enough."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailshed.listener.mail_data import (
    DATA_RATE_GRACE,
    DataInterrupted,
    MailDataReceiver,
)
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
    fixture.clock.advance(DATA_RATE_GRACE + 1)
    fixture.reader.feed_data(b"a\r\n")
    with pytest.raises(DataInterrupted) as caught:
        await receiver.receive(fixture.content)
    assert caught.value.last is reply.TOO_SLOW
