"""Where a line ends, what is too long, and what ends the session where a line would begin."""

from types import SimpleNamespace
from typing import Any

import pytest

from mailshed.listener.lines import COMMAND_OCTETS_MAX, LINE_OCTETS_MAX, take_line
from mailshed.listener.reader import InputBuffer
from mailshed.mail import reply
from mailshed.mail.reply import Reply
from tests.support.builders import session_limits


class FakeSession:
    """A session as far as its lines are concerned."""

    def __init__(self) -> None:
        self.reader = InputBuffer()
        self.limits = session_limits(errors_max=3, line_timeout=7.0)
        self.conduct = SimpleNamespace(errors=0)
        self.timer = SimpleNamespace(begin_line=self._begin_line, end_line=self._end_line)
        self.octets_discarded = 0
        self.is_stopping = False
        self.is_idle = True
        self.seconds_for_line: float | None = None
        self.ended: list[Reply] = []

    def _begin_line(self, seconds: float) -> None:
        self.seconds_for_line = seconds

    def _end_line(self) -> None:
        self.seconds_for_line = None

    def end(self, last: Reply) -> None:
        self.ended.append(last)

    def take(self, *blocks: bytes) -> list[bytes | None]:
        """Feed each block, and take a line after each."""
        return [self._take_one(block) for block in blocks]

    def _take_one(self, block: bytes) -> bytes | None:
        self.reader.feed(block)
        session: Any = self
        return take_line(session, COMMAND_OCTETS_MAX)


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


def test_a_line_is_taken_with_its_end(session: FakeSession) -> None:
    assert session.take(b"NO", b"OP\r\nRSET\n", b"") == [None, b"NOOP\r\n", b"RSET\n"]


@pytest.mark.parametrize("octets", [COMMAND_OCTETS_MAX, COMMAND_OCTETS_MAX + 1])
def test_a_line_of_one_octet_too_many_is_none(session: FakeSession, octets: int) -> None:
    line = (octets - 2) * b"x" + b"\r\n"
    expected = line if octets <= COMMAND_OCTETS_MAX else b""
    assert session.take(line, b"NOOP\r\n") == [expected, b"NOOP\r\n"]


def test_a_line_that_is_too_long_is_read_to_its_end_and_not_kept(session: FakeSession) -> None:
    block = (COMMAND_OCTETS_MAX + 1) * b"x"
    assert session.take(block, block, b"short") == [None, None, None]
    assert session.reader.buffered == 5
    assert session.take(b"\r\nNOOP\r\n", b"") == [b"", b"NOOP\r\n"]


def test_a_line_without_end_ends_the_session(session: FakeSession) -> None:
    blocks = LINE_OCTETS_MAX // 4096 * [4096 * b"x"]
    assert session.take(*blocks) == len(blocks) * [None]
    assert session.ended == []
    session.take(4096 * b"x")
    assert session.ended == [reply.TOO_MANY_ERRORS]


def test_half_a_line_has_a_deadline(session: FakeSession) -> None:
    seconds = []
    for block in (b"", b"N", b"OOP\r\n", (COMMAND_OCTETS_MAX + 1) * b"x"):
        session.take(block)
        seconds.append(session.seconds_for_line)
    assert seconds == [None, 7.0, None, 7.0], "also of one of which nothing is kept"


def test_too_many_errors_end_the_session_before_the_next_line(session: FakeSession) -> None:
    session.conduct.errors = 2
    assert session.take(b"NOOP\r\nNOOP\r\n") == [b"NOOP\r\n"]
    session.conduct.errors = 3
    assert session.take(b"") == [None]
    assert session.ended == [reply.TOO_MANY_ERRORS]
    assert session.reader.buffered == 6


@pytest.mark.parametrize(
    ("is_idle", "buffered", "ends"),
    [(True, b"", True), (False, b"", False), (True, b"NO", False)],
)
def test_a_stop_ends_whoever_is_idle_and_has_nothing_more_to_say(
    session: FakeSession, buffered: bytes, *, is_idle: bool, ends: bool
) -> None:
    session.is_stopping, session.is_idle = True, is_idle
    assert session.take(buffered) == [None]
    assert session.ended == ([reply.SHUTTING_DOWN] if ends else [])
