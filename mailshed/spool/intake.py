"""Mail on its way in: from pieces as they arrive to jobs for the writer.

Small mail, which is most of it, becomes one job with everything in it. Of a message that is longer
than a row may be, each full row is on disk before more is asked for: so much of a message is in
memory and no more, and who sends it feels the disk. Nothing of it counts before its last job, which
brings the rest of the content and the envelope; if it never comes, what is there is forgotten.

A message that goes to several backends is stored once for each, copy by copy in the same way, and
the last job is one for all of them: what is found after a crash is every copy or none.

A claim on room grows with each piece that arrives, so a message that does not fit is refused as
soon as that is certain.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Protocol

from mailshed.spool.accounts import Claim
from mailshed.spool.jobs import (
    Arrival,
    ForgetArrival,
    Job,
    StoreCopies,
    StoreMessage,
    StorePiece,
)
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
    desk: Desk, records: Sequence[SpoolRecord], content: AsyncIterable[bytes], claim: Claim
) -> None:
    """Store a message as one record or several; all of it is durable when this returns.

    See `SpoolStore.add` for what is raised.
    """
    held = _Cutter()
    source = aiter(content)
    async for piece in source:
        claim.grow(len(piece) * len(records))
        held.add(piece)
        if held.octets > CHUNK_OCTETS:
            break
    else:
        await _store(desk, records, [None] * len(records), held.rest(), claim)
        return
    del piece  # or it would be in memory until the whole message is stored
    await _take_in_large(desk, records, held, source, claim)


async def _store(
    desk: Desk,
    records: Sequence[SpoolRecord],
    arrivals: Sequence[Arrival | None],
    piece: bytes,
    claim: Claim,
) -> None:
    """Hand in what makes the message count, or all of its copies at once."""
    done = desk.future()
    jobs = [
        StoreMessage(
            done=done,
            priority=record.rank,
            octets=len(piece),
            claim=claim,
            message_id=desk.take_id() if arrival is None else arrival.message_id,
            record=record,
            piece=piece,
            arrival=arrival,
        )
        for record, arrival in zip(records, arrivals, strict=True)
    ]
    if len(jobs) == 1:
        await desk.submit(jobs[0])
        return
    await desk.submit(
        StoreCopies(
            done=done,
            priority=records[0].rank,
            octets=len(piece) * len(jobs),
            claim=claim,
            copies=jobs,
        )
    )


async def _take_in_large(
    desk: Desk,
    records: Sequence[SpoolRecord],
    held: "_Cutter",
    source: AsyncIterator[bytes],
    claim: Claim,
) -> None:
    """Store a message piece by piece; each is on disk before the next is asked for."""
    arrivals = [Arrival(message_id=desk.take_id()) for _ in records]
    rank = records[0].rank
    try:
        await _store_pieces(desk, arrivals, rank, held, claim)
        async for piece in source:
            claim.grow(len(piece) * len(records))
            held.add(piece)
            await _store_pieces(desk, arrivals, rank, held, claim)
        await _store(desk, records, arrivals, held.rest(), claim)
    except BaseException:
        # If this fails as well, the next start sweeps.
        for arrival in arrivals:
            desk.submit_alone(ForgetArrival(done=desk.future(), priority=rank, arrival=arrival))
        raise


async def _store_pieces(
    desk: Desk, arrivals: Sequence[Arrival], rank: int, held: "_Cutter", claim: Claim
) -> None:
    """Store all full rows but what may become the last piece, for each copy."""
    while held.octets > CHUNK_OCTETS:
        piece = held.cut()
        for arrival in arrivals:
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


class _Cutter:
    """Pieces of any length in, rows of one length out.

    While a row is being written, there is that row in memory and the piece that the next begins
    with, and no more: a buffer that is filled at one end and emptied at the other takes twice that.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview] = []
        self.octets = 0

    def add(self, piece: bytes) -> None:
        """Take in the next piece."""
        self._pieces.append(piece)
        self.octets += len(piece)

    def cut(self) -> bytes:
        """The next row, which must be there."""
        missing, row = CHUNK_OCTETS, list[bytes | memoryview]()
        while missing:
            piece = self._pieces.pop(0)
            if len(piece) > missing:
                self._pieces.insert(0, memoryview(piece)[missing:])
                piece = memoryview(piece)[:missing]
            row.append(piece)
            missing -= len(piece)
        self.octets -= CHUNK_OCTETS
        return b"".join(row)

    def rest(self) -> bytes:
        """All that is left."""
        return b"".join(self._pieces)
