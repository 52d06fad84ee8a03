"""What is taken in one turn, what leaves together, and what waits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from mailshed.listener.reader import BUFFER_LIMIT
from mailshed.listener.turns import REPLIES_HELD_MAX, STEPS_PER_TURN
from mailshed.mail import reply
from tests.support.desk import Desk, codes
from tests.support.front import settle, until


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    await made.begin()
    yield made
    await made.end()


# Replies of a turn.


async def test_replies_leave_in_one_write_when_no_command_is_left(desk: Desk) -> None:
    desk.session.data_received(b"HELO c\r\nMAIL FROM:<>\r\nNOOP\r\nRS")
    await settle()
    assert len(desk.wire.writes) == 1
    assert codes(desk.said()) == [250, 250, 250]


async def test_many_replies_leave_in_several_writes() -> None:
    """They are held for the sake of one segment, and not without bound."""
    many = Desk(errors_max=10**6)
    await many.begin()
    many.session.data_received(3 * REPLIES_HELD_MAX * b"QUUX\r\n")
    await until(lambda: len(many.wire.writes) == 3, "all is answered")
    sizes = [write.count(b"\r\n") for write in many.wire.writes]
    assert sizes == 3 * [REPLIES_HELD_MAX]
    await many.end()


async def test_whoever_pipelines_gives_the_others_their_turn(desk: Desk) -> None:
    """So many commands are answered in one turn of the loop, and no more; nothing is said yet."""
    desk.session.data_received((2 * STEPS_PER_TURN + 1) * b"NOOP\r\n")
    counts = []
    for _ in range(3):
        counts.append(len(desk.handler.replies))
        await asyncio.sleep(0)
    assert counts == [1 + STEPS_PER_TURN, 1 + 2 * STEPS_PER_TURN, 2 + 2 * STEPS_PER_TURN]
    assert len(desk.wire.writes) == 1


async def test_what_arrives_before_the_next_turn_waits_for_it(desk: Desk) -> None:
    desk.session.data_received(STEPS_PER_TURN * b"NOOP\r\n")
    desk.session.data_received(b"NOOP\r\n")
    assert len(desk.handler.replies) == 1 + STEPS_PER_TURN
    await settle()
    assert len(desk.handler.replies) == 2 + STEPS_PER_TURN


# Waiting.


class Work:
    """Something that takes time, and what is done with its outcome."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.outcomes: list[str] = []
        self.is_cancelled = False

    async def __call__(self) -> str:
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise
        return "outcome"


@pytest.fixture
async def work(desk: Desk) -> Work:
    """Begun by the session."""
    made = Work()
    desk.session.wait_for(made, made.outcomes.append)
    return made


async def test_what_comes_while_the_session_waits_is_only_kept(desk: Desk, work: Work) -> None:
    assert await desk.feed(b"NOOP\r\n", b"NOOP\r\n") == []
    assert desk.session.reader.buffered == 12
    assert (desk.session.timer.is_paused, desk.session.is_idle) == (True, False)
    work.may_end.set()
    await settle()
    assert work.outcomes == ["outcome"]
    assert codes(desk.said()) == [250, 250]
    assert not desk.session.timer.is_paused


async def test_what_was_said_before_is_not_held_back_by_what_is_waited_for(desk: Desk) -> None:
    async def rest() -> None:
        await Work()()

    desk.handler.rest = rest
    await desk.feed(b"HELO c\r\n")
    assert codes(await desk.feed(b"NOOP\r\nMAIL FROM:<>\r\nNOOP\r\n")) == [250]


async def test_a_lost_connection_cancels_what_the_session_waits_for(desk: Desk, work: Work) -> None:
    await settle()
    await desk.end()
    await settle()
    assert work.is_cancelled
    assert work.outcomes == []


async def test_work_whose_own_work_is_cancelled_ends_the_session(desk: Desk) -> None:
    """As by a future that somebody else gives up: the client is there, and must not wait."""
    given_up = asyncio.get_running_loop().create_future()
    desk.session.wait_for(lambda: given_up)
    await settle()
    given_up.cancel()
    await settle()
    assert desk.said() == [reply.INTERNAL.wire.rstrip()]
    assert desk.session.transport is None


async def test_it_is_not_even_begun_if_the_connection_is_lost_first(desk: Desk) -> None:
    """Nor is there a coroutine that nobody awaits."""
    begun: list[bool] = []

    async def work() -> None:
        begun.append(True)

    desk.session.wait_for(work)
    desk.wire.close()
    desk.session.connection_lost(None)
    await settle()
    assert begun == []


async def test_the_end_of_input_waits_too(desk: Desk, work: Work) -> None:
    await desk.feed(b"NOOP\r\n")
    desk.session.eof_received()
    await settle()
    assert not desk.wire.is_closing()
    work.may_end.set()
    await settle()
    assert codes(desk.said()) == [250]
    assert desk.wire.is_closing()


async def fail_at_once() -> None:
    raise RuntimeError("at once")


async def fail_later() -> None:
    await asyncio.sleep(0)
    raise RuntimeError("later")


@pytest.mark.parametrize("work", [fail_at_once, fail_later])
async def test_work_that_fails_ends_the_session_with_451(
    desk: Desk, work: Callable[[], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    desk.session.wait_for(work)
    await settle()
    assert desk.said() == [reply.INTERNAL.wire.rstrip()]
    assert "SMTP session failed" in caplog.text


async def test_a_fault_behind_the_work_ends_it_likewise(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_outcome: object) -> None:
        raise RuntimeError("behind")

    work = Work()
    work.may_end.set()
    desk.session.wait_for(work, fail)
    await settle()
    assert desk.said() == [reply.INTERNAL.wire.rstrip()]
    assert "SMTP session failed" in caplog.text


# Flow control.


async def test_who_does_not_read_is_not_answered_any_further(desk: Desk) -> None:
    desk.session.pause_writing()
    assert await desk.feed(b"NOOP\r\nNOOP\r\n") == []
    assert desk.handler.replies == [("connect", 220)]
    desk.session.resume_writing()
    await settle()
    assert codes(desk.said()) == [250, 250]


async def test_who_sends_faster_than_we_take_is_not_read_any_further(desk: Desk) -> None:
    """While the session waits; and read again when it has caught up."""
    work = Work()
    desk.session.wait_for(work)
    octets = 2 * BUFFER_LIMIT
    await desk.feed((octets - 6) * b"x", b"NOOP\r\n")
    assert desk.wire.reading == []
    await desk.feed(b"R")
    assert desk.wire.reading == ["pause"]
    work.may_end.set()
    await until(lambda: desk.session.reader.buffered == 1, "all but half a line is taken")
    assert desk.wire.reading == ["pause", "resume"]
