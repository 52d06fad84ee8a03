"""LMTP behind us (RFC 2033): every stage times everything that can go wrong there.

After the final dot each recipient has its own reply, and the row of them may break off anywhere:
who was answered is settled, whoever was not is in doubt. As in `test_backend_faults`, each case has
a second message behind it, which must get the answers that were meant for it.
"""

import asyncio
from collections.abc import Iterator
from itertools import product

import pytest
import uvloop

from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    InDoubt,
    NoReply,
    TransactionResult,
)
from mailshed.relay.manner import Manner
from mailshed.relay.smtp import SmtpBackend
from mailshed.terms import Stage
from tests.support.outbound import DEADLINE, outbound, smtp_backend
from tests.support.scripted_backend import (
    CLOSE,
    RESET,
    STALL,
    Action,
    Say,
    ScriptedBackend,
    bye,
    say,
)

STALL_TIMEOUT = 0.3
LMTP = Manner(is_lmtp=True)
ONE, TWO, THREE = b"one@example.com", b"two@example.com", b"three@example.com"
ALL = (ONE, TWO, THREE)

Kind = type[Delivered | Deferred | Bounced | InDoubt]
FAULTS: dict[str, Action] = {
    "4xx": say("452 4.2.2 mailbox full"),
    "5xx": say("552 5.2.2 mailbox full"),
    "421": bye("421 4.3.2 going down"),
    "close": CLOSE,
    "reset": RESET,
    "stall": STALL,
    "garbage": Say(b"\x00\xff what?\r\n"),
    "wrong class": say("334 go on"),
}
ANSWERED: dict[str, Kind] = {"4xx": Deferred, "5xx": Bounced, "421": Deferred}
"""What a reply makes of its recipient after the dot; the other faults are no reply."""


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as made:
        yield made


def backend_for(server: ScriptedBackend, **timeouts: float) -> SmtpBackend:
    return smtp_backend(server.port, manner=LMTP, **timeouts)  # type: ignore[arg-type]


def kinds(result: TransactionResult) -> list[Kind]:
    return [type(each) for each in result.recipients]


async def check_next(server: ScriptedBackend, backend: SmtpBackend) -> None:
    """A message to two must get exactly its own two answers."""
    server.once(Stage.DOT, say("250 2.0.0 this is for one"), say("250 2.0.0 this is for two"))
    second = await backend.deliver(outbound(b"second\r\n", to=[ONE, TWO], partial_ok=True))
    said = [each.reply.text for each in second.recipients if isinstance(each, Delivered)]
    assert said == ["250 2.0.0 this is for one", "250 2.0.0 this is for two"]
    assert server.messages[-1].data == b"second\r\n"
    assert backend.connections().busy == 0
    await backend.close()


BEFORE_THE_DOT = list(product((Stage.CONNECT, Stage.EHLO, Stage.MAIL, Stage.DATA), FAULTS))


@pytest.mark.parametrize("is_pipelining", [True, False], ids=["pipelining", "lock_step"])
@pytest.mark.parametrize(("stage", "fault"), BEFORE_THE_DOT)
def test_before_the_dot_a_fault_is_everybodys(
    runner: asyncio.Runner, stage: Stage, fault: str, *, is_pipelining: bool
) -> None:
    async def story() -> None:
        extensions = ("PIPELINING", "8BITMIME") if is_pipelining else ("8BITMIME",)
        timeouts: dict[str, float] = {}
        if fault == "stall":
            name = "connect" if stage is Stage.CONNECT else "command"
            timeouts = {f"{name}_timeout": STALL_TIMEOUT}
        async with (
            ScriptedBackend(extensions=extensions, is_lmtp=True) as server,
            asyncio.timeout(DEADLINE),
        ):
            server.once(stage, FAULTS[fault])
            backend = backend_for(server, **timeouts)
            result = await backend.deliver(outbound(to=ALL, partial_ok=True))
            is_refused = fault == "5xx" and stage not in (Stage.CONNECT, Stage.EHLO)
            assert kinds(result) == [Bounced if is_refused else Deferred] * 3
            assert server.messages == []
            assert result.is_backend_away == (stage in (Stage.CONNECT, Stage.EHLO))
            await check_next(server, backend)

    runner.run(story())


