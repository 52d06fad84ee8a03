"""Opening a connection, and what a server can do to spoil it."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from mailshed.mail.delivery import Deferred, NoReply
from mailshed.relay.connection import (
    Address,
    Connection,
    Timeouts,
    open_connection,
)
from mailshed.relay.offers import Offers
from mailshed.terms import Stage
from tests.support.outbound import DEADLINE, eventually
from tests.support.scripted_backend import STALL, Action, Say, ScriptedBackend, say

TIMEOUTS = Timeouts(connect=DEADLINE, command=DEADLINE, dot=DEADLINE)


def address(port: int, host: str = "127.0.0.1") -> Address:
    return Address(host=host, port=port, hostname="relay.test")


async def test_an_open_connection_knows_what_was_offered() -> None:
    extensions = ("PIPELINING", "SIZE 1000", "8BITMIME", "dsn", "SMTPUTF8", "STARTTLS")
    async with ScriptedBackend(extensions=extensions) as server:
        connection = await open_connection(address(server.port), TIMEOUTS)
        assert isinstance(connection, Connection)
        assert connection.offers == Offers(
            pipelining=True,
            starttls=True,
            size=True,
            size_max=1000,
            keywords=frozenset({b"BODY", b"RET", b"ENVID", b"NOTIFY", b"ORCPT", b"SMTPUTF8"}),
        )
        assert server.commands == [b"EHLO relay.test"]
        await connection.quit()
        await eventually(lambda: server.open_sessions == 0)
        assert server.commands == [b"EHLO relay.test", b"QUIT"]


async def test_a_server_without_extensions_offers_nothing() -> None:
    async with ScriptedBackend(extensions=()) as server:
        connection = await open_connection(address(server.port), TIMEOUTS)
        assert isinstance(connection, Connection)
        assert connection.offers == Offers()
        await connection.quit()


async def test_nobody_listening_is_deferred_at_connect() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        port = taken.getsockname()[1]
        result = await open_connection(address(port), TIMEOUTS)
    assert isinstance(result, Deferred)
    assert result.stage is Stage.CONNECT
    assert result.reply is None
    assert f"127.0.0.1:{port}" in result.detail
    assert "refused" in result.detail or "failed" in result.detail
    assert result.no_reply is NoReply.NO_CONNECTION


async def test_a_host_name_that_cannot_be_is_deferred_at_connect() -> None:
    result = await open_connection(address(25, host="no..such..host"), TIMEOUTS)
    assert isinstance(result, Deferred)
    assert result.stage is Stage.CONNECT


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.EHLO])
async def test_a_permanent_refusal_of_the_connection_is_not_one_of_the_message(
    stage: Stage,
) -> None:
    async with ScriptedBackend() as server:
        server.once(stage, say("554-5.7.1 go", "554 5.7.1 away"))
        result = await open_connection(address(server.port), TIMEOUTS)
        assert isinstance(result, Deferred)
        assert result.stage is stage
        assert result.reply is None
        assert "554" in result.detail
        assert "away" in result.detail
        assert result.no_reply is NoReply.NO_CONNECTION
        await eventually(lambda: server.open_sessions == 0)


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.EHLO])
async def test_a_transient_refusal_keeps_the_reply_with_all_its_lines(stage: Stage) -> None:
    async with ScriptedBackend() as server:
        server.once(stage, say("421-4.3.2 too many", "421 4.3.2 connections"))
        result = await open_connection(address(server.port), TIMEOUTS)
        assert isinstance(result, Deferred)
        assert result.reply is not None
        assert result.reply.wire == b"421-4.3.2 too many\r\n421 4.3.2 connections\r\n"


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.EHLO])
async def test_silence_ends_at_the_timeout_of_its_stage(stage: Stage) -> None:
    short = 0.05
    timeouts = Timeouts(
        connect=short if stage is Stage.CONNECT else DEADLINE,
        command=short if stage is Stage.EHLO else DEADLINE,
        dot=DEADLINE,
    )
    async with ScriptedBackend() as server, asyncio.timeout(DEADLINE / 2):
        server.once(stage, STALL)
        result = await open_connection(address(server.port), timeouts)
        assert isinstance(result, Deferred)
        assert result.stage is stage
        assert "in time" in result.detail
        assert result.no_reply is NoReply.TIMED_OUT


@pytest.mark.parametrize(
    "action",
    [
        Say(b"250-scripted\r\n250 PIPELINING\r\n421 4.3.2 and bye\r\n"),
        Say(b"250-scripted\r\n250 PIPELINING\r\n25"),
    ],
)
async def test_more_than_the_reply_to_ehlo_is_no_start_for_a_dialog(action: Action) -> None:
    """Every later reply would be off by some."""
    async with ScriptedBackend() as server:
        server.once(Stage.EHLO, action)
        result = await open_connection(address(server.port), TIMEOUTS)
        assert isinstance(result, Deferred)
        assert result.stage is Stage.EHLO
        assert result.no_reply is NoReply.NOT_SMTP


@pytest.mark.parametrize(
    "greeting", [b"220 hello\r\n250 2.1.0 injected\r\n", b"220 hello\r\n25", b"nonsense\r\n"]
)
async def test_more_than_a_greeting_or_other_than_one_is_no_start(greeting: bytes) -> None:
    """The octets left in the stock parser would be lost."""
    async with ScriptedBackend() as server:
        server.once(Stage.CONNECT, Say(greeting))
        result = await open_connection(address(server.port), TIMEOUTS)
        assert isinstance(result, Deferred)
        assert result.stage is Stage.CONNECT
        assert result.no_reply is NoReply.NOT_SMTP
        await eventually(lambda: server.open_sessions == 0)


async def test_only_the_last_word_of_a_server_counts() -> None:
    heard: list[list[str]] = []
    async with ScriptedBackend(extensions=("SIZE 5", "X-ODD  two  spaces")) as server:
        where = replace(address(server.port), on_hello=lambda lines: heard.append(list(lines)))
        connection = await open_connection(where, TIMEOUTS)
        assert isinstance(connection, Connection)
        assert heard == [["SIZE 5", "X-ODD  two  spaces"]]
        await connection.quit()
        server.once(Stage.EHLO, say("550 5.7.1 go away"))
        assert isinstance(await open_connection(where, TIMEOUTS), Deferred)
        assert len(heard) == 1


async def test_a_session_carries_no_more_messages_than_the_server_says() -> None:
    """RFC 9422, MAILMAX."""
    async with ScriptedBackend(extensions=("LIMITS MAILMAX=2",)) as server:
        connection = await open_connection(address(server.port), TIMEOUTS)
        assert isinstance(connection, Connection)
        found = []
        for connection.messages in (1, 2, 3):
            found.append(connection.is_used_up)
        assert found == [False, True, True]
        await connection.quit()


async def test_cancellation_while_connecting_leaves_no_connection() -> None:
    async with ScriptedBackend() as server:
        server.once(Stage.EHLO, STALL)
        task = asyncio.get_running_loop().create_task(
            open_connection(address(server.port), TIMEOUTS)
        )
        await eventually(lambda: b"EHLO relay.test" in server.commands)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The stalled session does not read, but its transport sees the end.
        await eventually(server.sessions[0].reader.at_eof)


async def test_quit_does_not_wait_for_a_server_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mailshed.relay.connection.QUIT_TIMEOUT", 0.05)
    async with ScriptedBackend() as server, asyncio.timeout(DEADLINE / 2):
        server.once(Stage.QUIT, STALL)
        connection = await open_connection(address(server.port), TIMEOUTS)
        assert isinstance(connection, Connection)
        await connection.quit()
        assert not connection.wire.is_idle


@pytest.mark.parametrize(("protocol", "hello"), [("smtp", b"EHLO"), ("lmtp", b"LHLO")])
async def test_a_server_on_this_host_is_reached_over_its_socket(
    tmp_path: Path, protocol: Literal["smtp", "lmtp"], hello: bytes
) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 local\r\n")
        heard.append(await reader.readline())
        writer.write(b"250-local\r\n250 PIPELINING\r\n")
        heard.append(await reader.readline())
        writer.write(b"221 bye\r\n")
        writer.close()

    path = tmp_path / "server.sock"
    async with await asyncio.start_unix_server(serve, path), asyncio.timeout(DEADLINE):
        where = Address(host="", port=0, socket=path, protocol=protocol, hostname="relay.test")
        connection = await open_connection(where, TIMEOUTS)
        assert isinstance(connection, Connection)
        assert connection.offers.pipelining
        await connection.quit()
    assert heard == [hello + b" relay.test\r\n", b"QUIT\r\n"]


async def test_a_socket_that_is_not_there_is_deferred_at_connect(tmp_path: Path) -> None:
    path = tmp_path / "nobody.sock"
    where = Address(host="", port=0, socket=path, hostname="relay.test")
    result = await open_connection(where, TIMEOUTS)
    assert isinstance(result, Deferred)
    assert result.stage is Stage.CONNECT
    assert str(path) in result.detail
