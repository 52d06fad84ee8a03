"""What our own loop may have added is no evidence against a backend; what it cannot have is."""

import pytest

from mailshed.control.lateness import DOUBT_FACTOR, SMOOTHING, Lateness
from mailshed.mail.delivery import StageTimes

MAIL, ENVELOPE, DATA = 0.01, 0.02, 0.08
"""What is usual."""


def seen(lateness: Lateness, times: StageTimes) -> StageTimes:
    return lateness.times_of_backend(times, mail=MAIL, envelope=ENVELOPE, data=DATA)


def slower(by: float, *, late: float = 0.0) -> StageTimes:
    """The usual times with as much besides, half of it in either half."""
    return StageTimes(
        mail=MAIL + by / 2,
        envelope=ENVELOPE + by / 2,
        content=0.001,
        service=ENVELOPE + DATA + by,
        lateness=late,
    )


@pytest.fixture
def lateness() -> Lateness:
    return Lateness()


def test_without_lateness_times_are_as_they_were(lateness: Lateness) -> None:
    times = slower(0.3)
    lateness.note(0.0)
    assert seen(lateness, times) is times


def test_what_may_be_our_own_doing_is_not_believed(lateness: Lateness) -> None:
    found = seen(lateness, slower(0.04, late=0.01))
    assert (found.mail, found.envelope) == (MAIL, ENVELOPE)
    assert found.service == pytest.approx(ENVELOPE + DATA)


def test_what_goes_beyond_it_is(lateness: Lateness) -> None:
    late = 0.01
    found = seen(lateness, slower(0.3, late=late))
    assert found.service == pytest.approx(ENVELOPE + DATA + 0.3 - DOUBT_FACTOR * late)
    assert found.mail == pytest.approx(MAIL + 0.15 - DOUBT_FACTOR * late / 2)


def test_a_backend_that_is_faster_than_usual_is_believed(lateness: Lateness) -> None:
    times = StageTimes(mail=0.001, envelope=0.002, content=0.001, service=0.004, lateness=0.01)
    found = seen(lateness, times)
    assert (found.mail, found.envelope) == (0.001, 0.002)
    assert found.service == pytest.approx(0.004)


def test_a_time_that_is_not_known_stays_so(lateness: Lateness) -> None:
    times = StageTimes(envelope=0.05, content=0.001, service=0.2, lateness=0.01)
    assert seen(lateness, times).mail == 0.0


def test_a_message_that_was_lucky_has_the_doubt_of_the_others(lateness: Lateness) -> None:
    for _ in range(int(10 / SMOOTHING)):
        lateness.note(0.01)
    assert lateness.doubt(0.0) == pytest.approx(DOUBT_FACTOR * 0.01, rel=0.01)
    assert lateness.doubt(0.05) == DOUBT_FACTOR * 0.05
    for _ in range(int(10 / SMOOTHING)):
        lateness.note(0.0)
    assert lateness.doubt(0.0) < 1e-5, "a loop that is in time again is soon believed"


def test_a_stand_still_hides_no_backend_that_is_slow_after_it(lateness: Lateness) -> None:
    """Ten messages lay with us for a minute; the loop is on time again, and the backend is not."""
    for _ in range(10):
        lateness.note(60.0)
    assert seen(lateness, slower(60.0, late=60.0)).service == pytest.approx(ENVELOPE + DATA)
    for _ in range(20):
        lateness.note(0.0)
    assert seen(lateness, slower(4.0)).service > 3.0
