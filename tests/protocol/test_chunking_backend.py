"""BDAT in place of DATA: the same outcome for every fault, and one round trip less.

Each case runs twice against servers with the same script, one of which offers CHUNKING. What the
recipients get, what the server takes and how the connection fares must not differ; only a refusal
that DATA would have met comes at the chunk instead.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.errors import ClientGone
from mailshed.mail.delivery import Bounced, Deferred, Delivered, InDoubt, TransactionResult
from mailshed.relay.manner import Manner
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

ONE, TWO, THREE = b"one@example.com", b"two@example.com", b"three@example.com"
CHUNKING = Manner(is_chunking=True)
STALL_TIMEOUT = 0.3
DATA = b"Subject: test\r\n\r\n..a line\r\n...\r\nend\r\n"
PLAIN_DATA = b"Subject: test\r\n\r\n.a line\r\n..\r\nend\r\n"

FAULTS: dict[str, Action] = {
    "none": say("250 2.0.0 fine"),
    "4xx": say("450 4.3.0 try later"),
    "5xx": say("550 5.7.1 no"),
    "421": bye("421 4.3.2 going down"),
    "close": CLOSE,
    "reset": RESET,
    "stall": STALL,
    "garbage": Say(b"\x00\xff what?\r\n"),
    "too much": say("450 4.3.0 first", "250 2.0.0 second"),
}


@dataclass(frozen=True)
class Outcome:
    """What one delivery came to."""

    kinds: tuple[type, ...]
    stages: tuple[Stage | None, ...]
    replies: tuple[bytes | None, ...]
    taken: tuple[tuple[bytes, ...], ...]
    idle: int
    was_chunk: bool


def outcome_of(result: TransactionResult, server: ScriptedBackend, idle: int) -> Outcome:
    each = result.recipients
    answers = [None if isinstance(one, InDoubt) else one.reply for one in each]
    return Outcome(
        kinds=tuple(map(type, each)),
        stages=tuple(one.stage if isinstance(one, Deferred | Bounced) else None for one in each),
        replies=tuple(None if answer is None else answer.wire for answer in answers),
        taken=tuple(tuple(message.forward_paths) for message in server.messages),
        idle=idle,
        was_chunk=any(command.startswith(b"BDAT") for command in server.commands),
    )


async def outcome(
    stage: Stage,
    fault: str,
    to: Sequence[bytes],
    *,
    is_pipelining: bool,
    is_chunking: bool,
    partial_ok: bool,
) -> Outcome:
    extensions = (*(("PIPELINING",) if is_pipelining else ()), "CHUNKING")
    timeouts: dict[str, float] = {}
    if fault == "stall":
        timeouts = {"dot_timeout" if stage is Stage.DOT else "command_timeout": STALL_TIMEOUT}
    async with ScriptedBackend(extensions=extensions) as server, asyncio.timeout(DEADLINE):
        server.once(stage, FAULTS[fault])
        manner = CHUNKING if is_chunking else Manner()
        backend = smtp_backend(server.port, manner=manner, **timeouts)  # type: ignore[arg-type]
        result = await backend.deliver(outbound(DATA, to=to, partial_ok=partial_ok))
        found = outcome_of(result, server, backend.connections().idle)
        # The next message gets its own answer, whatever happened.
        server.once(Stage.DOT, say("250 2.0.0 this is for the second message"))
        (second,) = (await backend.deliver(outbound(b"second\r\n"))).recipients
        assert isinstance(second, Delivered)
        assert second.reply.wire == b"250 2.0.0 this is for the second message\r\n"
        assert server.messages[-1].data == b"second\r\n"
        await backend.close()
        return found


@pytest.mark.parametrize("partial_ok", [False, True], ids=["live", "spool"])
@pytest.mark.parametrize("is_pipelining", [True, False], ids=["pipelining", "lock_step"])
@pytest.mark.parametrize(
    ("stage", "fault"), list(product((Stage.MAIL, Stage.RCPT, Stage.DOT), FAULTS))
)
async def test_every_fault_has_the_outcome_that_it_has_with_data(
    stage: Stage, fault: str, *, is_pipelining: bool, partial_ok: bool
) -> None:
    async def run(*, is_chunking: bool) -> Outcome:
        return await outcome(
            stage,
            fault,
            [ONE, TWO, THREE],
            is_pipelining=is_pipelining,
            is_chunking=is_chunking,
            partial_ok=partial_ok,
        )

    data, chunk = await asyncio.gather(run(is_chunking=False), run(is_chunking=True))
    assert not data.was_chunk
    assert (chunk.kinds, chunk.stages, chunk.taken) == (data.kinds, data.stages, data.taken)
    assert chunk.replies == data.replies
    assert chunk.idle == data.idle


@pytest.mark.parametrize("answer", ["451 4.3.0 not now", "552 5.3.4 too big", "503 5.5.1 no"])
async def test_a_refused_chunk_ends_in_rset_and_the_connection_is_good(answer: str) -> None:
    """RFC 3030, 2: after it the state is not known until RSET."""
    async with ScriptedBackend(extensions=("PIPELINING", "CHUNKING")) as server:
        server.once(Stage.DOT, say(answer))
        backend = smtp_backend(server.port, manner=CHUNKING)
        result = await backend.deliver(outbound(DATA, to=[ONE, TWO]))
        assert isinstance(result.uniform, Deferred | Bounced)
        assert result.uniform.stage is Stage.DOT
        assert server.commands[-1] == b"RSET"
        assert backend.connections().idle == 1
        await backend.close()


@pytest.mark.parametrize("rset", [STALL, CLOSE, say("500 5.5.2 what?")])
async def test_without_a_reset_the_connection_is_not_used_again(
    rset: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailshed.relay.transaction.RSET_TIMEOUT", 0.05)
    async with ScriptedBackend(extensions=("PIPELINING", "CHUNKING")) as server:
        server.once(Stage.DOT, say("451 4.3.0 not now"))
        server.rset = rset
        backend = smtp_backend(server.port, manner=CHUNKING)
        result = await backend.deliver(outbound(DATA, to=[ONE, TWO]))
        assert isinstance(result.uniform, Deferred)
        assert result.uniform.reply is not None
        assert backend.connections().idle == 0
        await backend.close()


async def test_a_client_that_left_is_noticed_before_the_chunk() -> None:
    async with ScriptedBackend(extensions=("PIPELINING", "CHUNKING")) as server:
        backend = smtp_backend(server.port, manner=CHUNKING)
        message = outbound(DATA, to=[ONE, TWO], may_send_dot=lambda: False)
        with pytest.raises(ClientGone):
            await backend.deliver(message)
        assert not any(command.startswith(b"BDAT") for command in server.commands)
        assert server.received == []
        await backend.close()


async def rounds(*, is_chunking: bool, is_pipelining: bool, recipients: int) -> int:
    """How often we wait for the server in one message on an open connection."""
    extensions = ("CHUNKING", *(("PIPELINING",) if is_pipelining else ()))
    async with ScriptedBackend(extensions=extensions) as server:
        manner = CHUNKING if is_chunking else Manner()
        backend = smtp_backend(server.port, manner=manner)
        await backend.deliver(outbound())
        (connection, _), *_ = backend._pool._idle._stack
        count = 0
        receive = connection.wire.receive

        async def counted(timeout: float) -> object:
            nonlocal count
            count += 1
            return await receive(timeout)

        connection.wire.receive = counted  # type: ignore[assignment, method-assign]
        to = [b"n%d@example.com" % number for number in range(recipients)]
        assert isinstance((await backend.deliver(outbound(DATA, to=to))).uniform, Delivered)
        found = count
        await backend.close()
        return found


@pytest.mark.parametrize(
    ("is_pipelining", "recipients", "data", "chunk"),
    [(True, 1, 2, 2), (True, 3, 3, 2), (False, 1, 4, 3), (False, 3, 6, 5)],
)
async def test_a_chunk_saves_a_round_trip_and_is_used_only_then(
    recipients: int, data: int, chunk: int, *, is_pipelining: bool
) -> None:
    counted = [
        await rounds(is_chunking=each, is_pipelining=is_pipelining, recipients=recipients)
        for each in (False, True)
    ]
    assert counted == [data, chunk]


async def test_large_mail_and_servers_without_chunking_get_data() -> None:
    large = [b"x" * 70 + b"\r\n"] * 5000
    async with ScriptedBackend(extensions=("PIPELINING", "CHUNKING")) as server:
        backend = smtp_backend(server.port, manner=CHUNKING)
        await backend.deliver(outbound(large, to=[ONE, TWO]))
        await backend.deliver(outbound(DATA, to=[ONE, TWO], is_streamed=True))
        await backend.close()
        assert [message.is_chunk for message in server.messages] == [False, False]
    async with ScriptedBackend() as server:
        backend = smtp_backend(server.port, manner=CHUNKING)
        await backend.deliver(outbound(DATA, to=[ONE, TWO]))
        await backend.close()
        assert [message.is_chunk for message in server.messages] == [False]


LINES = st.lists(st.text("a.\t é", max_size=5).map(str.encode), max_size=6)


@settings(max_examples=25, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=8))
def test_what_arrives_is_what_data_would_have_brought(bodies: list[list[bytes]]) -> None:
    async def story() -> None:
        async with (
            ScriptedBackend(extensions=("PIPELINING", "CHUNKING")) as server,
            asyncio.timeout(DEADLINE),
        ):
            backend = smtp_backend(server.port, manner=CHUNKING)
            for lines in bodies:
                plain = b"".join(line + b"\r\n" for line in lines)
                stuffed = b"".join(
                    (b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines
                )
                await backend.deliver(outbound(stuffed, to=[ONE, TWO]))
                assert server.messages[-1].is_chunk
                assert server.messages[-1].data == plain
            await backend.close()

    asyncio.run(story())
