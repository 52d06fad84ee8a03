"""Groups: what goes into the next commit, and that a large message neither blocks nor starves."""

import asyncio
from random import Random

import pytest

from mailshed.spool.backlog import JOBS_MAX, OCTETS_MAX, Backlog
from mailshed.spool.jobs import Arrival, Job, StorePiece
from mailshed.spool.marks import MARK_PRIORITY, Quarantine
from mailshed.terms import QueueId


@pytest.fixture
async def future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


def small(future: asyncio.Future[None], priority: int = 1, octets: int = 1000) -> Job:
    return Job(done=future, priority=priority, octets=octets)


def piece(future: asyncio.Future[None], priority: int = 1, octets: int = 256 * 1024) -> Job:
    arrival = Arrival(message_id=1)
    return StorePiece(
        done=future, priority=priority, octets=octets, arrival=arrival, place=0, piece=b""
    )


def filled(*jobs: Job) -> Backlog:
    backlog = Backlog()
    for job in jobs:
        backlog.put(job)
    return backlog


async def test_nothing_makes_an_empty_group() -> None:
    backlog = Backlog()
    assert not backlog
    assert backlog.take() == []


async def test_marks_come_first_then_clinical_mail_then_the_rest_as_it_came(
    future: asyncio.Future[None],
) -> None:
    bulk, first, clinical, second = (small(future, priority) for priority in (5, 1, 0, 1))
    mark = Quarantine(done=future, priority=MARK_PRIORITY, queue_id=QueueId("Q"))
    assert filled(bulk, first, clinical, second, mark).take() == [
        mark,
        clinical,
        first,
        second,
        bulk,
    ]


async def test_a_group_is_bounded_in_jobs(future: asyncio.Future[None]) -> None:
    backlog = filled(*(small(future) for _ in range(JOBS_MAX + 1)))
    assert [len(backlog.take()) for _ in range(3)] == [JOBS_MAX, 1, 0]


async def test_a_group_is_bounded_in_octets(future: asyncio.Future[None]) -> None:
    backlog = filled(*(small(future, octets=300 * 1024) for _ in range(7)))
    assert [len(backlog.take()) for _ in range(4)] == [3, 3, 1, 0]


async def test_a_job_beyond_the_bound_goes_alone(future: asyncio.Future[None]) -> None:
    backlog = filled(small(future, octets=2 * OCTETS_MAX), small(future))
    assert [len(backlog.take()) for _ in range(2)] == [1, 1]


async def test_small_messages_pass_the_pieces_of_large_ones(future: asyncio.Future[None]) -> None:
    pieces = [piece(future) for _ in range(10)]
    mail = [small(future) for _ in range(50)]
    group = filled(*pieces, *mail).take()
    assert set(mail) <= set(group)
    assert sum(job.is_piece for job in group) == 3  # what is left of 1 MiB


async def test_a_large_message_gets_a_piece_into_every_group(future: asyncio.Future[None]) -> None:
    backlog = filled(piece(future), piece(future), *(small(future) for _ in range(4 * JOBS_MAX)))
    assert [sum(job.is_piece for job in backlog.take()) for _ in range(3)] == [1, 1, 0]


@pytest.mark.parametrize("seed", range(20))
async def test_every_job_is_taken_once_and_no_group_is_too_large(
    future: asyncio.Future[None], seed: int
) -> None:
    random = Random(seed)
    waiting: set[Job] = set()
    backlog = Backlog()
    taken = 0
    for _ in range(200):
        for _ in range(random.randint(0, 30)):
            make = random.choice((small, small, small, piece))
            job = make(future, random.randint(0, 5), random.randint(0, 256 * 1024))
            waiting.add(job)
            backlog.put(job)
        group = backlog.take()
        taken += len(group)
        assert len(group) <= JOBS_MAX
        assert sum(job.octets for job in group) <= OCTETS_MAX
        assert bool(group) == bool(waiting)
        assert waiting.issuperset(group)
        waiting.difference_update(group)
        assert len(backlog) == len(waiting)
    assert taken
