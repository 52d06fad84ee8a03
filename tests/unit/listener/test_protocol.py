"""A session without a network: octets in, octets out, on a transport that the test holds.

The dialogs and the tests of `tests/protocol` hold whole sessions over sockets; here are the parts
that can be looked at from inside, and what the subclass relies on in aiosmtpd.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from importlib.metadata import version
from typing import Any, cast

import pytest
from aiosmtpd.smtp import SMTP

from mailshed.config.policy import ListenerPolicy
from mailshed.listener import protocol
from mailshed.listener.deadlines import PAUSE_LOOK, Phase
from mailshed.listener.protocol import (
    COMMAND_OCTETS_MAX,
    REPLIES_HELD_MAX,
    SmtpSession,
)
from mailshed.listener.server import SessionFactory
from mailshed.listener.transaction import PendingTransaction
from mailshed.mail import reply
from mailshed.mail.reply import make
from tests.support.builders import session_limits
from tests.support.front import HOSTNAME, ScriptedHandler, settle, until


class Wire(asyncio.Transport):
    """The server's transport: what is written stays here, unless it is `stuck`."""

    def __init__(self, session: SmtpSession) -> None:
        super().__init__(extra={"peername": ("127.0.0.1", 40000)})
        self.session = session
        self.writes: list[bytes] = []
        self.is_stuck = False
        self.is_aborted = False
        self._is_closing = False

    def write(self, data: Any) -> None:
        assert not self._is_closing, "written after the end"
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.writes)) if self.is_stuck else 0

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self.is_stuck:
                asyncio.get_running_loop().call_soon(self.session.connection_lost, None)

    def abort(self, error: Exception | None = None) -> None:
        if not self.is_aborted:
            self.is_aborted = self._is_closing = True
            if self.session.transport is not None:
                asyncio.get_running_loop().call_soon(self.session.connection_lost, error)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Desk:
    """One session on its wire."""

    def __init__(self, **limits: Any) -> None:
        self.handler = ScriptedHandler()
        factory = SessionFactory(
            policy=ListenerPolicy(name="smtp"),
            hostname=HOSTNAME,
            handler=self.handler,
            limits=session_limits(**limits),
        )
        self.session = factory()
        self.wire = Wire(self.session)

    async def begin(self) -> None:
        """Connect, and forget the greeting."""
        self.session.connection_made(self.wire)
        await settle()
        assert self.said() == [b"220 mail.example.com ESMTP mailshed"]

    async def feed(self, *blocks: bytes) -> list[bytes]:
        """Let the client send each block as one segment; return the lines that were said."""
        for block in blocks:
            self.session.data_received(block)
            await settle()
        return self.said()

    def said(self) -> list[bytes]:
        """The lines that were written since the last look."""
        lines = b"".join(self.wire.writes).splitlines()
        self.wire.writes.clear()
        return lines

    async def in_data(self) -> None:
        """Go as far as the 354."""
        said = await self.feed(
            b"HELO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
        )
        assert said[-1][:3] == b"354"

    async def end(self) -> None:
        """Lose the connection, if it is not lost yet."""
        self.wire.abort()
        if self.session.transport is None:
            return
        await until(lambda: self.session.transport is None, "the session has ended")


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    await made.begin()
    yield made
    await made.end()


def codes(lines: Iterable[bytes]) -> list[int]:
    return [int(line[:3]) for line in lines]


# What is relied on in the library.


def test_the_library_is_the_one_whose_private_parts_are_overridden() -> None:
    """Its newest release; another one has to be read before this number changes."""
    assert version("aiosmtpd") == "1.4.6"


def test_everything_that_is_overridden_exists_in_the_library() -> None:
    """A renamed hook would silently be called no more."""
    overridden = {
        *("connection_lost", "eof_received", "push"),
        *("_handle_client", "_reset_timeout", "_create_envelope", "_set_rset_state"),
    }
    assert {each for each in overridden if not hasattr(SMTP, each)} == set()
    assert overridden <= vars(SmtpSession).keys()
    of_streams = {"pause_writing", "resume_writing"}
    assert {each for each in of_streams if not hasattr(asyncio.StreamReaderProtocol, each)} == set()


def test_an_empty_transaction_has_nothing_of_another() -> None:
    one, two = PendingTransaction(), PendingTransaction()
    assert (one.mail, one.recipients, one.recipients_excess) == (None, [], 0)
    assert one.recipients is not two.recipients


# Octets in, replies out.


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
    await settle()
    sizes = [write.count(b"\r\n") for write in many.wire.writes]
    assert sizes == 3 * [REPLIES_HELD_MAX]
    await many.end()


