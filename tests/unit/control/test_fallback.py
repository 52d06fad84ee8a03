"""When a neighbour takes the mail of a backend that is away, and when not any more."""

from collections.abc import Mapping

import pytest

from mailshed.control.breaker import BreakerState
from mailshed.control.fallback import FallbackChange, FallbackRule, Fallbacks

CLOSED, HALF_OPEN, OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN
AFTER = 600.0


class Bench:
    """Two hospitals that help each other out, and time that passes."""

    def __init__(self) -> None:
        self.fallbacks = Fallbacks(
            {
                "here": FallbackRule(fallback="there", after=AFTER),
                "there": FallbackRule(fallback="here", after=AFTER),
            }
        )
        self.states = {"here": CLOSED, "there": CLOSED}
        self.now = 1000.0

    def be(self, here: BreakerState, there: BreakerState = CLOSED) -> list[FallbackChange]:
        """Both are like this from now on."""
        self.states = {"here": here, "there": there}
        return self.pass_time(0.0)

    def pass_time(self, seconds: float) -> list[FallbackChange]:
        self.now += seconds
        return self.fallbacks.tick(self.now, self.states)

    @property
    def active(self) -> Mapping[str, str]:
        return self.fallbacks.active


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_restart_is_no_reason_to_ask_a_favour(bench: Bench) -> None:
    assert bench.be(OPEN) == []
    assert bench.pass_time(AFTER - 1) == []
    assert bench.fallbacks.away_seconds("here", bench.now) == AFTER - 1
    assert bench.be(HALF_OPEN) == []
    assert bench.pass_time(3600) == []
    assert bench.be(CLOSED) == []
    assert bench.active == {}
    assert bench.fallbacks.away_seconds("here", bench.now) == 0.0


def test_mail_goes_aside_when_it_is_away_for_long_and_back_when_that_is_proven(
    bench: Bench,
) -> None:
    bench.be(OPEN)
    (began,) = bench.pass_time(AFTER)
    assert (began.backend, began.fallback, began.has_begun, began.seconds) == (
        "here",
        "there",
        True,
        AFTER,
    )
    assert bench.active == {"here": "there"}
    assert bench.pass_time(100) == []
    assert bench.be(HALF_OPEN) == [], "it answers, which is no proof"
    assert bench.active == {"here": "there"}
    assert bench.fallbacks.helped_seconds("here", bench.now) == 100
    (ended,) = bench.be(CLOSED)
    assert (ended.has_begun, ended.is_back, ended.seconds) == (False, True, 100)
    assert bench.active == {}
    assert bench.fallbacks.helped_seconds("here", bench.now) == 0.0


def test_it_does_not_begin_with_a_backend_that_is_coming_back(bench: Bench) -> None:
    bench.be(OPEN)
    bench.pass_time(AFTER - 1)
    assert bench.be(HALF_OPEN) == []
    assert bench.pass_time(10) == []
    assert bench.active == {}


def test_who_fails_again_at_once_has_not_been_back(bench: Bench) -> None:
    bench.be(OPEN)
    bench.pass_time(AFTER)
    bench.be(CLOSED)
    bench.pass_time(AFTER - 1)
    (again,) = bench.be(OPEN)
    assert again.has_begun


def test_who_fails_again_later_is_given_time_again(bench: Bench) -> None:
    bench.be(OPEN)
    bench.pass_time(AFTER)
    bench.be(CLOSED)
    bench.pass_time(AFTER)
    assert bench.be(OPEN) == []
    assert len(bench.pass_time(AFTER)) == 1


def test_a_short_outage_without_help_is_no_relapse_of_anything(bench: Bench) -> None:
    bench.be(OPEN)
    bench.be(CLOSED)
    assert bench.be(OPEN) == []


def test_a_fallback_that_is_away_helps_nobody(bench: Bench) -> None:
    bench.be(OPEN, OPEN)
    assert bench.pass_time(AFTER) == []
    assert bench.active == {}, "not even each other"
    (began,) = bench.be(OPEN, HALF_OPEN)
    assert (began.backend, began.has_begun) == ("here", True)
    (ended,) = bench.be(OPEN, OPEN)
    assert (ended.has_begun, ended.is_back) == (False, False)
    assert bench.active == {}
    (again,) = bench.be(OPEN, CLOSED)
    assert again.has_begun, "it has been away for long all the time"


def test_who_has_no_fallback_is_not_watched() -> None:
    fallbacks = Fallbacks({})
    assert fallbacks.tick(0.0, {"here": OPEN}) == []
    assert fallbacks.away_seconds("here", 1e6) == 0.0
    assert fallbacks.helped_seconds("here", 1e6) == 0.0
