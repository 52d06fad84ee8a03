"""The reader's looks, and what they rely on in asyncio's StreamReader."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.listener.reader import BUFFER_LIMIT, WireReader

DEADLINE = 10.0


class _Transport(asyncio.Transport):
    """A transport that notes whether it may read."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


@pytest.fixture
async def reader() -> WireReader:
    return WireReader(asyncio.get_running_loop())


@pytest.fixture
def transport(reader: WireReader) -> _Transport:
    made = _Transport()
    reader.set_transport(made)
    return made


async def test_the_private_attributes_are_there_and_mean_what_we_think() -> None:
    """The comparison with the running Python that the module promises."""
    plain = asyncio.StreamReader(limit=10, loop=asyncio.get_running_loop())
    shown: dict[str, Any] = vars(plain)
    assert isinstance(shown["_buffer"], bytearray)
    assert shown["_eof"] is False
    assert shown["_paused"] is False
    assert shown["_limit"] == 10
    assert callable(plain._maybe_resume_transport)  # type: ignore[attr-defined]
    assert asyncio.iscoroutinefunction(plain._wait_for_data)  # type: ignore[attr-defined]
    plain.feed_data(b"abc")
    assert shown["_buffer"] == b"abc"
    plain.feed_eof()
    assert shown["_eof"] is True


async def test_so_many_octets_are_taken_and_not_one_more(
    reader: WireReader, transport: _Transport
) -> None:
    assert reader.take(3) == b""
    reader.feed_data(b"abcde")
    assert (reader.take(3), reader.take(0), reader.take(9), reader.buffered) == (
        *(b"abc", b"", b"de", 0),
    )
    reader.feed_data(3 * BUFFER_LIMIT * b"x")
    assert transport.calls == ["pause"]
    assert len(reader.take(2 * BUFFER_LIMIT)) == 2 * BUFFER_LIMIT
    assert transport.calls == ["pause", "resume"]


async def test_a_line_is_taken_when_it_is_whole(reader: WireReader) -> None:
    assert reader.take_line() is None
    reader.feed_data(b"EHLO x\r")
    assert reader.take_line() is None
    assert reader.buffered == 7
    reader.feed_data(b"\nMAIL\n")
    assert reader.take_line() == b"EHLO x\r\n"
    assert reader.take_line() == b"MAIL\n"
    assert reader.take_line() is None
    assert reader.buffered == 0


async def test_everything_is_taken_at_once(reader: WireReader) -> None:
    assert reader.take_all() == b""
    reader.feed_data(b"a\r\nb")
    reader.feed_data(b"c")
    assert reader.take_all() == b"a\r\nbc"
    assert reader.take_all() == b""


async def test_what_is_taken_does_not_change_with_the_buffer(reader: WireReader) -> None:
    reader.feed_data(b"abc\n")
    line = reader.take_line()
    reader.feed_data(b"def")
    block = reader.take_all()
    reader.feed_data(b"ghi")
    assert (line, block) == (b"abc\n", b"def")
    assert type(block) is bytes


async def test_what_is_put_back_is_read_first(reader: WireReader) -> None:
    reader.feed_data(b"QUIT\r\n")
    reader.put_back(b"NOOP\r\n")
    reader.put_back(b"")
    assert reader.take_line() == b"NOOP\r\n"
    assert reader.take_line() == b"QUIT\r\n"


@pytest.mark.parametrize(
    ("buffered", "is_quit"),
    [
        (b"QUIT\r\n", True),
        (b"NOOP\r\nquit\r\n", True),
        (b"QUIT\n", False),
        (b"QUIT", False),
        (b"QUIT\r\nNOOP\r\n", False),
        (b"", False),
    ],
)
async def test_knows_whether_the_client_has_taken_its_leave(
    reader: WireReader, buffered: bytes, is_quit: bool
) -> None:
    reader.feed_data(buffered)
    assert reader.ends_with_quit is is_quit
    assert reader.buffered == len(buffered), "it only looked"


async def test_the_end_is_seen_and_what_came_before_can_still_be_taken(reader: WireReader) -> None:
    seen = [reader.is_eof_seen]
    reader.feed_data(b"QUIT\r\n")
    seen.append(reader.is_eof_seen)
    reader.feed_eof()
    seen.append(reader.is_eof_seen)
    assert seen == [False, False, True]
    assert await reader.more() is False
    assert reader.take_line() == b"QUIT\r\n"


async def test_more_waits_for_data(reader: WireReader) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(reader.more())
        await asyncio.sleep(0)
        assert not waiting.done()
        reader.feed_data(b"x")
    assert waiting.result() is True
    assert reader.take_all() == b"x"


async def test_more_ends_when_the_client_does(reader: WireReader) -> None:
    """The end wakes who waits, to look again; from then on there is nothing to wait for."""
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(reader.more())
        await asyncio.sleep(0)
        reader.feed_eof()
    assert waiting.result() is True
    assert reader.take_all() == b""
    assert await reader.more() is False


async def test_more_does_not_wait_on_a_broken_connection(reader: WireReader) -> None:
    """Before the break and after it: whoever asks is told, and nobody waits for ever."""
    loop = asyncio.get_running_loop()
    loop.call_soon(reader.set_exception, ConnectionResetError("reset"))
    for _ in range(2):
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(ConnectionResetError):
                await reader.more()


async def test_the_client_is_paused_when_it_sends_faster_than_we_take(
    reader: WireReader, transport: _Transport
) -> None:
    reader.feed_data(b"x" * (2 * BUFFER_LIMIT))
    assert transport.calls == []
    reader.feed_data(b"x")
    assert transport.calls == ["pause"]
    reader.feed_data(b"x")
    assert transport.calls == ["pause"]
    reader.take_all()
    assert transport.calls == ["pause", "resume"]


async def test_lines_resume_the_client_once_enough_were_taken(
    reader: WireReader, transport: _Transport
) -> None:
    line = b"x" * 1023 + b"\n"
    reader.feed_data(line * 129)
    assert transport.calls == ["pause"]
    for _ in range(64):
        reader.take_line()
    assert transport.calls == ["pause"]
    reader.take_line()
    assert reader.buffered == BUFFER_LIMIT
    assert transport.calls == ["pause", "resume"]


async def test_waiting_for_more_resumes_the_client(
    reader: WireReader, transport: _Transport
) -> None:
    """Else a line that is longer than the buffer would never end."""
    reader.feed_data(b"x" * (2 * BUFFER_LIMIT + 1))
    async with asyncio.TaskGroup() as group:
        group.create_task(reader.more())
        await asyncio.sleep(0)
        assert transport.calls == ["pause", "resume"]
        reader.feed_data(b"\n")


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=20) | st.sampled_from([b"a\r\n", b"\n"]), max_size=20),
    st.lists(st.sampled_from(["line", "all", "back"]), max_size=40),
)
def test_nothing_is_lost_doubled_or_reordered(blocks: list[bytes], looks: list[str]) -> None:
    loop = asyncio.new_event_loop()
    try:
        reader = WireReader(loop)
        taken = b""
        feeds = iter(blocks)
        for look in looks:
            reader.feed_data(next(feeds, b""))
            if look == "line":
                line = reader.take_line()
                assert line is None or line.find(b"\n") == len(line) - 1
                taken += line or b""
            elif look == "all":
                taken += reader.take_all()
            else:
                reader.put_back(taken[-3:])
                taken = taken[:-3]
        for block in feeds:
            reader.feed_data(block)
        assert taken + reader.take_all() == b"".join(blocks)
    finally:
        loop.close()