@pytest.mark.parametrize("octets", [COMMAND_OCTETS_MAX - 1, COMMAND_OCTETS_MAX])
async def test_a_command_line_may_have_2048_octets(desk: Desk, octets: int) -> None:
    line = b"NOOP " + (octets - 7) * b"x" + b"\r\n"
    assert len(line) == octets
    assert await desk.feed(line) == [b"250 2.0.0 Ok"]
    assert await desk.feed(line[:-2] + (COMMAND_OCTETS_MAX - octets + 1) * b"x" + b"\r\n") == [
        b"500 5.5.2 Command line too long"
    ]


async def test_the_library_s_own_way_to_answer_is_queued_like_ours(desk: Desk) -> None:
    """`push` is what its inherited methods would answer through."""
    await desk.session.push("250 text")
    await desk.session.push(b"250 octets \xff")
    assert desk.said() == []
    assert await desk.feed(b"NOOP\r\n") == [b"250 text", b"250 octets \xff", b"250 2.0.0 Ok"]


async def test_nothing_is_said_after_the_end(desk: Desk) -> None:
    """One loop raises where asyncio drops what is written to a closed transport."""
    desk.session.end(make(421, "4.3.2 Bye"))
    desk.session.end(make(421, "4.3.2 Bye again"))
    desk.session.data_received(b"NOOP\r\nNOOP\r\n")
    await settle()
    assert desk.said() == [b"421 4.3.2 Bye"]
    desk.session.end(make(421, "4.3.2 And again"))
    desk.session.stop()
    assert desk.said() == []


# Whether anybody waits for our reply.


@pytest.mark.parametrize(
    ("behind", "is_eof", "is_gone"),
    [
        (b"", False, False),
        (b"", True, True),
        (b"QUIT\r\n", True, False),
        (b"quit\r\n", True, False),
        (b"QUIT", True, True),
        (b"MAIL FROM:<>\r\n", True, True),
        (b"MAIL FROM:<>\r\nQUIT\r\n", True, False),
        (b"QUIT\r\nMAIL FROM:<>\r\n", True, True),
    ],
)
async def test_a_client_is_gone_when_input_ended_without_quit(
    desk: Desk, behind: bytes, *, is_eof: bool, is_gone: bool
) -> None:
    """QUIT behind the final dot means: finish, I read; a bare end means that nobody does."""
    desk.handler.may_answer.clear()
    await desk.in_data()
    await desk.feed(b"x\r\n.\r\n" + behind)
    if is_eof:
        assert desk.session.eof_received() is True, "our side stays open"
    assert desk.handler.working == 1
    assert desk.session.is_client_gone is is_gone
    await desk.end()
    assert desk.session.is_client_gone


async def test_a_session_is_idle_outside_transactions(desk: Desk) -> None:
    session = desk.session
    desk.handler.may_answer.clear()
    states = [session.is_idle]
    for block in (b"HELO c\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<b@example.net>\r\n", b"DATA\r\n"):
        await desk.feed(block)
        states.append(session.is_idle)
    await desk.feed(b"x\r\n.\r\n")
    states.append(session.is_idle)
    desk.handler.may_answer.set()
    await settle()
    states.append(session.is_idle)
    assert states == [True, True, False, False, False, False, True]


# Deadlines.


class Timers:
    """Notes when the loop is asked to wake the session."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self.armed: list[float] = []
        call_at = loop.call_at

        def noted(when: float, callback: Any, *arguments: Any, **options: Any) -> Any:
            self.armed.append(when)
            return call_at(when, callback, *arguments, **options)

        monkeypatch.setattr(loop, "call_at", noted)


def pass_deadline(desk: Desk) -> None:
    """Let the time of what is expected of the client be over."""
    desk.session.timer._awaited = 0.0
    desk.session.timer._wake()


async def test_a_session_arms_one_timer_for_all_its_commands(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer per command costs more than the command."""
    timers = Timers(monkeypatch)
    for _ in range(30):
        await desk.feed(b"RSET\r\n", b"MAIL FROM:<>\r\n")
    assert timers.armed == []
    assert desk.session.timer.next_deadline > asyncio.get_running_loop().time() + 50


async def test_a_deadline_that_passed_ends_the_session(desk: Desk) -> None:
    pass_deadline(desk)
    assert desk.said() == [reply.TIMED_OUT.wire.rstrip()]
    assert desk.handler.delays == [Phase.COMMAND]
    await until(lambda: desk.session.transport is None, "the session has ended")


