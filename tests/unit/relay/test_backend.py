"""`OutboundMessage.stream`: one way to read the content, wherever it is."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from mailshed.relay.backend import OutboundMessage
from mailshed.terms import QueueId
from tests.support.outbound import outbound


async def test_stream_yields_the_prefix_before_content_in_memory() -> None:
    message = outbound([b"one\r\n", b"two\r\n"], prefix=b"Received: x\r\n")
    assert [chunk async for chunk in message.stream()] == [
        b"Received: x\r\n",
        b"one\r\n",
        b"two\r\n",
    ]


async def test_stream_yields_the_prefix_before_chunks() -> None:
    message = outbound([b"one\r\n", b"two\r\n"], prefix=b"Received: x\r\n", is_streamed=True)
    assert b"".join([chunk async for chunk in message.stream()]) == b"Received: x\r\none\r\ntwo\r\n"


async def test_stream_closes_its_source_when_the_reader_stops_early() -> None:
    """A file behind `chunks` is not left to the garbage collector."""
    closed = False

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            yield b"one\r\n"
            yield b"two\r\n"
        finally:
            closed = True

    message = OutboundMessage(
        queue_id=QueueId("0"), reverse_path=b"", recipients=((b"a@b", ()),), size=0, chunks=chunks
    )
    async with aclosing(message.stream()) as stream:
        assert await anext(stream) == b""
        assert await anext(stream) == b"one\r\n"
    assert closed
