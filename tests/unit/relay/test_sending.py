"""Mail data as it leaves; how it does in a dialog is in `test_transaction`."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.errors import ClientGone
from mailshed.relay.sending import CHUNK_OCTETS_MAX, send_stream, send_whole
from mailshed.relay.wire import WireProtocol
from mailshed.terms import Stage
from tests.support.outbound import DEADLINE, outbound

# Lines in wire form: any octets but CR and LF, a leading dot doubled.
LINES = st.lists(
    st.binary(max_size=6).map(lambda line: line.replace(b"\r", b"x").replace(b"\n", b".")),
    max_size=8,
)


@given(lines=LINES, cuts=st.lists(st.integers(0, 80)), is_streamed=st.booleans())
def test_any_body_in_wire_form_has_exactly_one_end(
    lines: list[bytes], cuts: list[int], *, is_streamed: bool
) -> None:
    """On the very octets written: they end in the end of data, and it stands nowhere else."""
    stuffed = [b"." + line if line.startswith(b".") else line for line in lines]
    body = b"".join(line + b"\r\n" for line in stuffed)
    positions = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [body[a:b] for a, b in pairwise(positions)]

    async def case() -> bytes:
        wire = NotingWire(asyncio.get_running_loop())
        wire.expect((Stage.DOT,))
        message = outbound(pieces, is_streamed=is_streamed)
        if is_streamed:
            assert await send_stream(wire, message, DEADLINE)
        else:
            assert send_whole(wire, message, is_chunk=False)
        return wire.sent

    sent = asyncio.run(case())
    assert sent == body + b".\r\n"
    assert (b"\r\n" + sent).count(b"\r\n.\r\n") == 1


class NotingWire(WireProtocol):
    """Keeps what would be sent."""

    sent = b""

    def send(self, data: bytes | memoryview) -> bool:
        self.sent += bytes(data)
        return True


def waiting_wire() -> NotingWire:
    wire = NotingWire(asyncio.get_running_loop())
    wire.expect((Stage.DOT,))
    return wire


@pytest.mark.parametrize(
    "pieces",
    [
        [b".\r\nx\r\n"],
        [b"a\r\n.\r\nb\r\n"],
        [b"a\r\n.\r\n"],
        [b"a\r\n", b".\r\n", b"b\r\n"],
        [b"a\r", b"\n.", b"\r\nb\r\n"],
        [b"a\r\n."],
    ],
)
async def test_data_that_would_end_early_does_not_leave(pieces: Sequence[bytes]) -> None:
    """Whatever went wrong before: one message shall not become two."""
    wire = waiting_wire()
    with pytest.raises(AssertionError, match="ends early"):
        send_whole(wire, outbound(pieces), is_chunk=False)
    assert wire.sent == b""
    with pytest.raises(AssertionError, match="ends early"):
        await send_stream(wire, outbound(pieces, is_streamed=True), DEADLINE)
    assert b"\r\n.\r\n" not in b"\r\n" + wire.sent


@pytest.mark.parametrize("body", [b"a", b"a\r", b"a\n", b"a\r\nb", b".."])
async def test_a_last_line_without_its_end_gets_one(body: bytes) -> None:
    wire = waiting_wire()
    assert send_whole(wire, outbound(body), is_chunk=False)
    assert wire.sent == body + b"\r\n.\r\n"
    streamed = waiting_wire()
    assert await send_stream(streamed, outbound(body, is_streamed=True), DEADLINE)
    assert streamed.sent == wire.sent
    chunked = waiting_wire()
    assert send_whole(chunked, outbound(body), is_chunk=True)
    assert chunked.sent.endswith(b"LAST\r\n" + body.removeprefix(b".") + b"\r\n")


async def test_the_event_loop_turns_while_a_message_leaves() -> None:
    """The backend may take all of 25 MiB as fast as we send, and others are waiting."""
    wire, turns = waiting_wire(), 0
    loop = asyncio.get_running_loop()

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    loop.call_soon(turn)
    chunk = b"x" * (CHUNK_OCTETS_MAX - 2) + b"\r\n"
    assert await send_stream(wire, outbound([chunk] * 20), DEADLINE)
    assert turns >= 20


async def test_no_end_leaves_when_the_client_has_left() -> None:
    wire = waiting_wire()
    with pytest.raises(ClientGone):
        send_whole(wire, outbound(may_send_dot=lambda: False), is_chunk=False)
    assert wire.sent == b""
    streamed = outbound(is_streamed=True, may_send_dot=lambda: False)
    with pytest.raises(ClientGone):
        await send_stream(wire, streamed, DEADLINE)
    assert not wire.sent.endswith(b".\r\n")
