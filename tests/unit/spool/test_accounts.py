"""Sums, limits and the claims of what is on its way in."""

from pathlib import Path

import pytest

from mailshed.errors import SpoolFull
from mailshed.spool.accounts import (
    COMMIT_OCTETS,
    DISK_SECONDS,
    Accounts,
    DiskGauge,
    free_space,
)
from mailshed.spool.changes import Changes, Holding
from mailshed.terms import SpoolState
from tests.support.clock import ManualClock

QUEUED, DEFERRED = SpoolState.QUEUED, SpoolState.DEFERRED


class Disk:
    """A disk whose free space a test sets; counts the looks at it."""

    def __init__(self, free: int = 1 << 40) -> None:
        self.free = free
        self.looks = 0

    def measure(self, _: Path) -> int:
        self.looks += 1
        return self.free


def accounts(disk: Disk | None = None, clock: ManualClock | None = None, **limits: int) -> Accounts:
    gauge = DiskGauge(Path(), (clock or ManualClock()).monotonic, (disk or Disk()).measure)
    arguments = {"octets_max": 1 << 40, "messages_max": 1 << 40, "disk_reserve": 0} | limits
    return Accounts(disk=gauge, **arguments)


def stored(octets: int, name: str = "personal", messages: int = 1) -> Changes:
    changes = Changes(written=octets)
    changes.hold(name, QUEUED, messages, messages, octets)
    changes.count(name, "accepted", messages)
    return changes


def test_apply_moves_between_states_and_adds_up_the_ledger() -> None:
    books = accounts()
    books.apply(stored(100))
    books.apply(stored(50, "bulk"))
    moved = Changes()
    moved.hold("personal", QUEUED, -1, -1, -100)
    moved.hold("personal", DEFERRED, 1, 1, 100)
    books.apply(moved)
    assert books.held() == [
        (("bulk", QUEUED), Holding(1, 1, 50)),
        (("personal", DEFERRED), Holding(1, 1, 100)),
    ]
    assert books.ledger == {"personal": {"accepted": 1}, "bulk": {"accepted": 1}}
    assert (books.messages, books.octets) == (2, 150)


def test_held_is_a_copy() -> None:
    books = accounts()
    books.apply(stored(100))
    held = books.held()
    books.apply(stored(100))
    assert held[0][1].messages == 1


def test_taking_out_more_than_there_is_trips_an_assertion() -> None:
    books = accounts()
    changes = Changes()
    changes.hold("personal", QUEUED, -1, -1, -1)
    with pytest.raises(AssertionError, match="more messages left"):
        books.apply(changes)


def test_reset_forgets_what_was_before() -> None:
    books = accounts()
    books.apply(stored(100, "bulk"))
    books.reset(stored(7))
    assert (books.messages, books.octets, set(books.ledger)) == (1, 7, {"personal"})


@pytest.mark.parametrize(
    ("messages_max", "ordinary"), [(1, 1), (10, 10), (33, 33), (34, 33), (100, 97), (1000, 970)]
)
def test_three_percent_of_the_messages_are_for_rank_0(messages_max: int, ordinary: int) -> None:
    books = accounts(messages_max=messages_max)
    for _ in range(ordinary):
        books.claim(1)
    with pytest.raises(SpoolFull):
        books.claim(1)
    for _ in range(messages_max - ordinary):
        books.claim(0)
    with pytest.raises(SpoolFull):
        books.claim(0)


def test_what_is_arriving_counts_until_it_is_released() -> None:
    books = accounts(octets_max=1000)
    claim = books.claim(0)
    claim.grow(600)
    other = books.claim(0)
    with pytest.raises(SpoolFull):
        other.grow(401)
    other.grow(400)
    claim.release()
    claim.release()
    other.grow(600)
    assert (books.arriving_messages, books.arriving_octets) == (1, 1000)


def test_a_released_claim_that_was_stored_is_not_counted_twice() -> None:
    books = accounts(octets_max=1000)
    claim = books.claim(0)
    claim.grow(1000)
    claim.release()
    books.apply(stored(1000))
    with pytest.raises(SpoolFull):
        books.claim(0).grow(1)


def test_the_disk_is_looked_at_four_times_a_second() -> None:
    disk, clock = Disk(100_000), ManualClock()
    gauge = DiskGauge(Path(), clock.monotonic, disk.measure)
    for _ in range(100):
        gauge.free()
    assert disk.looks == 1
    gauge.note_written(100)
    assert gauge.free() == 100_000 - 200 - COMMIT_OCTETS
    clock.advance(DISK_SECONDS)
    assert gauge.free() == 100_000
    assert disk.looks == 2


def test_no_mail_is_taken_that_would_eat_into_the_reserve() -> None:
    """Content counts twice: it is in the WAL before it is in the database."""
    books = accounts(Disk(10_000), disk_reserve=4_000)
    claim = books.claim(0)
    claim.grow(3_000)
    with pytest.raises(SpoolFull, match="4000 are reserved"):
        claim.grow(1)


def test_free_disk_runs_out_for_the_others_before_it_does_for_rank_0() -> None:
    """A quarter of the reserve more is what ordinary mail leaves for clinical mail."""
    disk, clock = Disk(1_250), ManualClock()
    books = accounts(disk, clock, disk_reserve=1_000)
    books.claim(5).release()
    disk.free = 1_249
    clock.advance(DISK_SECONDS)
    for rank in (1, 5):
        with pytest.raises(SpoolFull, match="1250 are reserved"):
            books.claim(rank)
    claim = books.claim(0)
    claim.grow(124)
    with pytest.raises(SpoolFull, match="1000 are reserved"):
        claim.grow(1)


def test_what_is_on_disk_already_does_not_count_as_arriving_there() -> None:
    disk, clock = Disk(10_000), ManualClock()
    books = accounts(disk, clock, disk_reserve=4_000)
    claim = books.claim(0)
    claim.grow(3_000)
    books.apply(Changes(written=3_000))
    claim.note_written(3_000)
    disk.free = 7_000  # the WAL has been moved into the database
    clock.advance(1)
    claim.grow(1_500)
    with pytest.raises(SpoolFull):
        claim.grow(1)


def test_free_space_is_that_of_the_file_system(tmp_path: Path) -> None:
    assert free_space(tmp_path) > 0
