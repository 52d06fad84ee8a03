"""What is taken from the input, and when the client is read no further."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.listener.reader import BUFFER_LIMIT, InputBuffer


class _Transport(asyncio.Transport):
    """A transport that notes whether it may read."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.is_over = False

    def is_closing(self) -> bool:
        return self.is_over

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


@pytest.fixture
def reader() -> InputBuffer:
    return InputBuffer()


@pytest.fixture
def transport(reader: InputBuffer) -> _Transport:
    made = reader.transport = _Transport()
    return made


def test_so_many_octets_are_taken_and_not_one_more(
    reader: InputBuffer, transport: _Transport
) -> None:
    assert reader.take(3) == b""
    reader.feed(b"abcde")
    assert (reader.take(3), reader.take(0), reader.take(9), reader.buffered) == (
        *(b"abc", b"", b"de", 0),
    )
    reader.feed(3 * BUFFER_LIMIT * b"x")
    reader.hold_back()
    assert transport.calls == ["pause"]
    assert len(reader.take(2 * BUFFER_LIMIT)) == 2 * BUFFER_LIMIT
    assert transport.calls == ["pause", "resume"]


def test_a_line_is_taken_when_it_is_whole(reader: InputBuffer) -> None:
    assert reader.take_line() is None
    reader.feed(b"EHLO x\r")
    assert reader.take_line() is None
    assert reader.buffered == 7
    reader.feed(b"\nMAIL\n")
    assert reader.take_line() == b"EHLO x\r\n"
    assert reader.take_line() == b"MAIL\n"
    assert reader.take_line() is None
    assert reader.buffered == 0


def test_everything_is_taken_at_once(reader: InputBuffer) -> None:
    assert reader.take_all() == b""
    reader.feed(b"a\r\nb")
    reader.feed(b"c")
    assert reader.take_all() == b"a\r\nbc"
    assert reader.take_all() == b""


def test_what_is_taken_does_not_change_with_the_buffer(reader: InputBuffer) -> None:
    reader.feed(b"abc\n")
    line = reader.take_line()
    reader.feed(b"def")
    block = reader.take_all()
    reader.feed(b"ghi")
    assert (line, block) == (b"abc\n", b"def")
    assert type(block) is bytes


def test_what_is_put_back_is_read_first(reader: InputBuffer) -> None:
    reader.feed(b"QUIT\r\n")
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
def test_knows_whether_the_client_has_taken_its_leave(
    reader: InputBuffer, buffered: bytes, is_quit: bool
) -> None:
    reader.feed(buffered)
    assert reader.ends_with_quit is is_quit
    assert reader.buffered == len(buffered), "it only looked"


def test_the_client_is_held_back_when_it_sends_faster_than_we_take(
    reader: InputBuffer, transport: _Transport
) -> None:
    for octets, calls in ((2 * BUFFER_LIMIT, []), (1, ["pause"]), (1, ["pause"])):
        reader.feed(octets * b"x")
        reader.hold_back()
        assert transport.calls == calls
    reader.take_all()
    assert transport.calls == ["pause", "resume"]


def test_lines_let_the_client_go_on_once_enough_were_taken(
    reader: InputBuffer, transport: _Transport
) -> None:
    line = b"x" * 1023 + b"\n"
    reader.feed(line * 129)
    reader.hold_back()
    for _ in range(64):
        reader.take_line()
    assert transport.calls == ["pause"]
    reader.take_line()
    assert reader.buffered == BUFFER_LIMIT
    assert transport.calls == ["pause", "resume"]


def test_a_connection_that_is_closing_is_left_alone(
    reader: InputBuffer, transport: _Transport
) -> None:
    """One loop raises there; and of one that is lost nothing is known any more."""
    reader.feed(3 * BUFFER_LIMIT * b"x")
    transport.is_over = True
    reader.hold_back()
    reader.take_all()
    reader.feed(3 * BUFFER_LIMIT * b"x")
    reader.transport = None
    reader.hold_back()
    reader.take_all()
    assert transport.calls == []


def test_half_a_line_does_not_keep_the_segment_that_it_came_with(reader: InputBuffer) -> None:
    """Or an idle session would hold 256 KiB for what it has sent long ago."""
    reader.feed(10_000 * b"NOOP\r\n" + b"NO")
    while reader.take_line() is not None:
        pass
    assert reader._data == b"NO"
    reader.feed(b"OP\r\n")
    assert reader.take_line() == b"NOOP\r\n"
    assert reader._data == b""


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=20) | st.sampled_from([b"a\r\n", b"\n"]), max_size=20),
    st.lists(st.sampled_from(["line", "all", "some", "back"]), max_size=40),
)
def test_nothing_is_lost_doubled_or_reordered(blocks: list[bytes], looks: list[str]) -> None:
    reader = InputBuffer()
    taken = b""
    feeds = iter(blocks)
    for look in looks:
        reader.feed(next(feeds, b""))
        if look == "line":
            line = reader.take_line()
            assert line is None or line.find(b"\n") == len(line) - 1
            taken += line or b""
        elif look == "all":
            taken += reader.take_all()
        elif look == "some":
            some = reader.take(2)
            assert len(some) <= 2
            taken += some
        else:
            reader.put_back(taken[-3:])
            taken = taken[:-3]
    for block in feeds:
        reader.feed(block)
    assert taken + reader.take_all() == b"".join(blocks)
