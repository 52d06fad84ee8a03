"""`SmtpBackend`: reuse, the retry on a stale connection, cancellation."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mailshed.errors import ClientGone
from mailshed.mail.delivery import Bounced, Deferred, Delivered, TransactionResult
from mailshed.relay.backend import Backend, BackendConnections, OutboundMessage
from mailshed.relay.connection import Connection
from mailshed.relay.smtp import SmtpBackend
from mailshed.terms import Stage
from tests.support.outbound import DEADLINE, eventually, outbound, smtp_backend
from tests.support.scripted_backend import (
    CLOSE,
    RESET,
    STALL,
    Action,
    ScriptedBackend,
    Wait,
    bye,
    say,
)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedBackend]:
    async with ScriptedBackend() as running:
        yield running


@pytest.fixture
async def backend(server: ScriptedBackend) -> AsyncIterator[SmtpBackend]:
    made = smtp_backend(server.port)
    yield made
    await made.close()


async def deliver(backend: Backend, message: OutboundMessage | None = None) -> TransactionResult:
    async with asyncio.timeout(DEADLINE):
        return await backend.deliver(message or outbound())


async def test_a_connection_serves_one_message_after_the_other(
    server: ScriptedBackend, backend: SmtpBackend
) -> None:
    assert backend.name == "scripted"
    first, second = await deliver(backend), await deliver(backend)
    assert isinstance(first.uniform, Delivered)
    assert isinstance(second.uniform, Delivered)
    assert first.times.connect > 0
    assert second.times.connect == 0
    assert len(server.sessions) == 1
    assert backend.connections() == BackendConnections(idle=1, opened_total=1, reused_total=1)


async def test_messages_at_the_same_time_have_connections_of_their_own(
    server: ScriptedBackend, backend: SmtpBackend
) -> None:
    results = await asyncio.gather(*(deliver(backend) for _ in range(5)))
    assert all(isinstance(result.uniform, Delivered) for result in results)
    assert len(server.messages) == 5
    assert backend.connections().idle == len(server.sessions)


async def test_a_connection_is_replaced_after_its_messages(server: ScriptedBackend) -> None:
    backend = smtp_backend(server.port, messages_per_connection=2)
    for _ in range(3):
        await deliver(backend)
    assert len(server.sessions) == 2
    await eventually(lambda: server.sessions[0].commands[-1] == b"QUIT")
    await backend.close()


async def test_a_refusal_does_not_cost_the_connection(
    server: ScriptedBackend, backend: SmtpBackend
) -> None:
    for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT):
        server.once(stage, say("550 5.7.1 no"))
        assert isinstance((await deliver(backend)).uniform, Bounced)
    assert isinstance((await deliver(backend)).uniform, Delivered)
    assert len(server.sessions) == 1


@pytest.mark.parametrize("action", [CLOSE, RESET, bye("421 4.4.2 idle too long")])
@pytest.mark.parametrize("extensions", [("PIPELINING",), ()])
async def test_a_stale_connection_costs_the_message_nothing(
    action: Action, extensions: tuple[str, ...]
) -> None:
    """Nothing of the message was judged, so a new connection may try."""
    async with ScriptedBackend(extensions=extensions) as server:
        backend = smtp_backend(server.port)
        await deliver(backend)
        server.once(Stage.MAIL, action)
        assert isinstance((await deliver(backend)).uniform, Delivered)
        assert len(server.sessions) == 2
        assert len(server.messages) == 2
        await backend.close()


async def test_a_connection_that_died_unseen_is_replaced(
    server: ScriptedBackend, backend: SmtpBackend
) -> None:
    await deliver(backend)
    server.hang_up()
    assert isinstance((await deliver(backend)).uniform, Delivered)
    assert len(server.sessions) == 2


async def test_a_connection_that_was_put_aside_before_its_first_message_may_be_stale_too(
    server: ScriptedBackend, backend: SmtpBackend
) -> None:
    """Another one was free before it was there."""
    connection = await backend._pool.open()
    assert isinstance(connection, Connection)
    backend._pool.give_back(connection)
    server.once(Stage.MAIL, CLOSE)
    assert isinstance((await deliver(backend)).uniform, Delivered)
    assert len(server.sessions) == 2


async def test_a_new_connection_is_not_tried_twice(
    server: ScriptedBackend, backend: SmtpBackend
) -> None:
    server.always(Stage.MAIL, CLOSE)
    result = await deliver(backend)
    assert isinstance(result.uniform, Deferred)
    assert not result.is_backend_away
    assert len(server.sessions) == 1


async def test_a_stale_connection_is_replaced_once(
    server: ScriptedBackend, backend: SmtpBackend
) -> None:
    await deliver(backend)
    server.always(Stage.MAIL, bye("421 4.3.2 overloaded"))
    (result,) = (await deliver(backend)).recipients
    assert isinstance(result, Deferred)
    assert result.reply is not None
    assert result.reply.code == 421
    assert len(server.sessions) == 2


@pytest.mark.parametrize("stage", [Stage.RCPT, Stage.DATA, Stage.DOT])
async def test_a_connection_that_breaks_after_an_answer_is_not_stale(
    server: ScriptedBackend, backend: SmtpBackend, stage: Stage
) -> None:
    await deliver(backend)
    server.once(stage, CLOSE)
    assert not isinstance((await deliver(backend)).uniform, Delivered)
    assert len(server.sessions) == 1


async def test_a_slow_server_is_not_a_stale_connection(server: ScriptedBackend) -> None:
    """Another connection would only add to its load."""
    backend = smtp_backend(server.port, command_timeout=0.1)
    await deliver(backend)
    server.once(Stage.MAIL, STALL)
    (result,) = (await deliver(backend)).recipients
    assert isinstance(result, Deferred)
    assert "no progress" in result.detail
    assert len(server.sessions) == 1
    await backend.close()


async def test_a_backend_that_is_away_says_so(
    server: ScriptedBackend, backend: SmtpBackend
) -> None:
    await deliver(backend)
    await server.stop()
    await eventually(lambda: backend.connections().idle == 0)
    result = await deliver(backend, outbound(to=[b"a@example.com", b"b@example.com"]))
    assert result.is_backend_away
    assert len(result.recipients) == 2
    assert isinstance(result.uniform, Deferred)
    assert backend.connections().failed_total == 1


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
async def test_after_a_cancelled_delivery_the_next_message_gets_its_own_answer(
    server: ScriptedBackend, backend: SmtpBackend, stage: Stage
) -> None:
    """The answer to the first comes late; on a connection kept open the second would take it."""
    await deliver(backend)
    answer = asyncio.Event()
    server.once(stage, Wait(answer, say("550 5.7.1 this was for the cancelled message")))
    seen = len(server.commands) + len(server.received)
    task = asyncio.get_running_loop().create_task(backend.deliver(outbound(b"cancelled\r\n")))
    await eventually(lambda: len(server.commands) + len(server.received) > seen)
    if stage is Stage.DOT:
        await eventually(lambda: len(server.received) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.connections().idle == 0
    answer.set()
    server.once(Stage.DOT, say("250 2.0.0 this is for the next message"))
    result = (await deliver(backend, outbound(b"next\r\n"))).uniform
    assert isinstance(result, Delivered)
    assert result.reply.wire == b"250 2.0.0 this is for the next message\r\n"
    assert len(server.sessions) == 2
    assert server.messages[-1].data == b"next\r\n"


async def test_a_cancellation_that_comes_with_the_354_costs_the_connection(
    server: ScriptedBackend, backend: SmtpBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All replies have been read then, and yet the server waits for mail data."""
    await deliver(backend)
    wire = backend._pool._idle._stack[0][0].wire
    task = asyncio.get_running_loop().create_task(backend.deliver(outbound(b"cancelled\r\n")))
    wake = wire._wake

    def wake_and_cancel() -> None:
        wake()
        task.cancel()

    monkeypatch.setattr(wire, "_wake", wake_and_cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [reply.code for reply in wire.replies] == [250, 250, 354]
    assert isinstance((await deliver(backend, outbound(b"next\r\n"))).uniform, Delivered)
    assert [message.data for message in server.messages][1:] == [b"next\r\n"]
    assert len(server.sessions) == 2


async def test_a_client_that_left_costs_the_connection(
    server: ScriptedBackend, backend: SmtpBackend
) -> None:
    with pytest.raises(ClientGone):
        await deliver(backend, outbound(may_send_dot=lambda: False))
    assert backend.connections() == BackendConnections(opened_total=1)
    await eventually(lambda: server.open_sessions == 0)
    assert server.received == []


async def test_an_unread_reply_is_never_left_for_the_next_message(
    server: ScriptedBackend, backend: SmtpBackend
) -> None:
    """A server that answers the dot twice: its second answer belongs to nobody."""
    server.once(Stage.DOT, say("250 2.0.0 taken", "550 5.0.0 or not"))
    assert isinstance((await deliver(backend)).uniform, Delivered)
    assert backend.connections().idle == 0
    assert isinstance((await deliver(backend)).uniform, Delivered)
    assert len(server.sessions) == 2


async def test_after_a_refusal_the_reply_to_rset_is_not_the_next_message_s(
    server: ScriptedBackend, backend: SmtpBackend
) -> None:
    server.once(Stage.RCPT, say("450 4.2.1 later"))
    server.rset = say("250 2.0.0 reset, slowly")
    await deliver(backend)
    server.once(Stage.MAIL, say("550 5.7.1 not this sender"))
    (result,) = (await deliver(backend)).recipients
    assert isinstance(result, Bounced)
    assert result.stage is Stage.MAIL


async def test_close_is_polite_and_may_be_repeated(
    server: ScriptedBackend, backend: SmtpBackend
) -> None:
    await deliver(backend)
    await backend.close()
    assert server.commands[-1] == b"QUIT"
    await backend.close()
    result = await deliver(backend)
    assert isinstance(result.uniform, Deferred)
    assert len(server.sessions) == 1


async def test_the_end_of_every_dialog_is_told(server: ScriptedBackend) -> None:
    """Whoever remembers recipients learns from it; no dialog teaches nothing."""
    told: list[tuple[OutboundMessage, TransactionResult]] = []
    backend = smtp_backend(server.port)
    backend._on_result = lambda message, result: told.append((message, result))
    server.once(Stage.RCPT, say("550 5.1.1 no such user"))
    message = outbound()
    results = [await deliver(backend, message), await deliver(backend, message)]
    assert told == [(message, result) for result in results]
    server.always(Stage.CONNECT, bye("421 4.3.2 not now"))
    server.hang_up()
    assert (await deliver(backend)).is_backend_away
    assert told[2:] == []
    await backend.close()
