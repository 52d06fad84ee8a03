"""A session without a network: octets in, octets out, on a transport that the test holds.

The dialogs and the tests of `tests/protocol` hold whole sessions over sockets; here are the parts
that can be looked at from inside, and what the subclass relies on in aiosmtpd.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from importlib.metadata import version
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from mailshed.config.policy import ListenerPolicy
from mailshed.listener import protocol
from mailshed.listener.deadlines import PAUSE_LOOK, Phase
from mailshed.listener.protocol import REPLIES_HELD_MAX, STEPS_PER_TURN, SmtpSession
from mailshed.listener.reader import BUFFER_LIMIT
from mailshed.listener.server import DEPARTURES_PER_TURN, SessionFactory
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
        self.reading: list[str] = []
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
        self.reading.append("pause")

    def resume_reading(self) -> None:
        self.reading.append("resume")


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
    """A renamed one would be called instead of ours."""
    overridden = {
        *("connection_made", "data_received", "eof_received", "connection_lost"),
        *("pause_writing", "resume_writing"),
    }
    assert {each for each in overridden if not hasattr(SMTP, each)} == set()
    assert overridden <= vars(SmtpSession).keys()
    assert callable(SMTP._create_session)


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


async def test_clients_that_leave_together_are_let_go_a_few_at_a_time() -> None:
    """The loop turns in between."""
    handler = ScriptedHandler()
    factory = SessionFactory(
        policy=ListenerPolicy(name="smtp"),
        hostname=HOSTNAME,
        handler=handler,
        limits=session_limits(),
    )
    wires = [Wire(factory()) for _ in range(3 * DEPARTURES_PER_TURN)]
    for wire in wires:
        wire.session.connection_made(wire)
    await settle()
    for wire in wires:
        wire.session.eof_received()
    closed = []
    while not all(wire.is_closing() for wire in wires):
        closed.append(sum(wire.is_closing() for wire in wires))
        await asyncio.sleep(0)
    assert closed == [DEPARTURES_PER_TURN, 2 * DEPARTURES_PER_TURN]
    await until(lambda: all(wire.session.transport is None for wire in wires), "all have left")


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
    desk.wire.abort(ConnectionResetError("reset by peer"))
    await settle()
    assert desk.handler.store.memory.used == 0
    assert desk.handler.taken == []


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


async def test_an_answer_after_the_end_is_not_heard(desk: Desk) -> None:
    """The work on a message outlives its session."""
    desk.handler.may_answer.clear()
    await desk.in_data()
    await desk.feed(b"x\r\n.\r\n")
    desk.session.end(make(421, "4.3.2 Bye"))
    said = len(desk.handler.replies)
    desk.session._answered(make(250, "2.0.0 Ok"))
    assert desk.said() == [b"421 4.3.2 Bye"]
    assert len(desk.handler.replies) == said


async def test_an_answer_that_comes_at_once_is_said_with_the_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def content(_session: object, content: Any, answer: Callable[[Any], None]) -> None:
        content.close()
        answer(make(250, "2.0.0 Ok: at once"))

    monkeypatch.setattr(type(desk.handler), "content", staticmethod(content))
    await desk.in_data()
    assert codes(await desk.feed(b"x\r\n.\r\nNOOP\r\n")) == [250, 250]


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
