"""From pieces as they arrive to jobs, at a desk that writes down what it is handed."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailshed.errors import SpoolFull, SpoolSick
from mailshed.spool.accounts import Accounts, Claim, DiskGauge
from mailshed.spool.intake import take_in
from mailshed.spool.jobs import ForgetArrival, Job, StoreMessage, StorePiece
from mailshed.spool.schema import CHUNK_OCTETS
from tests.support.builders import spool_record
from tests.support.spools import pieces

RECORD = spool_record()


class Desk:
    """Jobs in the order they came; `failure` is what the next one is answered with."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.alone: list[Job] = []
        self.failure: Exception | None = None
        self.ids = 0

    def take_id(self) -> int:
        self.ids += 1
        return self.ids

    def future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    async def submit(self, job: Job) -> None:
        self.jobs.append(job)
        if self.failure is not None:
            raise self.failure

    def submit_alone(self, job: Job) -> None:
        self.alone.append(job)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    gauge = DiskGauge(tmp_path, lambda: 0.0, lambda _: 1 << 40)
    return Accounts(octets_max=3_000_000, messages_max=10, disk_reserve=0, disk=gauge)


@pytest.fixture
def claim(accounts: Accounts) -> Claim:
    return accounts.claim(RECORD.rank)


@pytest.mark.parametrize("octets", [0, 1, CHUNK_OCTETS])
async def test_what_fits_into_a_row_is_one_job(desk: Desk, claim: Claim, octets: int) -> None:
    data = bytes(octets)
    await take_in(desk, (RECORD,), pieces(data, 50_000), claim)
    (job,) = desk.jobs
    assert isinstance(job, StoreMessage)
    assert (job.piece, job.arrival, job.octets) == (data, None, octets)
    assert (job.priority, job.claim) == (RECORD.rank, claim)


@pytest.mark.parametrize("arriving", [10_000, CHUNK_OCTETS, 1_000_000])
async def test_what_is_longer_comes_in_rows_and_ends_with_the_message(
    desk: Desk, claim: Claim, arriving: int
) -> None:
    data = bytes(range(256)) * (3 * CHUNK_OCTETS // 256) + b"the end"
    await take_in(desk, (RECORD,), pieces(data, arriving), claim)
    *rows, last = desk.jobs
    assert isinstance(last, StoreMessage)
    assert [row.place for row in rows if isinstance(row, StorePiece)] == [0, 1, 2]
    assert all(isinstance(row, StorePiece) and len(row.piece) == CHUNK_OCTETS for row in rows)
    content = b"".join(job.piece for job in desk.jobs if isinstance(job, StorePiece | StoreMessage))
    assert content == data
    assert last.arrival is not None
    assert (last.arrival.pieces, last.arrival.octets) == (3, 3 * CHUNK_OCTETS)
    assert last.message_id == last.arrival.message_id == 1


async def test_the_last_row_is_never_empty(desk: Desk, claim: Claim) -> None:
    await take_in(desk, (RECORD,), pieces(bytes(2 * CHUNK_OCTETS)), claim)
    assert [type(job) for job in desk.jobs] == [StorePiece, StoreMessage]
    assert [job.octets for job in desk.jobs] == [CHUNK_OCTETS, CHUNK_OCTETS]


async def test_what_is_on_disk_no_longer_counts_as_to_be_written(
    desk: Desk, accounts: Accounts, claim: Claim
) -> None:
    await take_in(desk, (RECORD,), pieces(bytes(3 * CHUNK_OCTETS + 5)), claim)
    assert accounts.arriving_octets == 3 * CHUNK_OCTETS + 5
    assert accounts.unwritten_octets == 5


@pytest.mark.parametrize("is_large", [False, True])
async def test_what_cannot_be_stored_is_forgotten(
    desk: Desk, claim: Claim, *, is_large: bool
) -> None:
    """A small message is one job, which leaves nothing if it fails."""
    desk.failure = SpoolSick("injected")
    with pytest.raises(SpoolSick):
        await take_in(desk, (RECORD,), pieces(bytes(2 * CHUNK_OCTETS if is_large else 9)), claim)
    assert [type(job) for job in desk.alone] == [ForgetArrival] * is_large


async def test_what_breaks_off_is_forgotten(desk: Desk, claim: Claim) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(2 * CHUNK_OCTETS)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await take_in(desk, (RECORD,), broken(), claim)
    (job,) = desk.alone
    assert isinstance(job, ForgetArrival)
    assert job.arrival.message_id == 1


async def test_what_does_not_fit_is_refused_as_soon_as_that_is_certain(
    desk: Desk, claim: Claim
) -> None:
    asked_for = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked_for
        while True:
            asked_for += CHUNK_OCTETS
            yield bytes(CHUNK_OCTETS)

    with pytest.raises(SpoolFull):
        await take_in(desk, (RECORD,), endless(), claim)
    assert asked_for <= 3_000_000 + CHUNK_OCTETS
    assert len(desk.alone) == 1


async def test_little_of_a_large_message_is_in_memory_at_a_time(
    tmp_path: Path,
) -> None:
    """A row that is being written, the piece the next one begins with, and one on its way here."""

    class Forgetful(Desk):
        async def submit(self, job: Job) -> None:
            pass

    async def content() -> AsyncIterator[bytes]:
        yield bytes(1000)  # so that no piece is a row
        for _ in range(40):
            yield bytes(CHUNK_OCTETS)

    gauge = DiskGauge(tmp_path, lambda: 0.0, lambda _: 1 << 40)
    roomy = Accounts(octets_max=1 << 40, messages_max=10, disk_reserve=0, disk=gauge)
    tracemalloc.start()
    try:
        await take_in(Forgetful(), [RECORD], content(), roomy.claim(RECORD.rank))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3.5 * CHUNK_OCTETS
