"""The mail data of one transaction, from memory or in a stream, up to the final dot.

It is in wire form and passes unchanged. That it cannot end early (SMTP smuggling) is the listener's
promise; it is asserted here once more on the very octets that leave, which takes 0.2 ms a MiB.

What is small and in memory leaves in one write together with its end. The rest leaves chunk by
chunk: the write buffer stays below its high-water mark plus one chunk, the event loop turns after
each, and if the backend speaks up, nothing more is sent.

Right before the end `may_send_dot` is asked: ClientGone, and no end, if the client has left.
"""

from asyncio import sleep
from contextlib import aclosing

from mailshed.errors import ClientGone
from mailshed.relay.backend import OutboundMessage
from mailshed.relay.bdat import last_chunk
from mailshed.relay.wire import WireProtocol

SINGLE_WRITE_OCTETS_MAX = 256 * 1024
"""Mail data up to this size goes out in one write together with the dot, if it is in memory."""

CHUNK_OCTETS_MAX = 256 * 1024
"""Longer chunks are cut, so that the write buffer stays below its high-water mark plus this."""

_FINAL_DOT = b".\r\n"
_END_OF_DATA = b"\r\n" + _FINAL_DOT


def send_whole(wire: WireProtocol, message: OutboundMessage, *, is_chunk: bool) -> bool:
    """Send mail data that is in memory and what ends it in one write; False if nobody is there."""
    assert message.in_memory is not None, "the caller has looked"
    if is_chunk:
        data = b"".join((message.prefix, *message.in_memory))
        is_ended = not data or data.endswith(b"\r\n")
        octets = last_chunk(data if is_ended else data + b"\r\n")
    else:
        octets = b"".join((message.prefix, *message.in_memory, _FINAL_DOT))
        if not (octets.endswith(_END_OF_DATA) or octets == _FINAL_DOT):
            octets = octets.removesuffix(_FINAL_DOT) + _END_OF_DATA
        is_empty = octets == _FINAL_DOT
        assert is_empty or not octets.startswith(_FINAL_DOT), "mail data that ends early"
        assert octets.rfind(_END_OF_DATA, 0, -1) < 0, "mail data that ends early"
    _ask_client(message)
    return wire.send(octets)


async def send_stream(wire: WireProtocol, message: OutboundMessage, timeout: float) -> bool:
    """Send mail data and the final dot; False if the backend broke in before our dot."""
    tail = b"\r\n"  # the last octets before what comes next; the data starts on a new line
    async with aclosing(message.stream()) as chunks:
        async for chunk in chunks:
            assert _END_OF_DATA not in tail + chunk[:4], "mail data that ends early"
            assert chunk.rfind(_END_OF_DATA) < 0, "mail data that ends early"
            tail = (tail + chunk[-4:])[-4:]
            view = memoryview(chunk)
            while view:
                wire.send(view[:CHUNK_OCTETS_MAX])
                view = view[CHUNK_OCTETS_MAX:]
                await wire.drain(timeout)
                await sleep(0)  # a chunk takes a millisecond or two, and others are waiting
                if wire.has_news:
                    return False
    end = _FINAL_DOT if tail.endswith(b"\r\n") else _END_OF_DATA
    assert (tail + end).find(_END_OF_DATA) == len(tail + end) - 5, "mail data that ends early"
    _ask_client(message)
    return wire.send(end)


def _ask_client(message: OutboundMessage) -> None:
    if not message.may_send_dot():
        raise ClientGone("the client left before the final dot to the backend")