async def test_the_timer_rests_while_we_work(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is not to blame for a slow backend."""
    desk.handler.may_answer.clear()
    await desk.in_data()
    await desk.feed(b"x\r\n.\r\n")
    timers = Timers(monkeypatch)
    pass_deadline(desk)
    assert desk.said() == []
    (again,) = timers.armed
    now = asyncio.get_running_loop().time()
    assert again == pytest.approx(now + PAUSE_LOOK, abs=5)
    desk.handler.may_answer.set()
    await settle()
    assert codes(desk.said()) == [250]
    assert desk.session.timer.next_deadline > now


async def test_a_lost_connection_leaves_no_timer(desk: Desk) -> None:
    """It would hold the session, and its buffers, until it runs out."""
    desk.handler.may_answer.clear()
    await desk.in_data()
    await desk.feed(b"x\r\n.\r\n")
    await desk.end()
    await settle()
    assert desk.session.timer._handle is None


async def test_last_words_that_nobody_reads_end_in_an_abort(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transport that closes waits for its buffer, and would wait for ever."""
    desk.wire.is_stuck = True
    timers = Timers(monkeypatch)
    desk.session.end(reply.TIMED_OUT)
    (deadline,) = timers.armed
    now = asyncio.get_running_loop().time()
    assert deadline == pytest.approx(now + protocol.CLOSE_TIMEOUT, abs=5)
    desk.session.timer._wake()
    assert not desk.wire.is_aborted, "there is time left"
    pass_deadline(desk)
    assert vars(desk.wire)["is_aborted"]
    await until(lambda: desk.session.transport is None, "the session has ended")


@pytest.mark.parametrize("how", ["quit", "error", "end of input"])
async def test_every_way_to_close_has_a_bound(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(errors_max=1)
    await desk.begin()
    timers = Timers(monkeypatch)
    desk.wire.is_stuck = True
    if how == "end of input":
        desk.session.data_received(b"NOOP\r\n")
        desk.session.eof_received()
    else:
        desk.session.data_received(b"QUIT\r\n" if how == "quit" else b"QUUX\r\n")
    await settle()
    assert desk.wire.is_closing()
    assert len(timers.armed) == 1
    await desk.end()


async def test_a_session_that_is_not_connected_yet_can_be_stopped() -> None:
    """The server knows a session a moment before its transport does."""
    desk = Desk()
    desk.session.stop()
    assert desk.session.is_stopping
    desk.session.connection_made(desk.wire)
    await settle()
    assert codes(desk.said()) == [220, 421]


async def test_closed_is_done_when_the_connection_is_lost(desk: Desk) -> None:
    """What a stop waits for; and the handler has been told by then."""
    desk.handler.open_sessions.add(desk.session)
    seen: list[int] = []
    desk.session.closed.add_done_callback(lambda _: seen.append(len(desk.handler.open_sessions)))
    await desk.end()
    await settle()
    assert desk.session.closed.done()
    assert seen == [0]


# Mail data.


async def test_blocks_reach_the_content_as_they_arrive(desk: Desk) -> None:
    """Nothing waits for the end of the message, and nothing is copied line by line."""
    await desk.in_data()
    store = desk.handler.store
    await desk.feed(1000 * b"x")
    assert store.memory.used == 1000
    await desk.feed(b"\r\n")
    assert store.memory.used == 1000, "it may be the beginning of the end"
    await desk.feed(b".")
    await desk.feed(b"\r")
    await desk.feed(b"\nNOOP\r\n")
    assert codes(desk.said()) == []
    assert desk.handler.taken[0].data == 1000 * b"x" + b"\r\n"
    assert store.memory.used == 0


async def test_what_follows_the_end_of_data_is_the_next_command(desk: Desk) -> None:
    await desk.in_data()
    assert codes(await desk.feed(b"x\r\n.\r\nNOOP\r\nMAIL FROM:<>\r\n.")) == [250, 250, 250]
    assert codes(await desk.feed(b"\r\n")) == [500]


async def test_a_transaction_is_over_when_its_reply_is_said(desk: Desk) -> None:
    await desk.in_data()
    await desk.feed(b"x\r\n.\r\n")
    assert desk.session.envelope.mail is None
    assert desk.session.envelope.recipients == []


async def test_a_connection_lost_in_data_gives_the_room_back(desk: Desk) -> None:
    await desk.in_data()
    await desk.feed(5000 * b"x")
    assert desk.handler.store.memory.used == 5000
    task = cast("asyncio.Task[None]", desk.session._handler_coroutine)
    desk.wire.abort(ConnectionResetError("reset by peer"))
    await settle()
    assert desk.handler.store.memory.used == 0
    assert desk.handler.taken == []
    assert task.done()
