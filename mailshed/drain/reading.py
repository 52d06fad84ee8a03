"""Stored content as the drain needs it: for the backend, and the beginning of it for a report.

Small content is read before a slot is asked for, so that a slow disk keeps no slot from live mail;
larger content is streamed while the slot is held. A disk that takes too long over a piece counts as
one that failed.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from mailshed.drain.dsn import deadline
from mailshed.errors import SpoolError
from mailshed.mail.header import OCTETS_MAX as HEADER_OCTETS
from mailshed.relay.backend import Origin, OutboundMessage
from mailshed.spool.store import SpoolRecord, SpoolStore
from mailshed.terms import QueueId

# Content up to this size is read ahead.
READ_AHEAD_OCTETS = 64 * 1024
# Seconds for each piece.
READ_PATIENCE = 10.0


async def outbound(spool: SpoolStore, record: SpoolRecord) -> OutboundMessage:
    """The message as the backend is to get it. Raises SpoolError if it cannot be read."""
    in_memory = None
    if record.size <= READ_AHEAD_OCTETS:
        in_memory = await _in_memory(spool, record.queue_id)
    return OutboundMessage(
        queue_id=record.queue_id,
        reverse_path=record.reverse_path,
        parameters=record.parameters,
        recipients=paths(record),
        size=record.size,
        in_memory=in_memory,
        chunks=lambda: content(spool, record.queue_id),
        partial_ok=True,
        deadline_wall=deadline(record.parameters, record.received_wall),
        origin=Origin(address=record.client_address, helo=record.helo, login=record.login),
    )


async def _in_memory(spool: SpoolStore, queue_id: QueueId) -> list[bytes]:
    """All of the content, for which there is as much time as for a piece."""
    pieces = spool.content(queue_id)
    try:
        async with asyncio.timeout(READ_PATIENCE):
            return [piece async for piece in pieces]
    except TimeoutError:
        raise _too_slow() from None


def paths(record: SpoolRecord) -> tuple[tuple[bytes, tuple[bytes, ...]], ...]:
    """The forward-paths of `record` as a backend gets them."""
    return tuple((each.address, each.parameters) for each in record.recipients)


async def beginning(spool: SpoolStore, queue_id: QueueId) -> bytes:
    """The beginning of the content, for a report; as much of it as can be read."""
    head = b""
    with suppress(SpoolError):
        async with aclosing(content(spool, queue_id)) as pieces:
            async for piece in pieces:
                head += piece
                if len(head) >= HEADER_OCTETS:
                    break
    return head


async def content(spool: SpoolStore, queue_id: QueueId) -> AsyncGenerator[bytes]:
    """The stored content; SpoolError if the disk takes too long over a piece of it."""
    pieces = spool.content(queue_id)
    try:
        while True:
            async with asyncio.timeout(READ_PATIENCE):
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece
    except TimeoutError:
        raise _too_slow() from None
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


def _too_slow() -> SpoolError:
    return SpoolError("the spool takes too long to read")
