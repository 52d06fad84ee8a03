"""One mail transaction on one connection, against a server that follows a script."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mailshed.clock import SystemClock
from mailshed.errors import ClientGone
from mailshed.mail.delivery import Bounced, Deferred, Delivered, NoReply, TransactionResult
from mailshed.relay import transaction
from mailshed.relay.backend import OutboundMessage
from mailshed.relay.connection import Address, Connection, Timeouts, open_connection
from mailshed.relay.envelope import NO_SMTPUTF8, OTHERS_REFUSED
from mailshed.relay.wire import WireProtocol
from mailshed.terms import QueueId, Stage
from tests.support.clock import ManualClock
from tests.support.outbound import CONTENT, DEADLINE, eventually, outbound
from tests.support.scripted_backend import (
    CLOSE,
    STALL,
    Action,
    Say,
    ScriptedBackend,
    Wait,
    bye,
    say,
)

CLOCK = SystemClock()
LONG = Timeouts(connect=DEADLINE, command=DEADLINE, dot=DEADLINE)
ONE, TWO, THREE = b"one@example.com", b"two@example.com", b"three@example.com"
MIB = 1024 * 1024


async def connect(server: ScriptedBackend, timeouts: Timeouts = LONG) -> Connection:
    where = Address(host=server.host, port=server.port, hostname="relay.test")
    connection = await open_connection(where, timeouts)
    assert isinstance(connection, Connection)
    return connection


async def run(connection: Connection, message: OutboundMessage) -> TransactionResult:
    async with asyncio.timeout(DEADLINE):
        return await transaction.run(connection, message, CLOCK)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedBackend]:
    async with ScriptedBackend() as running:
        yield running


@pytest.fixture
async def connection(server: ScriptedBackend) -> AsyncIterator[Connection]:
    made = await connect(server)
    yield made
    made.wire.abort()


async def test_the_reply_to_the_dot_is_passed_on_as_it_came(
    server: ScriptedBackend, connection: Connection
) -> None:
    server.once(Stage.DOT, say("250-2.0.0 taken", "250 2.0.0 as B\u00e4r"))
    result = await run(connection, outbound())
    (delivered,) = result.recipients
    assert isinstance(delivered, Delivered)
    assert delivered.reply.wire == "250-2.0.0 taken\r\n250 2.0.0 as B\u00e4r\r\n".encode()
    assert connection.wire.is_idle
    assert connection.messages == 1
    assert not result.is_backend_away


async def test_a_refusal_of_several_lines_is_passed_on_as_it_came(
    server: ScriptedBackend, connection: Connection
) -> None:
    server.once(Stage.RCPT, Say(b"550-5.1.1 kein\r\n550 5.1.1 Empf\xe4nger\r\n"))
    (bounced,) = (await run(connection, outbound())).recipients
    assert isinstance(bounced, Bounced)
    assert bounced.reply.wire == b"550-5.1.1 kein\r\n550 5.1.1 Empf\xe4nger\r\n"


async def test_one_recipient_leaves_as_one_group(
    server: ScriptedBackend, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = record_groups(connection.wire, monkeypatch)
    await run(connection, outbound(sender=b""))
    assert groups == [(b"MAIL FROM:<> SIZE=23", b"RCPT TO:<one@example.com>", b"DATA")]
    assert server.messages[0].reverse_path == b""


async def test_several_recipients_wait_before_data(
    server: ScriptedBackend, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = record_groups(connection.wire, monkeypatch)
    result = await run(connection, outbound(to=[ONE, TWO]))
    assert [len(group) for group in groups] == [3, 1]
    assert server.messages[0].forward_paths == [ONE, TWO]
    assert isinstance(result.uniform, Delivered)


async def test_without_pipelining_commands_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedBackend(extensions=()) as server:
        connection = await connect(server)
        groups = record_groups(connection.wire, monkeypatch)
        result = await run(connection, outbound(to=[ONE, TWO], parameters=(b"BODY=8BITMIME",)))
        assert [len(group) for group in groups] == [1, 1, 1, 1]
        assert server.commands[1] == b"MAIL FROM:<sender@example.com>"
        assert isinstance(result.uniform, Delivered)


async def test_says_which_parameters_the_server_takes(connection: Connection) -> None:
    """Who reports a success depends on it."""
    assert b"NOTIFY" in (await run(connection, outbound())).passed_on
    async with ScriptedBackend(extensions=("PIPELINING",)) as plain:
        result = await run(await connect(plain), outbound())
        assert (result.passed_on, result.is_final) == (frozenset(), False)


async def test_a_message_that_needs_more_than_is_offered_is_not_begun(
    server: ScriptedBackend, connection: Connection
) -> None:
    content = "Subject: Grüße\r\n\r\n".encode()
    result = await run(connection, outbound(content, to=[ONE, TWO], parameters=(b"SMTPUTF8",)))
    lacking = Deferred(Stage.MAIL, None, NO_SMTPUTF8, NoReply.UNSUPPORTED)
    assert result.recipients == (lacking, lacking)
    assert not result.is_backend_away
    assert connection.messages == 0
    assert connection.wire.is_idle, "and the connection is good for the next one"
    assert isinstance((await run(connection, outbound())).uniform, Delivered)
    assert [command for command in server.commands if command.startswith(b"MAIL")] == [
        b"MAIL FROM:<sender@example.com> SIZE=23"
    ]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_came_with_smtputf8_without_need_goes_without(
    server: ScriptedBackend, connection: Connection, *, is_streamed: bool
) -> None:
    """Go's net/smtp gives the parameter with every message."""
    content = "Subject: alert\r\n\r\nGrüße\r\n".encode()
    parameters = (b"BODY=8BITMIME", b"SMTPUTF8")
    message = outbound(content, parameters=parameters, is_streamed=is_streamed)
    assert isinstance((await run(connection, message)).uniform, Delivered)
    assert f"MAIL FROM:<sender@example.com> SIZE={len(content)} BODY=8BITMIME".encode() in (
        server.commands
    )
    assert [each.data for each in server.messages] == [content]


