"""What is with the backend and does not come back."""

from mailshed.control.limit import Flight
from mailshed.control.outstanding import STUCK_SECONDS, Outstanding


def flight(started_at: float) -> Flight:
    return Flight(0, 1, is_first=False, started_at=started_at, in_flight=1)


def test_it_knows_who_is_out() -> None:
    outstanding = Outstanding()
    one, other = flight(0.0), flight(1.0)
    outstanding.start(one, b"a")
    outstanding.start(other, b"b")
    assert len(outstanding) == 2
    assert outstanding.end(other) == (b"b", False)
    assert outstanding.end(one) == (b"a", False)
    assert (len(outstanding), outstanding.stragglers) == (0, 0)


def test_after_a_minute_a_message_is_stuck_and_senders_count() -> None:
    outstanding = Outstanding()
    for number, sender in enumerate((b"a", b"a", b"b", b"c")):
        outstanding.start(flight(float(number)), sender)
    assert outstanding.stuck(STUCK_SECONDS) == 0
    assert outstanding.stuck(STUCK_SECONDS + 1.5) == 1
    assert outstanding.stuck(STUCK_SECONDS + 2.5) == 2
    assert outstanding.stuck(STUCK_SECONDS + 100.0) == 3


def test_what_is_in_doubt_counts_for_a_minute() -> None:
    outstanding = Outstanding()
    outstanding.start(flight(0.0), b"a")
    outstanding.doubt(b"a", 100.0)
    outstanding.doubt(b"b", 100.0)
    assert outstanding.stuck(100.0) == 2
    assert outstanding.stuck(100.0 + STUCK_SECONDS + 1) == 1, "the one that is still out"


def test_what_was_in_doubt_long_ago_is_forgotten() -> None:
    outstanding = Outstanding()
    for number in range(1000):
        outstanding.doubt(b"%d@example.com" % number, float(number))
    assert len(outstanding._doubts) == STUCK_SECONDS + 1


def test_an_epoch_that_ends_takes_its_evidence_with_it() -> None:
    outstanding = Outstanding()
    old, new = flight(0.0), flight(10.0)
    outstanding.start(old, b"a")
    outstanding.doubt(b"b", 9.0)
    outstanding.end_epoch()
    outstanding.start(new, b"c")
    assert (outstanding.stragglers, len(outstanding)) == (1, 2)
    assert outstanding.stuck(40.0) == 0
    assert outstanding.stuck(11.0 + STUCK_SECONDS) == 1
    assert outstanding.end(old) == (b"a", True)
    assert outstanding.stragglers == 0
    assert outstanding.end(new) == (b"c", False)
