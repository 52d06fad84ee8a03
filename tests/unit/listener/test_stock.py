"""A session held by aiosmtpd's own class: what the rest of the service sees of it, and its end."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mailshed.config.policy import ListenerPolicy
from mailshed.listener.server import finish_sessions
from mailshed.listener.stock import StockFactory, StockSession
from mailshed.mail import reply
from tests.support.builders import session_limits
from tests.support.front import DEADLINE, HOSTNAME, Front, ScriptedHandler, until


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    made = Front()
    made.new_factory = StockFactory
    async with made:
        yield made


def session_of(front: Front) -> StockSession:
    session: object = front.session
    assert isinstance(session, StockSession)
    return session


async def test_a_message_comes_in_as_it_was_sent(front: Front) -> None:
    peer = await front.peer(greeted=False)
    assert await peer.reply() == f"220 {HOSTNAME} ESMTP mailshed\r\n".encode()
    await peer.command("EHLO client.example.org", 250)
    await peer.command("MAIL FROM:<alice@example.org> BODY=8BITMIME", 250)
    await peer.command("RCPT TO:<bob@example.net>", 250)
    await peer.command("DATA", 354)
    await peer.send(b"Subject: x\r\n\r\n..\r\n\xff\r\n.\r\nQUIT\r\n", cuts=(3, 17, 21))
    assert await peer.reply() == b"250 2.0.0 Ok: taken\r\n"
    assert await peer.reply() == reply.BYE.wire
    assert await peer.rest() == b""
    (taken,) = front.handler.taken
    assert taken.data == b"Subject: x\r\n\r\n..\r\n\xff\r\n"
    assert (taken.reverse_path, taken.forward_paths) == (b"alice@example.org", [b"bob@example.net"])
    assert (taken.helo, taken.is_extended) == ("client.example.org", True)
    assert taken.parameters == (b"BODY=8BITMIME",)


async def test_a_client_that_is_refused_hears_why_and_nothing_else(front: Front) -> None:
    front.handler.connect_answer = reply.SHUTTING_DOWN
    peer = await front.peer(greeted=False)
    await peer.send(b"EHLO client.example.org\r\n")
    assert await peer.rest() == reply.SHUTTING_DOWN.wire


async def test_an_idle_session_ends_with_the_service(front: Front) -> None:
    peer = await front.peer()
    await peer.greet()
    assert session_of(front).is_idle
    assert await finish_sessions(front.handler.open_sessions, DEADLINE) == 0
    assert await peer.rest() == reply.SHUTTING_DOWN.wire


async def test_a_transaction_may_end_when_the_service_does(front: Front) -> None:
    front.handler.may_answer.clear()
    peer = await front.in_data()
    await peer.send(b"text\r\n.\r\n")
    await until(lambda: front.handler.working > 0, "the message is worked upon")
    async with asyncio.TaskGroup() as group:
        end = group.create_task(finish_sessions(front.handler.open_sessions, DEADLINE))
        await until(lambda: session_of(front).is_stopping, "the session knows")
        front.handler.may_answer.set()
        assert await peer.rest() == b"250 2.0.0 Ok: taken\r\n" + reply.SHUTTING_DOWN.wire
    assert end.result() == 0


async def test_no_transaction_begins_when_the_service_ends(front: Front) -> None:
    peer = await front.peer()
    await peer.greet()
    session_of(front).is_stopping = True
    await peer.send(b"MAIL FROM:<alice@example.org>\r\n")
    assert await peer.rest() == reply.SHUTTING_DOWN.wire


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_client_that_leaves_is_gone(front: Front, *, is_reset: bool) -> None:
    """The library gives up at the end of input, whatever is under way; the work goes on."""
    front.handler.may_answer.clear()
    peer = await front.in_data()
    session = session_of(front)
    await peer.send(b"text\r\n.\r\n")
    await until(lambda: front.handler.working > 0, "the message is worked upon")
    assert not session.is_client_gone
    if is_reset:
        peer.reset()
    else:
        peer.half_close()
    await until(lambda: session.is_client_gone, "the session knows")
    front.handler.may_answer.set()
    await until(lambda: not front.handler.open_sessions, "the session has ended")
    assert len(front.handler.taken) == 1


async def test_there_is_no_hurry(front: Front) -> None:
    peer = await front.peer()
    session_of(front).hurry(is_hurried=True)
    await peer.greet()


async def test_the_factory_makes_sessions_within_the_limits_of_now() -> None:
    factory = StockFactory(
        policy=ListenerPolicy(name="smtp"),
        hostname=HOSTNAME,
        handler=ScriptedHandler(),
        limits=session_limits(),
    )
    first = factory()
    factory.limits = session_limits(message_size_max=1000)
    second = factory()
    assert (first.limits.message_size_max, second.limits.message_size_max) == (1 << 20, 1000)
    assert first.listener == "smtp"
