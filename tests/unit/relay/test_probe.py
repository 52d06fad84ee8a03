"""Questions to a backend, against a server that follows a script."""

import asyncio
import socket
from collections.abc import AsyncIterator
from functools import partial

import pytest

from mailshed.control.breaker import Step
from mailshed.control.limit import SlotEnding
from mailshed.mail.delivery import Deferred, NoReply
from mailshed.relay.connection import Address, Connection, Timeouts, open_connection
from mailshed.relay.presets import EXCHANGE, GENERIC, Preset
from mailshed.relay.probe import Prober
from mailshed.terms import Stage
from tests.support.outbound import DEADLINE, eventually
from tests.support.scripted_backend import (
    CLOSE,
    RESET,
    STALL,
    Action,
    ScriptedBackend,
    bye,
    say,
)

LONG = Timeouts(connect=DEADLINE, command=DEADLINE, dot=DEADLINE)
SHORT = Timeouts(connect=0.1, command=0.1, dot=0.1)


class Bench:
    """A server and who asks it."""

    def __init__(self, server: ScriptedBackend) -> None:
        self.server = server
        self.faults: list[str] = []

    def prober(self, timeouts: Timeouts = LONG, preset: Preset = GENERIC) -> Prober:
        where = Address(host=self.server.host, port=self.server.port, hostname="relay.test")
        return Prober(
            partial(open_connection, where, timeouts),
            on_failure=lambda name, error: self.faults.append(f"{name}: {error}"),
            preset=preset,
        )

    async def ask(
        self, step: Step, timeouts: Timeouts = LONG, preset: Preset = GENERIC
    ) -> tuple[SlotEnding, str]:
        return await asked(self.prober(timeouts, preset), step)


async def asked(prober: Prober, step: Step) -> tuple[SlotEnding, str]:
    ended: asyncio.Future[tuple[SlotEnding, str]] = asyncio.get_running_loop().create_future()
    prober.start(step, lambda ending, detail: ended.set_result((ending, detail)))
    async with asyncio.timeout(DEADLINE):
        return await ended


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with ScriptedBackend() as server:
        yield Bench(server)


async def test_the_first_question_is_whether_it_greets(bench: Bench) -> None:
    assert await bench.ask(Step.EHLO) == (SlotEnding.COMPLETED, "")
    assert bench.server.commands == [b"EHLO relay.test", b"QUIT"]


async def test_the_second_whether_it_takes_mail_and_no_message_comes_of_it(bench: Bench) -> None:
    assert await bench.ask(Step.MAIL) == (SlotEnding.COMPLETED, "")
    assert bench.server.commands == [b"EHLO relay.test", b"MAIL FROM:<>", b"RSET", b"QUIT"]
    assert bench.server.received == []
    await eventually(lambda: bench.server.open_sessions == 0)


@pytest.mark.parametrize(
    ("stage", "action", "expected", "detail"),
    [
        (Stage.CONNECT, bye("421 4.3.2 full"), SlotEnding.REFUSED, "connect: 421 4.3.2 full"),
        (Stage.CONNECT, say("554 5.3.2 no"), SlotEnding.REFUSED, "554"),
        (Stage.EHLO, RESET, SlotEnding.REFUSED, "ehlo: "),
        (Stage.MAIL, CLOSE, SlotEnding.REFUSED, "mail: the backend closed the connection"),
        (Stage.MAIL, bye("421 4.3.2 bye"), SlotEnding.REFUSED, "mail: 421 4.3.2 bye"),
        (Stage.MAIL, say("what?"), SlotEnding.STALLED, "mail: not an SMTP reply"),
        # Answers, though of refusal: it is there.
        (Stage.MAIL, say("452 4.3.1 disk full"), SlotEnding.BUSY, "mail: 452 4.3.1 disk full"),
        (Stage.MAIL, say("550 5.7.1 who are you"), SlotEnding.REJECTED, ""),
    ],
)
async def test_what_goes_wrong_is_told(
    bench: Bench, stage: Stage, action: Action, expected: SlotEnding, detail: str
) -> None:
    bench.server.once(stage, action)
    ending, said = await bench.ask(Step.MAIL)
    assert ending is expected
    assert detail in said
    await eventually(lambda: bench.server.open_sessions == 0)


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.EHLO, Stage.MAIL])
async def test_silence_ends(bench: Bench, stage: Stage) -> None:
    bench.server.once(stage, STALL)
    ending, _ = await bench.ask(Step.MAIL, SHORT)
    assert ending is SlotEnding.STALLED


async def test_nobody_there_refuses() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        where = Address(host="127.0.0.1", port=taken.getsockname()[1], hostname="relay.test")
        prober = Prober(partial(open_connection, where, LONG), on_failure=lambda *_: None)
        ending, _ = await asked(prober, Step.EHLO)
    assert ending is SlotEnding.REFUSED


async def test_the_preset_reads_the_replies(bench: Bench) -> None:
    rated = "421 4.4.2 Message submission rate for this client has exceeded the configured limit"
    bench.server.once(Stage.MAIL, bye(rated))
    ending, _ = await bench.ask(Step.MAIL, preset=EXCHANGE)
    assert ending is SlotEnding.BUSY


async def test_a_question_that_is_out_at_a_stop_is_broken_off(bench: Bench) -> None:
    bench.server.once(Stage.MAIL, STALL)
    prober = bench.prober()
    ended: list[SlotEnding] = []
    prober.start(Step.MAIL, lambda ending, _: ended.append(ending))
    await eventually(lambda: b"MAIL FROM:<>" in bench.server.commands)
    await prober.stop()
    assert ended == [SlotEnding.UNUSED]
    # The stalled session does not read, but its transport sees the end.
    await eventually(bench.server.sessions[0].reader.at_eof)
    assert bench.faults == []


async def test_a_fault_of_ours_is_reported_and_ends_the_question() -> None:
    faults: list[str] = []

    async def broken() -> Connection | Deferred:
        raise RuntimeError("our mistake")

    prober = Prober(broken, on_failure=lambda name, error: faults.append(f"{name}: {error}"))
    ending, detail = await asked(prober, Step.EHLO)
    assert ending is SlotEnding.STALLED
    assert "our mistake" in detail
    await eventually(lambda: faults == ["probe: our mistake"])


async def test_a_service_that_stops_does_not_ask() -> None:
    async def stopping() -> Connection | Deferred:
        return Deferred(Stage.CONNECT, None, "the service is stopping", NoReply.OUR_CHOICE)

    prober = Prober(stopping, on_failure=lambda *_: None)
    ending, _ = await asked(prober, Step.EHLO)
    assert ending is SlotEnding.UNUSED
