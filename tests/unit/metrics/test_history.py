"""Rates are of the last minute, counts of the last hour, or since the start."""

import sys

import pytest

from mailshed.metrics.history import HOUR, NOTES_MAX, STEP_SECONDS, History, Recent, Totals


def play(history: History, seconds: range, per_second: Totals, queued: int = 0) -> Recent:
    """Note every second of `seconds`, in each of which `per_second` happened; the last answer."""
    recent = Recent()
    for now in seconds:
        totals = Totals(
            relayed=per_second.relayed * now,
            spooled=per_second.spooled * now,
            shed=per_second.shed * now,
            deferred=per_second.deferred * now,
            drained=per_second.drained * now,
            late=per_second.late * now,
        )
        recent = history.note(float(now), {"bulk": totals}, {"bulk": queued})["bulk"]
    return recent


def test_a_steady_stream_has_its_rate() -> None:
    steady = Totals(relayed=3, spooled=2, shed=1, drained=4)
    recent = play(History(), range(200), steady)
    assert recent.accepted_rate == pytest.approx(5.0)
    assert recent.delivered_rate == pytest.approx(7.0)
    assert recent.shed_rate == pytest.approx(1.0)


def test_a_rate_is_of_the_last_minute_to_one_step() -> None:
    """A stream that has stopped is still visible after 59 s, and gone after 70."""
    history = History()
    play(history, range(101), Totals(relayed=1))
    ended = {"bulk": Totals(relayed=100)}
    assert history.note(159.0, ended, {})["bulk"].accepted_rate > 0
    assert history.note(160.0 + STEP_SECONDS, ended, {})["bulk"].accepted_rate == 0


def test_a_note_of_exactly_a_minute_ago_is_where_the_minute_begins() -> None:
    history = History()
    history.note(0.0, {"bulk": Totals()}, {})
    history.note(10.0, {"bulk": Totals(relayed=700)}, {})
    assert history.note(70.0, {"bulk": Totals(relayed=760)}, {})["bulk"].accepted_rate == 1.0


def test_a_young_service_is_measured_since_its_start() -> None:
    recent = play(History(), range(21), Totals(relayed=2))
    assert recent.accepted_rate == pytest.approx(2.0)
    assert recent.hour_delivered == 40


def test_the_first_note_is_no_division_by_zero() -> None:
    assert History().note(5.0, {"bulk": Totals(relayed=9)}, {"bulk": 3}) == {"bulk": Recent()}


def test_counts_forget_what_is_older_than_an_hour() -> None:
    history = History()
    play(history, range(60), Totals(relayed=1, spooled=1, deferred=1, drained=1, late=1))
    ended = {"bulk": Totals(relayed=59, spooled=59, deferred=59, drained=59, late=59)}
    now, recent = 59.0, Recent()
    while now < HOUR - 1:
        now += STEP_SECONDS
        recent = history.note(now, ended, {})["bulk"]
    # All but what came between the first note and the next.
    assert (recent.hour_delivered, recent.hour_spooled) == (118, 59)
    assert (recent.hour_deferred, recent.hour_late) == (59, 59)
    for _ in range(12):
        now += STEP_SECONDS
        recent = history.note(now, ended, {})["bulk"]
    assert recent == Recent()


def test_a_queue_that_shrinks_has_a_negative_rate() -> None:
    history, totals = History(), {"bulk": Totals()}
    for second in range(0, 120, 10):
        history.note(float(second), totals, {"bulk": 500 - second})
    recent = history.note(120.0, totals, {"bulk": 380})["bulk"]
    assert recent.queue_rate == pytest.approx(-1.0)


def test_a_class_that_a_reload_brings_counts_from_nothing() -> None:
    history = History()
    history.note(0.0, {"bulk": Totals()}, {})
    recent = history.note(60.0, {"bulk": Totals(), "new": Totals(relayed=60)}, {"new": 6})
    assert recent["new"].accepted_rate == pytest.approx(1.0)
    assert recent["new"].queue_rate == pytest.approx(0.1)


def test_a_class_that_a_reload_removes_is_gone() -> None:
    history = History()
    history.note(0.0, {"old": Totals(relayed=5)}, {})
    assert history.note(60.0, {}, {}) == {}


def test_the_ring_stays_small() -> None:
    """Four snapshots a second for a day are no more notes than those of an hour."""
    history = History()
    for now in range(0, 86_400, 5):
        history.note(float(now), {"bulk": Totals(relayed=now)}, {})
    assert len(history._notes) == NOTES_MAX
    assert history._notes[-1].at - history._notes[0].at >= HOUR
    assert sys.getsizeof(history._notes) < 10_000