async def test_the_time_left_is_that_of_the_moment() -> None:
    async with ScriptedBackend(extensions=("DELIVERBY",)) as server:
        connection = await connect(server)
        clock = ManualClock(monotonic=5.0, wall=1000.0)
        message = replace(outbound(parameters=(b"BY=600;N",)), deadline_wall=1060.0)
        await transaction.run(connection, message, clock)
        assert b"MAIL FROM:<sender@example.com> BY=60;N" in server.commands


async def test_parameters_reach_the_server_verbatim(
    server: ScriptedBackend, connection: Connection
) -> None:
    message = outbound(
        parameters=(b"BODY=8BITMIME", b"RET=HDRS", b"ENVID=QQ+2B31"),
        rcpt_parameters=(b"NOTIFY=NEVER", b"ORCPT=rfc822;One+40Example.COM"),
    )
    await run(connection, message)
    assert server.commands[1:3] == [
        b"MAIL FROM:<sender@example.com> SIZE=23 BODY=8BITMIME RET=HDRS ENVID=QQ+2B31",
        b"RCPT TO:<one@example.com> NOTIFY=NEVER ORCPT=rfc822;One+40Example.COM",
    ]


def record_groups(wire: WireProtocol, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, ...]]:
    """Note the commands of each exchange."""
    groups: list[tuple[bytes, ...]] = []
    exchange = wire.exchange

    async def noted(commands: tuple[bytes, ...], *rest: object) -> object:
        groups.append(tuple(commands))
        return await exchange(commands, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(wire, "exchange", noted)
    return groups


class TestMixedRecipients:
    @staticmethod
    def refuse_two(path: bytes) -> Action:
        return say("550 5.1.1 no such user") if path == TWO else say("250 2.1.5 ok")

    async def test_a_waiting_client_s_message_goes_to_nobody(
        self, server: ScriptedBackend, connection: Connection
    ) -> None:
        server.rcpt = self.refuse_two
        result = await run(connection, outbound(to=[ONE, TWO, THREE]))
        others = Deferred(Stage.RCPT, None, OTHERS_REFUSED, NoReply.OUR_CHOICE)
        first, second, third = result.recipients
        assert (first, third) == (others, others)
        assert isinstance(second, Bounced)
        assert server.received == []
        assert server.commands[-1] == b"RSET"
        assert b"DATA" not in server.commands
        assert connection.wire.is_idle

    async def test_partial_ok_sends_it_to_those_who_were_accepted(
        self, server: ScriptedBackend, connection: Connection
    ) -> None:
        server.rcpt = self.refuse_two
        result = await run(connection, outbound(to=[ONE, TWO, THREE], partial_ok=True))
        kinds = [type(recipient) for recipient in result.recipients]
        assert kinds == [Delivered, Bounced, Delivered]
        assert server.messages[0].forward_paths == [ONE, THREE]
        assert connection.wire.is_idle

    async def test_everybody_refused_ends_without_data(
        self, server: ScriptedBackend, connection: Connection
    ) -> None:
        server.once(Stage.RCPT, say("550 5.1.1 no"), say("450 4.2.1 later"))
        result = await run(connection, outbound(to=[ONE, TWO], partial_ok=True))
        assert [type(recipient) for recipient in result.recipients] == [Bounced, Deferred]
        assert b"DATA" not in server.commands
        assert connection.wire.is_idle


@pytest.mark.parametrize("answer", ["250 2.0.0 taken", "554 5.5.1 no valid recipients"])
async def test_data_accepted_for_nobody_is_ended_and_counts_as_nothing(
    server: ScriptedBackend, connection: Connection, answer: str
) -> None:
    """RFC 2920, 3.1: DATA may get its 354 though every RCPT was refused."""
    server.once(Stage.RCPT, say("550 5.1.1 no such user"))
    server.once(Stage.DATA, say("354 go ahead"))
    server.once(Stage.DOT, say(answer))
    (result,) = (await run(connection, outbound())).recipients
    assert isinstance(result, Bounced)
    assert result.stage is Stage.RCPT
    assert [message.data for message in server.received] == [b""]
    assert server.commands[-1] == b"RSET"
    assert connection.wire.is_idle


async def test_a_confused_envelope_is_never_ended_with_a_dot(
    server: ScriptedBackend, connection: Connection
) -> None:
    """A recipient accepted without a sender might be sent the empty message."""
    server.once(Stage.MAIL, say("550 5.7.1 not you"))
    server.once(Stage.RCPT, say("250 2.1.5 ok"))
    server.once(Stage.DATA, say("354 go ahead"))
    (result,) = (await run(connection, outbound())).recipients
    assert isinstance(result, Bounced)
    assert result.stage is Stage.MAIL
    assert not connection.wire.is_idle
    await eventually(lambda: server.open_sessions == 0)
    assert server.received == []


async def test_a_server_that_cannot_reset_is_left(
    server: ScriptedBackend, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result stands; only the connection is lost."""
    monkeypatch.setattr(transaction, "RSET_TIMEOUT", 0.05)
    server.once(Stage.DATA, say("451 4.3.0 not now"))
    server.rset = STALL
    (result,) = (await run(connection, outbound())).recipients
    assert isinstance(result, Deferred)
    assert result.stage is Stage.DATA
    assert not connection.wire.is_idle


class TestContent:
    @pytest.mark.parametrize("is_streamed", [False, True])
    @pytest.mark.parametrize(
        ("pieces", "arrives"),
        [
            ([], b""),
            ([b""], b""),
            ([b"one\r\n"], b"one\r\n"),
            ([b"no line end"], b"no line end\r\n"),
            ([b"cr at the end\r"], b"cr at the end\r\r\n"),
            ([b"..\r\n", b"..", b"\r\n"], b"..\r\n..\r\n"),
            ([b"a\r", b"\n", b"..b\r\n"], b"a\r\n..b\r\n"),
        ],
    )
    async def test_arrives_unchanged_and_ended_once(
        self,
        server: ScriptedBackend,
        connection: Connection,
        pieces: list[bytes],
        arrives: bytes,
        *,
        is_streamed: bool,
    ) -> None:
        result = await run(connection, outbound(pieces, is_streamed=is_streamed))
        assert isinstance(result.uniform, Delivered)
        assert server.messages[0].data == arrives
        assert server.commands[-1] == b"DATA", "nothing was left over that looks like a command"

    async def test_prefix_comes_first(
        self, server: ScriptedBackend, connection: Connection
    ) -> None:
        await run(connection, outbound(prefix=b"Received: here\r\n"))
        assert server.messages[0].data == b"Received: here\r\n" + CONTENT

    @pytest.mark.parametrize("is_streamed", [False, True])
    @pytest.mark.parametrize(
        "pieces",
        [
            [b".\r\nMAIL FROM:<evil@example.com>\r\n"],
            [b"a\r\n.\r\nMAIL FROM:<evil@example.com>\r\n"],
            [b"a\r\n", b".\r\n", b"MAIL FROM:<evil@example.com>\r\n"],
            [b"a\r", b"\n", b".", b"\r", b"\nQUIT\r\n"],
            [b"a\r\n."],
            [b"."],
        ],
    )
    async def test_that_would_end_early_never_ends(
        self,
        server: ScriptedBackend,
        connection: Connection,
        pieces: list[bytes],
        *,
        is_streamed: bool,
    ) -> None:
        """SMTP smuggling is stopped on the bytes that leave, whoever failed before."""
        with pytest.raises(AssertionError, match="ends early"):
            await run(connection, outbound(pieces, is_streamed=is_streamed))
        connection.wire.abort()
        await eventually(lambda: server.open_sessions == 0)
        assert server.received == []

    @pytest.mark.parametrize("is_streamed", [False, True])
    async def test_a_client_that_left_ends_it_without_a_dot(
        self, server: ScriptedBackend, connection: Connection, *, is_streamed: bool
    ) -> None:
        message = outbound(may_send_dot=lambda: False, is_streamed=is_streamed)
        with pytest.raises(ClientGone):
            await run(connection, message)
        connection.wire.abort()
        await eventually(lambda: server.open_sessions == 0)
        assert server.received == []

    async def test_an_error_of_its_source_is_the_caller_s(self, connection: Connection) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one\r\n"
            raise OSError("the file is gone")

        message = OutboundMessage(
            queue_id=QueueId("0"),
            reverse_path=b"",
            recipients=((ONE, ()),),
            size=100,
            chunks=chunks,
        )
        with pytest.raises(OSError, match="the file is gone"):
            await run(connection, message)
        assert not connection.wire.is_idle


class TestLargeContent:
    SIZE = 5 * MIB

    @staticmethod
    def pieces(octets: int = SIZE) -> list[bytes]:
        line = b"x" * 62 + b"\r\n"
        return [line * 4096] * (octets // (64 * 4096))

    async def test_a_slow_backend_does_not_fill_our_memory(self) -> None:
        """The server's kernel buffers are small and it does not read; ours must not grow."""
        buffered: list[int] = []
        async with ScriptedBackend(receive_buffer=16 * 1024) as server:
            connection = await connect(server)
            out = connection.wire._out
            assert isinstance(out, asyncio.WriteTransport)
            handed_over = 0
            pieces = self.pieces(16 * MIB)

            async def chunks() -> AsyncIterator[bytes]:
                nonlocal handed_over
                for piece in pieces:
                    buffered.append(out.get_write_buffer_size())
                    handed_over += len(piece)
                    yield piece

            message = OutboundMessage(
                queue_id=QueueId("0"),
                reverse_path=b"",
                recipients=((ONE, ()),),
                size=16 * MIB,
                chunks=chunks,
            )
            server.may_read.clear()
            task = asyncio.get_running_loop().create_task(run(connection, message))
            await eventually(lambda: connection.wire._paused)
            assert handed_over < 16 * MIB, "the rest stays where it is until the backend reads"
            buffered.append(out.get_write_buffer_size())
            server.may_read.set()
            assert isinstance((await task).uniform, Delivered)
            assert server.messages[0].data == b"".join(pieces)
            assert max(buffered) <= 1.5 * MIB

    async def test_one_huge_chunk_is_cut(
        self, server: ScriptedBackend, connection: Connection
    ) -> None:
        out = connection.wire._out
        assert isinstance(out, asyncio.WriteTransport)
        body = b"".join(self.pieces())
        server.may_read.clear()
        task = asyncio.get_running_loop().create_task(run(connection, outbound(body)))
        await eventually(lambda: connection.wire._paused)
        assert out.get_write_buffer_size() <= 1.5 * MIB
        server.may_read.set()
        assert isinstance((await task).uniform, Delivered)
        assert server.messages[0].data == body

    async def test_a_backend_that_stops_reading_is_given_up(self) -> None:
        async with ScriptedBackend(receive_buffer=16 * 1024) as server:
            timeouts = Timeouts(connect=DEADLINE, command=0.2, dot=DEADLINE)
            connection = await connect(server, timeouts)
            server.may_read.clear()
            message = outbound(self.pieces(16 * MIB), is_streamed=True)
            (result,) = (await run(connection, message)).recipients
            assert isinstance(result, Deferred)
            assert result.stage is Stage.DATA
            assert "no progress" in result.detail
            assert not connection.wire.is_idle

    @pytest.mark.parametrize(
        ("action", "expected"),
        [
            (say("552 5.3.4 too big"), Bounced),
            (say("452 4.3.1 disk full"), Deferred),
            (bye("421 4.3.2 closing"), Deferred),
            (CLOSE, Deferred),
            (say("250 2.0.0 so soon?"), Deferred),
            (say("what?"), Deferred),
        ],
    )
    async def test_an_early_answer_ends_the_upload(
        self,
        server: ScriptedBackend,
        connection: Connection,
        action: Action,
        expected: type[Deferred | Bounced],
    ) -> None:
        server.early = (100_000, action)
        (result,) = (await run(connection, outbound(self.pieces(), is_streamed=True))).recipients
        assert type(result) is expected
        assert isinstance(result, Deferred | Bounced)
        assert result.stage is Stage.DATA
        assert not connection.wire.is_idle, "the rest of the data would be read as commands"
        await eventually(lambda: server.open_sessions == 0)
        assert server.received == []


async def test_times_add_up(server: ScriptedBackend, connection: Connection) -> None:
    connection.connect_seconds = 7.0
    times = (await run(connection, outbound())).times
    assert times.connect == 7.0
    assert 0 < times.envelope < times.service
    assert 0 <= times.content < times.service
    assert times.envelope + times.content <= times.service
    assert 0 < times.mail <= times.envelope


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",)])
async def test_the_reply_to_mail_is_timed_though_others_come_later(
    extensions: tuple[str, ...],
) -> None:
    mail, rcpt = asyncio.Event(), asyncio.Event()
    async with ScriptedBackend(extensions=extensions) as server:
        server.once(Stage.MAIL, Wait(mail, say("250 2.1.0 ok")))
        server.once(Stage.RCPT, Wait(rcpt, say("250 2.1.5 ok")))
        connection = await connect(server)
        clock = ManualClock()
        task = asyncio.get_running_loop().create_task(
            transaction.run(connection, outbound(), clock)
        )
        await eventually(lambda: connection.messages == 1)
        clock.advance(0.25)
        mail.set()
        await eventually(lambda: connection.wire.replied_at is not None)
        clock.advance(2.0)
        rcpt.set()
        times = (await task).times
        assert (times.mail, times.envelope, times.service) == (0.25, 2.25, 2.25)
        connection.wire.abort()


async def test_it_is_known_how_long_replies_lay_with_us_after_they_were_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A busy loop goes on with a transaction some time after its replies came."""
    clock = ManualClock()
    async with ScriptedBackend(extensions=("PIPELINING",)) as server:
        connection = await connect(server)
        wake = connection.wire._wake

        def wake_late() -> None:
            clock.advance(0.1)
            wake()

        monkeypatch.setattr(connection.wire, "_wake", wake_late)
        times = (await transaction.run(connection, outbound(), clock)).times
        assert times.lateness == pytest.approx(0.2), "once for the envelope and once for the dot"
        assert times.mail == 0.0
        assert times.service == pytest.approx(0.2)
        connection.wire.abort()


async def test_a_connection_that_ends_before_any_reply_has_no_time_of_mail(
    server: ScriptedBackend, connection: Connection
) -> None:
    server.once(Stage.MAIL, CLOSE)
    result = await run(connection, outbound())
    assert result.times.mail == 0.0
    assert result.recipients == (
        Deferred(Stage.MAIL, None, "the backend closed the connection", NoReply.NO_CONNECTION),
    )
