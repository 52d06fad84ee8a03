"""The end of the service: who is idle is told 421, who is in a transaction may finish it."""

import asyncio
import socket

import pytest

from mailshed.admission.sessions import Visitor
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.server import finish_sessions
from mailshed.mail.proxy_protocol import Endpoint
from tests.support.front import DEADLINE, Front, Peer, settle, until

MESSAGE = b"Subject: hello\r\n\r\nHello.\r\n.\r\n"
BYE = b"421 4.3.2 Service is shutting down, try again later\r\n"


def finish(front: Front, seconds: float = DEADLINE) -> "asyncio.Task[int]":
    """Stop the front as the service does; the result is how many sessions were cut off."""
    front.server.stop_accepting()
    work = finish_sessions(front.handler.open_sessions, seconds)
    return asyncio.get_running_loop().create_task(work)


@pytest.mark.parametrize("commands", [b"", b"EHLO c\r\n", b"HELO c\r\nMAIL FROM:<>\r\nRSET\r\n"])
async def test_an_idle_session_is_told_421(commands: bytes) -> None:
    async with Front() as front:
        peer = await front.peer()
        await peer.send(commands)
        for _ in commands.splitlines():
            await peer.reply()
        assert await finish(front) == 0
        assert await peer.rest() == BYE


async def test_a_session_in_mail_data_may_finish_and_is_then_told_421() -> None:
    async with Front() as front:
        peer = await front.in_data()
        await peer.send(b"Subject: hello\r\n")
        stopping = finish(front)
        await settle()
        assert await peer.is_silent()
        await peer.send(b"\r\nHello.\r\n.\r\n")
        assert (await peer.reply())[:3] == b"250"
        assert await peer.rest() == BYE
        assert await stopping == 0
        assert len(front.handler.taken) == 1


async def test_a_session_that_waits_for_its_answer_gets_it() -> None:
    """The reply to the final dot is the one that must not be lost."""
    async with Front() as front:
        peer = await front.in_data()
        front.handler.may_answer.clear()
        await peer.send(MESSAGE)
        await until(lambda: front.handler.working == 1, "the message is being worked on")
        stopping = finish(front)
        await settle()
        front.handler.may_answer.set()
        assert (await peer.reply())[:3] == b"250"
        assert await peer.rest() == BYE
        assert await stopping == 0


async def test_a_transaction_that_has_begun_may_go_on_but_no_new_one_begins() -> None:
    async with Front() as front:
        peer = await front.in_transaction()
        stopping = finish(front)
        await settle()
        await peer.command("RCPT TO:<carol@example.net>", 250)
        await peer.command("DATA", 354)
        await peer.send(MESSAGE + b"MAIL FROM:<>\r\n")
        assert (await peer.reply())[:3] == b"250"
        assert await peer.rest() == BYE
        assert await stopping == 0


async def test_commands_that_had_arrived_are_still_answered() -> None:
    """A pipelined transaction behind half a command line is not idleness."""
    async with Front() as front:
        peer = await front.peer()
        await peer.greet()
        await peer.send(b"NO")
        await settle()
        stopping = finish(front)
        await settle()
        assert await peer.is_silent()
        await peer.send(b"OP\r\n")
        assert await peer.reply() == b"250 2.0.0 Ok\r\n"
        assert await peer.rest() == BYE
        assert await stopping == 0


async def test_the_deadline_cuts_off_who_does_not_finish() -> None:
    """Nothing was promised to them; their number is the result."""
    async with Front() as front:
        slow = [await front.in_data() for _ in range(3)]
        idle = await front.peer()
        assert await finish(front, 0.2) == 3
        for peer in slow:
            assert await peer.rest() == b""
        assert await idle.rest() == BYE
        await until(lambda: not front.handler.open_sessions, "all sessions have ended")
        assert front.handler.store.memory.used == 0


async def test_many_sessions_stop_together() -> None:
    async with Front(sessions_max=200) as front:
        peers = [await front.peer() for _ in range(100)]
        assert await finish(front) == 0
        for peer in peers:
            assert await peer.rest() == BYE


async def test_a_connection_that_was_just_accepted_is_told_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between its acceptance and its greeting a session has a connection, and nothing was said."""
    async with Front() as front:
        new_session = front.server.new_session

        def make_and_stop(visitor: Visitor, peer: Endpoint) -> SmtpSession:
            session = new_session(visitor, peer)
            asyncio.get_running_loop().call_soon(session.stop)  # before its command loop begins
            return session

        monkeypatch.setattr(front.server, "new_session", make_and_stop)
        peer = await front.peer(greeted=False)
        assert (await peer.rest()).splitlines()[-1] + b"\r\n" == BYE
        await until(lambda: not front.handler.open_sessions, "the session has ended")


async def test_a_connection_that_comes_while_we_stop_gets_421() -> None:
    """It was in the loop's hands when the listening socket closed."""
    async with Front() as front:
        front.server.stop_accepting()
        refusal = front.server._new_protocol()
        assert front.handler.open_sessions == set()
        ours, theirs = socket.socketpair()
        await asyncio.get_running_loop().connect_accepted_socket(lambda: refusal, ours)
        theirs.setblocking(False)
        async with asyncio.timeout(DEADLINE):
            assert await asyncio.get_running_loop().sock_recv(theirs, 1000) == BYE
            assert await asyncio.get_running_loop().sock_recv(theirs, 1000) == b""
        theirs.close()


async def test_nobody_listens_after_a_stop() -> None:
    async with Front() as front:
        front.server.stop_accepting()
        front.server.stop_accepting()
        await settle()
        peer = Peer(front.port)
        with pytest.raises(ConnectionRefusedError):
            await peer.connect()
        peer.close()
