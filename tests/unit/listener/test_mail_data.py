"""Receiving mail data: what is kept, what is refused, and when it is enough."""

from pathlib import Path
from typing import Any

import pytest

from mailshed.config.policy import SessionLimits
from mailshed.listener.mail_data import DataInterrupted, MailDataReceiver
from mailshed.mail import reply
from mailshed.mail.content import Content, ContentStore
from mailshed.mail.reply import Reply
from tests.support.builders import content_store, session_limits
from tests.support.clock import ManualClock

LIMITS = session_limits(message_size_max=1000, data_rate_min=500, data_timeout=7.0)


class Fixture:
    """A receiver that is fed at the test's own time."""

    def __init__(self, folder: Path, **store: Any) -> None:
        self.clock = ManualClock()
        self.store: ContentStore = content_store(folder, **store)
        self.content = self.store.new()

    def receiver(
        self, *, is_normalising: bool = False, limits: SessionLimits = LIMITS
    ) -> MailDataReceiver:
        return MailDataReceiver(limits, is_normalising=is_normalising, now=self.clock.monotonic)


def fed_chunk(
    receiver: MailDataReceiver, content: Content, octets: bytes, *, is_last: bool = False
) -> Reply | None:
    """Feed one chunk that comes whole; what is held against the message."""
    receiver.begin_chunk(content, len(octets))
    assert receiver.feed_chunk(content, octets) is None
    if is_last:
        assert receiver.end_chunks(content) is None
    return receiver.refusal


