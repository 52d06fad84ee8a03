"""A mail server that wants to exhaust us: replies without end, and silence in every phase.

What it says is bounded while it is read, in octets a line and in lines (`WireProtocol`); how long
it may take is bounded phase by phase (RFC 5321, 4.5.3.2). Whatever it does, the message has a
result, the connection is not used again, and memory stays where it was. The handshake phases are in
`test_backend_tls`; what a client hears of it all is in `test_log_forging` and `test_dialogs`.
"""

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from mailshed.mail.delivery import Deferred, InDoubt
from mailshed.terms import Stage
from tests.support.outbound import DEADLINE, outbound, smtp_backend
from tests.support.scripted_backend import STALL, Say, ScriptedBackend

MIB = 1 << 20
FLOOD = 10 * MIB
FLOODS: dict[str, Callable[[int], bytes]] = {
    "line": lambda code: b"%d " % code + FLOOD * b"x",
    "lines": lambda code: (b"%d-x\r\n" % code) * (FLOOD // 7),
    "mixed": lambda code: (b"%d-x\r\n550 y\r\n" % code) * (FLOOD // 14),
    "binary": lambda _code: bytes(range(256)) * (FLOOD // 256),
    "NUL": lambda _code: bytes(FLOOD),
    "replies": lambda code: (b"%d 2.0.0 Ok\r\n" % code) * (FLOOD // 14),
}
STAGES = {Stage.MAIL: 250, Stage.RCPT: 250, Stage.DATA: 354, Stage.DOT: 250}
TIMEOUT = 0.3


@pytest.mark.parametrize("is_pipelining", [True, False], ids=["pipelining", "lock_step"])
@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: str(stage.value))
async def test_ten_megabytes_of_a_reply_are_not_kept(
    stage: Stage, flood: str, *, is_pipelining: bool
) -> None:
    extensions = ("PIPELINING",) if is_pipelining else ()
    said = FLOODS[flood](STAGES[stage])
    async with ScriptedBackend(extensions=extensions) as server, asyncio.timeout(DEADLINE):
        server.once(stage, Say(said))
        backend = smtp_backend(server.port)
        message = outbound(b"first\r\n")
        tracemalloc.start()
        try:
            result = (await backend.deliver(message)).recipients[0]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        if flood != "replies":
            assert isinstance(result, Deferred | InDoubt), result
            assert isinstance(result, InDoubt) == (stage is Stage.DOT), result
            assert len(result.detail) < 500
        # The server is in this process: of its ten megabytes none is copied on its way here.
        assert peak < len(said) + 4 * MIB
        assert backend.connections().idle == 0, "it would be used again"
        second = (await backend.deliver(outbound(b"second\r\n"))).recipients[0]
        assert [each.data for each in server.messages][-1] == b"second\r\n", second
        await backend.close()


@pytest.mark.parametrize(
    ("stage", "timeout"),
    [
        *((stage, "connect_timeout") for stage in (Stage.CONNECT,)),
        *((stage, "command_timeout") for stage in (Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA)),
        (Stage.DOT, "dot_timeout"),
    ],
    ids=str,
)
async def test_silence_ends_at_the_deadline_of_its_phase(stage: Stage, timeout: str) -> None:
    async with ScriptedBackend(extensions=()) as server, asyncio.timeout(DEADLINE):
        server.once(stage, STALL)
        timeouts: dict[str, Any] = {timeout: TIMEOUT}
        backend = smtp_backend(server.port, **timeouts)
        loop = asyncio.get_running_loop()
        began = loop.time()
        (result,) = (await backend.deliver(outbound(b"first\r\n"))).recipients
        assert isinstance(result, Deferred | InDoubt)
        assert TIMEOUT * 0.9 <= loop.time() - began < TIMEOUT + 1.0
        await backend.close()
