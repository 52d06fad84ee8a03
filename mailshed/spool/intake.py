"""Mail on its way in: from pieces as they arrive to jobs for the writer.

Small mail, which is most of it, becomes one job with everything in it. Of a message that is longer
than a row may be, each full row is on disk before more is asked for: so much of a message is in
memory and no more, and who sends it feels the disk. Nothing of it counts before its last job, which
brings the rest of the content and the envelope; if it never comes, what is there is forgotten.

A claim on room grows with each piece that arrives, so a message that does not fit is refused as
soon as that is certain.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol

from mailshed.spool.accounts import Claim
from mailshed.spool.jobs import Arrival, ForgetArrival, Job, StoreMessage, StorePiece
from mailshed.spool.schema import CHUNK_OCTETS
from mailshed.spool.store import SpoolRecord


class Desk(Protocol):
    """Where jobs are handed in."""

    def take_id(self) -> int:
        """A message id that has never been used."""
        ...

    def future(self) -> asyncio.Future[None]:
        """What a job is answered with."""
        ...

    async def submit(self, job: Job) -> None:
        """Hand a job in and wait until it is on disk."""
        ...

    def submit_alone(self, job: Job) -> None:
        """Hand a job in for whose end nobody waits."""
        ...


async def take_in(
    desk: Desk, record: SpoolRecord, content: AsyncIterable[bytes], claim: Claim
) -> None:
    """Store a message; it is durable when this returns. See `SpoolStore.add` for what is raised."""
    pieces: list[bytes] = []
    octets = 0
    source = aiter(content)
    async for piece in source:
        claim.grow(len(piece))
        pieces.append(piece)
        octets += len(piece)
        if octets > CHUNK_OCTETS:
            await _take_in_large(desk, record, b"".join(pieces), source, claim)
            return
    await desk.submit(
        StoreMessage(
            done=desk.future(),
            priority=record.rank,
            octets=octets,
            claim=claim,
            message_id=desk.take_id(),
            record=record,
            piece=pieces[0] if len(pieces) == 1 else b"".join(pieces),
        )
    )


async def _take_in_large(
    desk: Desk, record: SpoolRecord, begun: bytes, source: AsyncIterator[bytes], claim: Claim
) -> None:
    """Store a message piece by piece; each is on disk before the next is asked for."""
    arrival = Arrival(message_id=desk.take_id())
    buffer = bytearray(begun)
    try:
        await _store_pieces(desk, arrival, record.rank, buffer, claim)
        async for piece in source:
            claim.grow(len(piece))
            buffer += piece
            await _store_pieces(desk, arrival, record.rank, buffer, claim)
        await desk.submit(
            StoreMessage(
                done=desk.future(),
                priority=record.rank,
                octets=len(buffer),
                claim=claim,
                message_id=arrival.message_id,
                record=record,
                piece=bytes(buffer),
                arrival=arrival,
            )
        )
    except BaseException:
        # If this fails as well, the next start sweeps.
        desk.submit_alone(ForgetArrival(done=desk.future(), priority=record.rank, arrival=arrival))
        raise


async def _store_pieces(
    desk: Desk, arrival: Arrival, rank: int, buffer: bytearray, claim: Claim
) -> None:
    """Store all of `buffer` but what may become the last piece."""
    while len(buffer) > CHUNK_OCTETS:
        piece = bytes(buffer[:CHUNK_OCTETS])
        del buffer[:CHUNK_OCTETS]
        await desk.submit(
            StorePiece(
                done=desk.future(),
                priority=rank,
                octets=CHUNK_OCTETS,
                arrival=arrival,
                place=arrival.pieces,
                piece=piece,
            )
        )
        claim.note_written(CHUNK_OCTETS)
        arrival.pieces += 1
        arrival.octets += CHUNK_OCTETS
