"""`StockBackend`: endings as results, bytes as they came, nothing that the library would change."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from mailshed.clock import SystemClock
from mailshed.errors import ClientGone
from mailshed.mail.delivery import Bounced, Deferred, Delivered, InDoubt, NoReply, TransactionResult
from mailshed.relay.backend import Backend, BackendConnections, OutboundMessage
from mailshed.relay.connection import Address, Timeouts
from mailshed.relay.security import BackendTls, Security, SecurityPolicy
from mailshed.relay.stock import StockBackend
from mailshed.terms import Stage
from tests.support.certificates import Authority, make_authority
from tests.support.outbound import CONTENT, DEADLINE, eventually, outbound
from tests.support.scripted_backend import CLOSE, RESET, STALL, Action, ScriptedBackend, bye, say
from tests.support.tls_backend import TlsBackend, server_context

NAME = "mail.hospital.test"
TWO = (b"one@example.com", b"two@example.com")


@pytest.fixture
async def server() -> AsyncIterator[ScriptedBackend]:
    async with ScriptedBackend() as running:
        yield running


@pytest.fixture
def told() -> list[TransactionResult]:
    return []


@pytest.fixture
async def backend(
    server: ScriptedBackend, told: list[TransactionResult]
) -> AsyncIterator[StockBackend]:
    made = stock(server.port, told=told)
    yield made
    await made.close()


def stock(
    port: int,
    *,
    told: list[TransactionResult] | None = None,
    hello: list[Sequence[str]] | None = None,
    security: Security | None = None,
    command: float = DEADLINE,
    dot: float = DEADLINE,
) -> StockBackend:
    address = Address(
        host="127.0.0.1",
        port=port,
        hostname="relay.test",
        security=security or Security(),
        on_hello=([] if hello is None else hello).append,
    )
    results: list[TransactionResult] = [] if told is None else told
    return StockBackend(
        "scripted",
        address,
        Timeouts(connect=DEADLINE, command=command, dot=dot),
        clock=SystemClock(),
        on_result=lambda _message, result: results.append(result),
    )


async def deliver(backend: Backend, message: OutboundMessage | None = None) -> TransactionResult:
    async with asyncio.timeout(2 * DEADLINE):
        return await backend.deliver(message or outbound())


async def test_a_message_is_handed_over_as_it_is(
    server: ScriptedBackend, backend: StockBackend, told: list[TransactionResult]
) -> None:
    """Dots, 8-bit octets and a line of any length, on a connection that ends politely."""
    wire = b"Subject: x\r\n\r\n..\r\n...dots\r\n\xff\xc3\xa9\r\n" + 3000 * b"x" + b"\r\n"
    message = outbound(wire, prefix=b"Received: by us\r\n", to=TWO, parameters=(b"BODY=8BITMIME",))
    result = await deliver(backend, message)
    assert isinstance(result.uniform, Delivered)
    assert result.uniform.reply.wire == b"250 2.0.0 taken\r\n"
    assert [each.data for each in server.messages] == [b"Received: by us\r\n" + wire]
    assert server.commands == [
        b"EHLO relay.test",
        b"MAIL FROM:<sender@example.com> SIZE=%d BODY=8BITMIME" % message.size,
        b"RCPT TO:<one@example.com>",
        b"RCPT TO:<two@example.com>",
        b"DATA",
        b"QUIT",
    ]
    assert told == [result]
    assert result.times.connect > 0
    assert result.times.service >= result.times.envelope > 0
    assert backend.connections() == BackendConnections(opened_total=1)


async def test_a_message_from_a_file_goes_out_as_one_from_memory(
    server: ScriptedBackend, backend: StockBackend
) -> None:
    pieces = (b"Subject: x\r\n\r\n", b"a\r", b"\n", b"..b\r\n")
    await deliver(backend, outbound(pieces, is_streamed=True, sender=b""))
    assert server.messages[0].data == b"".join(pieces)
    assert server.messages[0].reverse_path == b""


async def test_a_reply_of_several_lines_passes_as_it_came(
    server: ScriptedBackend, backend: StockBackend
) -> None:
    server.once(Stage.DOT, say("554-5.7.1 no, für", "554-", "554 5.7.1 good"))
    (result,) = (await deliver(backend)).recipients
    assert isinstance(result, Bounced)
    assert result.reply.wire == "554-5.7.1 no, für\r\n554-\r\n554 5.7.1 good\r\n".encode()


@pytest.mark.parametrize(
    ("stage", "told_stage"),
    [
        (Stage.MAIL, Stage.MAIL),
        (Stage.RCPT, Stage.RCPT),
        (Stage.DATA, Stage.DOT),  # the library does not say which of the two
        (Stage.DOT, Stage.DOT),
    ],
)
async def test_a_refusal_is_the_backends_word(
    server: ScriptedBackend, backend: StockBackend, stage: Stage, told_stage: Stage
) -> None:
    server.once(stage, say("550 5.7.1 no"), say("451 4.3.0 later"))
    first, second = await deliver(backend), await deliver(backend)
    assert isinstance(first.uniform, Bounced)
    assert first.uniform.stage is told_stage
    assert isinstance(second.uniform, Deferred)
    assert second.uniform.reply is not None
    assert second.uniform.reply.wire == b"451 4.3.0 later\r\n"
    assert server.messages == []


async def test_mixed_recipients_end_without_a_message_while_a_client_waits(
    server: ScriptedBackend, backend: StockBackend
) -> None:
    server.once(Stage.RCPT, say("250 2.1.5 ok"), say("550 5.1.1 no such user"))
    first, second = (await deliver(backend, outbound(to=TWO))).recipients
    assert isinstance(first, Deferred)
    assert isinstance(second, Bounced)
    assert b"DATA" not in server.commands


async def test_mixed_recipients_from_the_spool_are_settled_one_by_one(
    server: ScriptedBackend, backend: StockBackend
) -> None:
    server.once(Stage.RCPT, say("550 5.1.1 no such user"))
    first, second = (await deliver(backend, outbound(to=TWO, partial_ok=True))).recipients
    assert isinstance(first, Bounced)
    assert isinstance(second, Delivered)
    assert server.messages[0].forward_paths == [b"two@example.com"]


@pytest.mark.parametrize("action", [CLOSE, RESET])
@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT])
async def test_a_dialog_that_breaks_before_data_has_handed_nothing_over(
    server: ScriptedBackend, backend: StockBackend, stage: Stage, action: Action
) -> None:
    server.once(stage, action)
    (result,) = (await deliver(backend)).recipients
    assert isinstance(result, Deferred)
    assert result.stage is stage
    assert result.reply is None
    assert result.no_reply is NoReply.NO_CONNECTION


@pytest.mark.parametrize("action", [CLOSE, RESET, say("garbage"), say("250 2.0.0 too early")])
@pytest.mark.parametrize("stage", [Stage.DATA, Stage.DOT])
async def test_from_data_on_a_dialog_that_breaks_is_in_doubt(
    server: ScriptedBackend, backend: StockBackend, stage: Stage, action: Action
) -> None:
    """The library does not tell a lost DATA from a lost dot; a copy too many loses nothing."""
    if stage is Stage.DOT and action == say("250 2.0.0 too early"):
        action = say("252 2.0.0 perhaps")
    server.once(stage, action)
    (result,) = (await deliver(backend)).recipients
    assert isinstance(result, InDoubt)


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.DOT])
async def test_421_ends_the_dialog_with_the_backends_word(
    server: ScriptedBackend, backend: StockBackend, stage: Stage
) -> None:
    server.once(stage, bye("421 4.3.2 going down"))
    (result,) = (await deliver(backend)).recipients
    assert isinstance(result, Deferred)
    assert result.reply is not None
    assert result.reply.wire == b"421 4.3.2 going down\r\n"


@pytest.mark.parametrize(("stage", "kind"), [(Stage.RCPT, Deferred), (Stage.DOT, InDoubt)])
async def test_a_server_that_falls_silent(
    server: ScriptedBackend, stage: Stage, kind: type[object]
) -> None:
    backend = stock(server.port, command=0.05, dot=0.05)
    server.once(stage, STALL)
    (result,) = (await deliver(backend)).recipients
    assert isinstance(result, kind)
    if isinstance(result, Deferred):
        assert result.no_reply is NoReply.TIMED_OUT


@pytest.mark.parametrize(
    ("stage", "action", "code"),
    [
        (Stage.CONNECT, bye("421 4.3.2 busy"), 421),
        (Stage.CONNECT, bye("554 5.3.2 never"), None),
        (Stage.CONNECT, CLOSE, None),
        (Stage.EHLO, bye("421 4.3.2 busy"), 421),
        (Stage.EHLO, say("500 5.5.2 what?"), None),
        (Stage.EHLO, say("hello"), None),
        (Stage.EHLO, CLOSE, None),
    ],
)
async def test_a_server_that_cannot_be_spoken_to_is_away(  # noqa: PLR0917
    server: ScriptedBackend,
    backend: StockBackend,
    told: list[TransactionResult],
    stage: Stage,
    action: Action,
    code: int | None,
) -> None:
    server.once(stage, action)
    result = await deliver(backend, outbound(to=TWO))
    assert result.is_backend_away
    first, second = result.recipients
    assert isinstance(first, Deferred)
    assert first is second
    assert (first.reply and first.reply.code) == code
    assert told == []
    assert backend.connections() == BackendConnections(failed_total=1)


async def test_a_port_without_a_server(server: ScriptedBackend, backend: StockBackend) -> None:
    await server.stop()
    result = await deliver(backend)
    assert result.is_backend_away
    assert isinstance(result.uniform, Deferred)
    assert "Connection refused" in result.uniform.detail


async def test_a_client_that_left_gets_nothing_handed_over(
    server: ScriptedBackend, backend: StockBackend, told: list[TransactionResult]
) -> None:
    with pytest.raises(ClientGone):
        await deliver(backend, outbound(may_send_dot=lambda: False))
    await eventually(lambda: server.open_sessions == 0)
    assert server.received == []
    assert told == []


@pytest.mark.parametrize(
    "path",
    [
        b'"a b"(c)@example.com',
        b"a@example.com> SIZE=1",
        b"(comment)a@example.com",
        b"a\xff@example.com",
    ],
)
async def test_an_address_that_would_be_rewritten_is_not_sent(
    server: ScriptedBackend, backend: StockBackend, path: bytes
) -> None:
    """Two programs that disagree about an address is how mail reaches the wrong mailbox."""
    (result,) = (await deliver(backend, outbound(to=[path]))).recipients
    assert isinstance(result, Deferred)
    assert result.no_reply is NoReply.OUR_CHOICE
    assert server.commands == [b"EHLO relay.test"]


async def test_what_needs_smtputf8_goes_only_where_that_is_offered(
    server: ScriptedBackend, backend: StockBackend
) -> None:
    message = outbound(to=["é@example.com".encode()], parameters=(b"SMTPUTF8",))
    assert isinstance((await deliver(backend, message)).uniform, Deferred)
    server.extensions = ("SMTPUTF8",)
    assert isinstance((await deliver(backend, message)).uniform, Delivered)
    assert server.messages[0].forward_paths == ["é@example.com".encode()]


async def test_what_the_server_offers_is_told(server: ScriptedBackend) -> None:
    hello: list[Sequence[str]] = []
    await deliver(stock(server.port, hello=hello))
    assert [tuple(lines) for lines in hello] == [server.extensions]


async def test_abandoned_past_its_dot_a_message_is_in_doubt(
    server: ScriptedBackend, backend: StockBackend
) -> None:
    server.once(Stage.DOT, STALL)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(deliver(backend))
        await eventually(lambda: len(server.received) == 1)
        backend.abandon()
    assert isinstance(task.result().uniform, InDoubt)
    assert (await deliver(backend)).is_backend_away
    assert len(server.sessions) == 1


async def test_a_cancelled_delivery_takes_its_connection_along(
    server: ScriptedBackend, backend: StockBackend
) -> None:
    server.once(Stage.RCPT, STALL)
    task = asyncio.get_running_loop().create_task(backend.deliver(outbound()))
    await eventually(lambda: server.commands[-1:] == [b"RCPT TO:<one@example.com>"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.connections().busy == 0


async def test_a_server_that_is_silent_after_quit_costs_no_result(
    server: ScriptedBackend, backend: StockBackend
) -> None:
    server.once(Stage.QUIT, CLOSE)
    assert isinstance((await deliver(backend)).uniform, Delivered)
    assert server.messages[0].data == CONTENT


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    return server_context(authority.issue([NAME]))


def secured(tls: BackendTls, authority: Authority, name: str = NAME) -> Security:
    ca_file = None if tls is BackendTls.OPPORTUNISTIC else authority.ca_file
    return Security(SecurityPolicy(tls=tls, name=name, ca_file=ca_file))


@pytest.mark.parametrize(
    "tls", [BackendTls.OPPORTUNISTIC, BackendTls.STARTTLS, BackendTls.IMPLICIT]
)
async def test_mail_goes_encrypted(
    tls: BackendTls, authority: Authority, context: ssl.SSLContext
) -> None:
    hello: list[Sequence[str]] = []
    async with TlsBackend(context, is_implicit=tls is BackendTls.IMPLICIT) as server:
        backend = stock(server.port, security=secured(tls, authority), hello=hello)
        assert isinstance((await deliver(backend)).uniform, Delivered)
        assert server.messages[0].data == CONTENT
        assert b"MAIL" not in server.clear
        assert [tuple(lines) for lines in hello] == [server.after_tls]


async def test_without_starttls_no_mail_goes_where_it_is_required(
    server: ScriptedBackend, authority: Authority
) -> None:
    backend = stock(server.port, security=secured(BackendTls.STARTTLS, authority))
    assert (await deliver(backend)).is_backend_away
    assert server.commands == [b"EHLO relay.test"]


@pytest.mark.parametrize("tls", [BackendTls.STARTTLS, BackendTls.IMPLICIT])
async def test_a_certificate_for_another_name_is_not_taken(
    tls: BackendTls, authority: Authority, context: ssl.SSLContext
) -> None:
    async with TlsBackend(context, is_implicit=tls is BackendTls.IMPLICIT) as server:
        backend = stock(server.port, security=secured(tls, authority, "other.hospital.test"))
        result = await deliver(backend)
        assert result.is_backend_away
        assert server.messages == []
        assert b"MAIL" not in server.clear


async def test_a_server_on_this_host_is_reached_by_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with ScriptedBackend() as server:
        listener = await asyncio.start_unix_server(server._serve, path)
        address = Address(host="", port=25, hostname="relay.test", socket=path)
        timeouts = Timeouts(connect=DEADLINE, command=DEADLINE, dot=DEADLINE)
        backend = StockBackend(
            "local", address, timeouts, clock=SystemClock(), on_result=lambda *_: None
        )
        assert isinstance((await deliver(backend)).uniform, Delivered)
        listener.close()