RCPT_EXPECTED: dict[str, list[Kind]] = {
    "4xx": [Delivered, Deferred, Delivered],
    "5xx": [Delivered, Bounced, Delivered],
    # A connection that is gone takes those with it who had been accepted: nothing was sent.
    **dict.fromkeys(("421", "close", "reset", "stall"), [Deferred] * 3),
    **dict.fromkeys(("garbage", "wrong class"), [Deferred] * 3),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_recipient_that_is_refused_has_no_reply_after_the_dot(
    runner: asyncio.Runner, fault: str
) -> None:
    async def story() -> None:
        timeouts = {"command_timeout": STALL_TIMEOUT} if fault == "stall" else {}
        async with ScriptedBackend(is_lmtp=True) as server, asyncio.timeout(DEADLINE):
            server.once(Stage.RCPT, say("250 2.1.5 ok"), FAULTS[fault])
            server.once(Stage.DOT, say("250 2.0.0 first"), say("250 2.0.0 third"))
            backend = backend_for(server, **timeouts)
            result = await backend.deliver(outbound(to=ALL, partial_ok=True))
            assert kinds(result) == RCPT_EXPECTED[fault]
            if result.recipients[0] != result.recipients[2]:
                said = [result.recipients[0], result.recipients[2]]
                texts = [each.reply.text for each in said if isinstance(each, Delivered)]
                assert texts == ["250 2.0.0 first", "250 2.0.0 third"]
                assert server.messages[0].forward_paths == [ONE, THREE]
            else:
                server._once[Stage.DOT].clear()
            await check_next(server, backend)

    runner.run(story())


@pytest.mark.parametrize("answered", [0, 1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_replies_that_break_off_settle_those_who_had_theirs(
    runner: asyncio.Runner, fault: str, answered: int
) -> None:
    """The n-th of three replies after the dot is a fault, or one more word for one recipient."""

    async def story() -> None:
        timeouts = {"dot_timeout": STALL_TIMEOUT} if fault == "stall" else {}
        async with ScriptedBackend(is_lmtp=True) as server, asyncio.timeout(DEADLINE):
            taken = [say(f"250 2.0.0 <{n}> saved") for n in range(answered)]
            server.once(Stage.DOT, *taken, FAULTS[fault])
            backend = backend_for(server, **timeouts)
            result = await backend.deliver(outbound(to=ALL, partial_ok=True))
            assert result.is_each
            assert not result.is_backend_away
            found = kinds(result)
            if fault == "reset":  # it may destroy replies that were on their way
                assert found[answered:] == [InDoubt] * (3 - answered)
                assert set(found[:answered]) <= {Delivered, InDoubt}
            else:
                here = ANSWERED.get(fault, InDoubt)
                goes_on = fault in ("4xx", "5xx")
                rest: Kind = Delivered if goes_on else InDoubt
                assert found == [Delivered] * answered + [here] + [rest] * (2 - answered)
            for number, each in enumerate(result.recipients[:answered]):
                if isinstance(each, Delivered):
                    assert each.reply.text == f"250 2.0.0 <{number}> saved"
            await check_next(server, backend)

    runner.run(story())


OUTCOMES: dict[str, Kind] = {
    "250 2.0.0 ok": Delivered,
    "452 4.2.2 full": Deferred,
    "550 5.7.1 no": Bounced,
    "421 4.3.2 not now": Deferred,
}


@pytest.mark.parametrize("replies", list(product(OUTCOMES, repeat=3)))
async def test_each_recipient_gets_its_own_reply(replies: tuple[str, ...]) -> None:
    """All rows of three, 421 among them: while the others' replies come, it is one recipient's."""
    async with ScriptedBackend(is_lmtp=True) as server, asyncio.timeout(DEADLINE):
        server.once(Stage.DOT, *(say(text) for text in replies))
        backend = backend_for(server)
        result = await backend.deliver(outbound(to=ALL, partial_ok=True))
        assert kinds(result) == [OUTCOMES[text] for text in replies]
        for each, text in zip(result.recipients, replies, strict=True):
            assert not isinstance(each, InDoubt)
            assert each.reply is not None
            assert each.reply.text == text
        await backend.close()


async def test_a_waiting_client_with_one_recipient_has_the_reply_passed_on() -> None:
    async with ScriptedBackend(is_lmtp=True) as server, asyncio.timeout(DEADLINE):
        server.once(Stage.DOT, say("250 2.0.0 <one@example.com> abc Saved"))
        backend = backend_for(server)
        assert backend.answers_each_recipient
        result = await backend.deliver(outbound())
        assert isinstance(result.uniform, Delivered)
        assert result.uniform.reply.wire == b"250 2.0.0 <one@example.com> abc Saved\r\n"
        assert server.commands[0] == b"LHLO relay.test"
        await backend.close()


async def test_a_reply_inside_the_data_is_its_recipients_and_nothing_was_handed_over() -> None:
    """A full mailbox may be found out early; the others are tried again."""
    async with ScriptedBackend(is_lmtp=True) as server, asyncio.timeout(DEADLINE):
        server.early = (100_000, say("552 5.2.2 full"))
        server.may_read.set()
        backend = backend_for(server)
        data = [b"x" * 70 + b"\r\n"] * 40_000
        message = outbound(data, to=ALL, partial_ok=True, is_streamed=True)
        server.may_read.clear()
        delivery = asyncio.get_running_loop().create_task(backend.deliver(message))
        await asyncio.sleep(0)
        server.may_read.set()
        result = await delivery
        first, *others = result.recipients
        assert first == Bounced(Stage.DATA, first.reply)  # type: ignore[union-attr, arg-type]
        assert {(type(each), each.no_reply) for each in others if isinstance(each, Deferred)} == {
            (Deferred, NoReply.OUR_CHOICE)
        }
        assert server.messages == []
        await check_next(server, backend)


async def test_a_dot_for_nobody_is_never_sent() -> None:
    """RFC 2033, 4.2: a server has to refuse DATA then; how many replies follow, nobody knows."""
    async with ScriptedBackend(is_lmtp=True) as server, asyncio.timeout(DEADLINE):
        server.once(Stage.RCPT, say("550 5.1.1 no such user"))
        server.once(Stage.DATA, say("354 go ahead"))
        backend = backend_for(server)
        (result,) = (await backend.deliver(outbound())).recipients
        assert isinstance(result, Bounced)
        assert server.received == []
        await check_next(server, backend)


async def test_a_dead_connection_of_the_pool_is_noticed_in_time() -> None:
    async with ScriptedBackend(is_lmtp=True) as server, asyncio.timeout(DEADLINE):
        backend = backend_for(server)
        await backend.deliver(outbound())
        server.always(Stage.MAIL, None)
        server.once(Stage.MAIL, CLOSE)
        result = await backend.deliver(outbound(to=ALL, partial_ok=True))
        assert kinds(result) == [Delivered] * 3
        assert len(server.sessions) == 2
        await backend.close()
