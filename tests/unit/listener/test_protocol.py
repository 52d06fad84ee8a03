"""One session from inside: its end, deadlines and mail data, and what it relies on in aiosmtpd.

The dialogs and the tests of `tests/protocol` hold whole sessions over sockets.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from mailshed.config.policy import ListenerPolicy
from mailshed.listener import protocol
from mailshed.listener.deadlines import PAUSE_LOOK, Phase
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.server import DEPARTURES_PER_TURN, SessionFactory
from mailshed.listener.transaction import PendingTransaction
from mailshed.listener.turns import Turns
from mailshed.mail import reply
from mailshed.mail.reply import make
from tests.support.builders import session_limits
from tests.support.desk import Desk, Wire, codes
from tests.support.front import HOSTNAME, ScriptedHandler, settle, until


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    await made.begin()
    yield made
    await made.end()


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
    assert overridden <= vars(SmtpSession).keys() | vars(Turns).keys()
    assert callable(SMTP._create_session)


def test_an_empty_transaction_has_nothing_of_another() -> None:
    one, two = PendingTransaction(), PendingTransaction()
    assert (one.mail, one.recipients, one.recipients_excess) == (None, [], 0)
    assert one.recipients is not two.recipients


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


# The answer to a message.


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