@pytest.fixture
def fixture(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


def test_data_is_kept_as_it_came_and_what_follows_is_handed_back(fixture: Fixture) -> None:
    receiver = fixture.receiver()
    rests = []
    for block in (b"Subject: x\r\n\r\n..d", b"ot\r\n.\r\nQUIT\r\n"):
        assert receiver.feed(fixture.content, block) is None
        rests.append(receiver.rest)
    assert b"".join(fixture.content.chunks_in_memory) == b"Subject: x\r\n\r\n..dot\r\n"
    assert rests == [None, b"QUIT\r\n"]
    assert receiver.refusal is None
    assert receiver.octets == 21


async def test_what_has_no_place_in_memory_goes_to_the_disk(tmp_path: Path) -> None:
    full = Fixture(tmp_path, memory=0)
    receiver = full.receiver()
    spill = receiver.feed(full.content, b"a\r\n.\r\nNOOP\r\n")
    assert spill is not None
    await spill()
    assert (receiver.rest, receiver.refusal) == (b"NOOP\r\n", None)
    assert (full.content.size, full.content.is_spilled) == (3, True)


async def test_no_room_is_a_reply_and_the_message_is_read_to_its_end(tmp_path: Path) -> None:
    full = Fixture(tmp_path, memory=0, disk=0)
    receiver = full.receiver()
    spill = receiver.feed(full.content, b"a\r\n.\r\nNOOP\r\n")
    assert spill is not None
    await spill()
    assert receiver.refusal is reply.NO_ROOM_FOR_CONTENT
    assert receiver.rest == b"NOOP\r\n"


def test_an_oversize_message_is_read_to_its_end_and_refused(fixture: Fixture) -> None:
    receiver = fixture.receiver()
    for block in (b"x" * 998 + b"\r\n", b"y\r\n.\r\nNOOP\r\n"):
        assert receiver.feed(fixture.content, block) is None
    assert receiver.refusal is reply.TOO_LARGE
    assert receiver.rest == b"NOOP\r\n"
    assert fixture.store.memory.used == 0


def test_a_message_without_end_is_cut_off(fixture: Fixture) -> None:
    with pytest.raises(DataInterrupted) as caught:
        fixture.receiver().feed(fixture.content, b"x" * 2001)
    assert caught.value.last is reply.TOO_LARGE


def test_a_bare_line_ending_is_refused_or_normalised(fixture: Fixture) -> None:
    strict = fixture.receiver()
    strict.feed(fixture.content, b"a\nb\r\n.\r\n")
    assert strict.refusal is reply.BARE_LINE_ENDING
    kept = fixture.store.new()
    lenient = fixture.receiver(is_normalising=True)
    lenient.feed(kept, b"a\n.b\r\n.\r\n")
    assert lenient.refusal is None
    assert b"".join(kept.chunks_in_memory) == b"a\r\n..b\r\n"
    assert kept.is_normalised
    clean = fixture.store.new()
    fixture.receiver(is_normalising=True).feed(clean, b"a\r\n.\r\n")
    assert not clean.is_normalised


def test_data_that_drips_is_too_slow_after_the_grace(fixture: Fixture) -> None:
    receiver = fixture.receiver()
    receiver.check_pace()
    fixture.clock.advance(LIMITS.data_rate_grace + 1)
    receiver.feed(fixture.content, b"a\r\n")
    with pytest.raises(DataInterrupted) as caught:
        receiver.check_pace()
    assert caught.value.last is reply.TOO_SLOW


# Chunks.


def test_a_chunk_is_so_many_octets(fixture: Fixture) -> None:
    receiver = fixture.receiver()
    assert fed_chunk(receiver, fixture.content, b"Subject: x") is None
    assert fed_chunk(receiver, fixture.content, b"\r\n\r\n.dot\r\n", is_last=True) is None
    assert b"".join(fixture.content.chunks_in_memory) == b"Subject: x\r\n\r\n..dot\r\n"
    assert not fixture.content.is_normalised


def test_many_small_chunks_cost_what_one_large_one_does(fixture: Fixture) -> None:
    """One octet is an object of 34 octets, and a place in a list."""
    receiver = fixture.receiver()
    for number in range(900):
        assert fed_chunk(receiver, fixture.content, b"x", is_last=number == 899) is None
    assert fixture.content.chunks_in_memory == [900 * b"x" + b"\r\n"]


async def test_a_chunk_that_has_no_place_in_memory_goes_to_the_disk(tmp_path: Path) -> None:
    full = Fixture(tmp_path, memory=0)
    receiver = full.receiver()
    receiver.begin_chunk(full.content, 5)
    assert receiver.feed_chunk(full.content, b"12345") is None
    spill = receiver.end_chunks(full.content)
    assert spill is not None
    await spill()
    assert full.content.size == 7


def test_chunks_beyond_the_limit_are_read_and_refused_and_so_is_what_follows(
    fixture: Fixture,
) -> None:
    receiver, content = fixture.receiver(), fixture.content
    assert fed_chunk(receiver, content, 1000 * b"x") is None
    assert fed_chunk(receiver, content, b"x") is reply.TOO_LARGE
    assert fixture.store.memory.used == 0
    assert fed_chunk(receiver, content, 499 * b"x", is_last=True) is reply.TOO_LARGE
    assert receiver.octets == 500, "what was kept once is not counted, since it was never written"


@pytest.mark.parametrize("sizes", [(2001,), (1000, 1001), (10**19,)])
def test_what_is_beyond_all_bounds_is_not_even_read(
    fixture: Fixture, sizes: tuple[int, ...]
) -> None:
    receiver = fixture.receiver()
    *before, last = sizes
    for size in before:
        receiver.begin_chunk(fixture.content, size)
    with pytest.raises(DataInterrupted) as interrupted:
        receiver.begin_chunk(fixture.content, last)
    assert interrupted.value.last is reply.TOO_LARGE


def test_dots_count_as_after_data(fixture: Fixture) -> None:
    """What would be too large after DATA is too large in chunks: the spool has one form."""
    chunk = 300 * b".\r\n"
    refusal = fed_chunk(fixture.receiver(), fixture.content, chunk, is_last=True)
    assert refusal is reply.TOO_LARGE


@pytest.mark.parametrize("flaw", [b"a\nb", b"a\rb", b"a\0b", b"ab\r"])
def test_a_flaw_refuses_the_message_unless_it_is_normalised(fixture: Fixture, flaw: bytes) -> None:
    refused = fed_chunk(fixture.receiver(), fixture.content, flaw, is_last=True)
    assert refused is reply.BARE_LINE_ENDING
    content = fixture.store.new()
    receiver = fixture.receiver(is_normalising=True)
    assert fed_chunk(receiver, content, flaw, is_last=True) is None
    assert content.is_normalised
    content.close()


def test_chunks_that_drip_end_the_session(fixture: Fixture) -> None:
    """Each comes whole, so nobody ever waits for one."""
    receiver = fixture.receiver()
    for _ in range(3):
        fed_chunk(receiver, fixture.content, b"x")
    fixture.clock.advance(LIMITS.data_rate_grace + 1)
    with pytest.raises(DataInterrupted) as interrupted:
        fed_chunk(receiver, fixture.content, b"x")
    assert interrupted.value.last is reply.TOO_SLOW


def test_small_chunks_at_a_good_pace_are_no_drip(fixture: Fixture) -> None:
    """Also those count that are not put together yet."""
    limits = session_limits(data_rate_min=10, data_rate_grace=60.0)
    receiver = fixture.receiver(limits=limits)
    for _ in range(10):
        assert fed_chunk(receiver, fixture.content, 100 * b"x") is None
        fixture.clock.advance(9.0)
    assert fixture.content.size == 0, "nothing was written so far"


def test_octets_that_nobody_wants_are_dropped_within_bounds(fixture: Fixture) -> None:
    receiver = fixture.receiver()
    receiver.begin_drop(5)
    receiver.drop(b"12345")
    assert receiver.octets == 5
    with pytest.raises(DataInterrupted):
        receiver.begin_drop(2 * LIMITS.message_size_max)
