"""Every stage of the dialog with a backend, times everything that can go wrong there.

Each case is run with a second message behind it, on the same `SmtpBackend`: it must be delivered
and get the answer that was meant for it, or a connection came back to the pool out of step.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from mailshed.mail.delivery import Bounced, Deferred, Delivered, InDoubt
from mailshed.relay import connection as connection_module
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

FAULTS: dict[str, Action] = {
    "4xx": say("450 4.3.0 try later"),
    "5xx": say("550 5.7.1 no"),
    "421": bye("421 4.3.2 going down"),
    "421 and stay": say("421 4.3.2 going down"),
    "close": CLOSE,
    "reset": RESET,
    "stall": STALL,
    "garbage": Say(b"\x00\xff what?\r\n"),
    "wrong class": say("334 go on"),
    "mixed codes": say("250-fine", "550 not fine"),
    "too much": say("450 4.3.0 first", "250 2.0.0 second"),
}

# What the only recipient of the message gets; the stage in the result is the one of the fault.
# `too much` leaves the first reply valid where it decides, and the connection unusable.
Expected = type[Delivered | Deferred | Bounced | InDoubt]
BEFORE_THE_DIALOG: dict[str, Expected] = dict.fromkeys(FAULTS, Deferred)
BEFORE_THE_DOT: dict[str, Expected] = BEFORE_THE_DIALOG | {"5xx": Bounced}
AFTER_THE_DOT: dict[str, Expected] = {
    "4xx": Deferred,
    "5xx": Bounced,
    "421": Deferred,
    "421 and stay": Deferred,
    "close": InDoubt,
    "reset": InDoubt,
    "stall": InDoubt,
    "garbage": InDoubt,
    "wrong class": InDoubt,
    "mixed codes": InDoubt,
    "too much": Deferred,
}
TABLE: dict[Stage, dict[str, Expected]] = {
    Stage.CONNECT: BEFORE_THE_DIALOG,
    Stage.EHLO: BEFORE_THE_DIALOG,
    Stage.MAIL: BEFORE_THE_DOT,
    Stage.RCPT: BEFORE_THE_DOT,
    Stage.DATA: BEFORE_THE_DOT,
    Stage.DOT: AFTER_THE_DOT,
    Stage.QUIT: dict.fromkeys(FAULTS, Delivered),
}
CASES = [
    pytest.param(stage, fault, expected, id=f"{stage.value}-{fault.replace(' ', '_')}")
    for stage, row in TABLE.items()
    for fault, expected in row.items()
]


# Their transports end in different ways.
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("is_pipelining", [True, False], ids=["pipelining", "lock_step"])
@pytest.mark.parametrize(("stage", "fault", "expected"), CASES)
def test_each_fault_has_its_result_and_the_next_message_its_own_answer(
    stage: Stage,
    fault: str,
    expected: Expected,
    *,
    is_pipelining: bool,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "QUIT_TIMEOUT", STALL_TIMEOUT)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(deliver_two(stage, fault, expected, is_pipelining=is_pipelining))


async def deliver_two(stage: Stage, fault: str, expected: Expected, *, is_pipelining: bool) -> None:
    timeouts: dict[str, Any] = {}
    if fault == "stall" and stage is not Stage.QUIT:
        name = {Stage.CONNECT: "connect", Stage.DOT: "dot"}.get(stage, "command")
        timeouts = {f"{name}_timeout": STALL_TIMEOUT}
    extensions = ("PIPELINING", "SIZE 1000000") if is_pipelining else ("SIZE 1000000",)
    async with ScriptedBackend(extensions=extensions) as server, asyncio.timeout(DEADLINE):
        server.once(stage, FAULTS[fault])
        backend = smtp_backend(
            server.port,
            messages_per_connection=1 if stage is Stage.QUIT else 100,
            **timeouts,
        )

        first = await backend.deliver(outbound(b"first\r\n"))

        (result,) = first.recipients
        assert type(result) is expected, result
        if isinstance(result, Deferred | Bounced):
            # A reset destroys replies that were on their way, so it may seem to come earlier.
            order = list(Stage)
            assert result.stage is stage or (
                fault == "reset" and order.index(result.stage) < order.index(stage)
            ), result
            if fault in ("4xx", "421", "421 and stay"):
                assert result.reply is not None
                assert result.reply.is_transient
        if isinstance(result, Deferred) and result.reply is not None:
            assert not result.reply.is_permanent, "a Deferred must never carry a refusal"
        assert first.is_backend_away == (stage in (Stage.CONNECT, Stage.EHLO))

        server.once(Stage.DOT, say("250 2.0.0 this is for the second message"))
        second = await backend.deliver(outbound(b"second\r\n", to=[b"two@example.com"]))

        (result,) = second.recipients
        assert isinstance(result, Delivered), result
        assert result.reply.wire == b"250 2.0.0 this is for the second message\r\n"
        assert server.messages[-1].data == b"second\r\n"
        assert server.messages[-1].forward_paths == [b"two@example.com"]
        connections = backend.connections()
        assert connections.busy == 0
        assert connections.idle == (0 if stage is Stage.QUIT else 1)
        await backend.close()
