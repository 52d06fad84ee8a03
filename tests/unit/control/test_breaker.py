"""The circuit breaker: when it opens, who may probe, when it closes."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mailshed.control.breaker import BACKOFF_MAX, BACKOFF_MIN, FAILURES_TO_OPEN, JITTER, Breaker

# The middle of the jitter: the backoff as it is.
NONE = 0.5


def opened(now: float = 0.0) -> Breaker:
    """A breaker that opened at `now`."""
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        assert breaker.try_enter(now)
    for _ in range(FAILURES_TO_OPEN):
        breaker.on_failure(now, NONE)
    return breaker


def fail_probe(breaker: Breaker, now: float, random_unit: float = NONE) -> None:
    assert breaker.try_enter(now)
    breaker.on_failure(now, random_unit, breaker.probe)


def test_closed_everybody_passes() -> None:
    breaker = Breaker()
    assert all(breaker.try_enter(0.0) for _ in range(100))
    assert not breaker.is_open
    assert breaker.next_probe(0.0) == 0.0
    assert breaker.probe == 0


def test_it_opens_after_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.on_failure(0.0, NONE)
        assert not breaker.is_open
    breaker.on_failure(0.0, NONE)
    assert breaker.is_open


def test_its_owner_says_how_many_failures_open_it() -> None:
    breaker = Breaker(failures_to_open=1)
    breaker.on_failure(0.0, NONE)
    assert breaker.is_open
    assert breaker.next_probe(0.0) == BACKOFF_MIN
    breaker.on_failure(0.5, NONE)
    assert breaker.next_probe(0.5) == BACKOFF_MIN - 0.5, "a straggler says nothing new"
    fail_probe(breaker, BACKOFF_MIN)
    assert breaker.next_probe(BACKOFF_MIN) == 2 * BACKOFF_MIN


def test_an_answer_in_between_keeps_it_closed() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(FAILURES_TO_OPEN - 1):
            breaker.on_failure(0.0, NONE)
        breaker.on_success()
    assert not breaker.is_open


def test_open_nobody_passes_until_the_first_probe_is_due() -> None:
    breaker = opened(now=100.0)
    assert not breaker.may_enter(100.0)
    assert not breaker.try_enter(100.0 + BACKOFF_MIN - 0.001)
    assert breaker.next_probe(100.25) == pytest.approx(BACKOFF_MIN - 0.25)
    assert breaker.may_enter(100.0 + BACKOFF_MIN)
    assert breaker.next_probe(100.0 + BACKOFF_MIN) == 0.0


def test_one_probes_at_a_time() -> None:
    breaker = opened()
    assert breaker.try_enter(BACKOFF_MIN)
    assert not breaker.may_enter(BACKOFF_MIN)
    assert not breaker.try_enter(1000.0)


def test_asking_does_not_make_a_probe() -> None:
    breaker = opened()
    assert breaker.may_enter(BACKOFF_MIN)
    assert breaker.may_enter(BACKOFF_MIN)
    assert breaker.try_enter(BACKOFF_MIN)


def test_the_first_success_closes_it() -> None:
    breaker = opened()
    assert breaker.try_enter(BACKOFF_MIN)
    breaker.on_success()
    assert not breaker.is_open
    assert all(breaker.try_enter(BACKOFF_MIN) for _ in range(3))


def test_probes_come_at_doubling_distances_up_to_half_a_minute() -> None:
    breaker = opened()
    now = 0.0
    distances = []
    for _ in range(8):
        distance = breaker.next_probe(now)
        distances.append(distance)
        now += distance
        fail_probe(breaker, now)
    assert distances == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_after_a_success_the_distances_begin_anew() -> None:
    breaker = opened()
    fail_probe(breaker, BACKOFF_MIN)
    fail_probe(breaker, 10.0)
    assert breaker.try_enter(20.0)
    breaker.on_success()
    for _ in range(FAILURES_TO_OPEN):
        breaker.on_failure(20.0, NONE)
    assert breaker.next_probe(20.0) == BACKOFF_MIN


@pytest.mark.parametrize("random_unit", [0.0, 0.25, 0.5, 0.75, 0.999999])
def test_jitter_spreads_the_probes_within_its_bounds(random_unit: float) -> None:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker.on_failure(0.0, random_unit)
    now = 0.0
    assert BACKOFF_MIN * (1 - JITTER) <= breaker.next_probe(now) <= BACKOFF_MIN * (1 + JITTER)
    for _ in range(10):
        now += breaker.next_probe(now) + 1e-6
        fail_probe(breaker, now, random_unit)
    assert BACKOFF_MAX * (1 - JITTER) <= breaker.next_probe(now) <= BACKOFF_MAX * (1 + JITTER)


def test_a_straggler_that_fails_says_nothing_new() -> None:
    """It went out before the breaker opened; its failure neither delays nor hastens the probe."""
    breaker = opened(now=0.0)
    breaker.on_failure(0.9, NONE)
    assert breaker.next_probe(0.9) == pytest.approx(0.1)


def test_a_straggler_that_fails_while_a_probe_is_out_is_not_taken_for_it() -> None:
    breaker = opened()
    assert breaker.try_enter(BACKOFF_MIN)
    probe = breaker.probe
    breaker.on_failure(2.0, NONE)
    breaker.on_unused(0)
    assert not breaker.may_enter(1000.0), "the probe is still out"
    breaker.on_failure(3.0, NONE, probe)
    assert breaker.next_probe(3.0) == 2.0


def test_a_straggler_that_succeeds_closes_it() -> None:
    breaker = opened()
    breaker.on_success()
    assert not breaker.is_open


def test_a_probe_that_was_not_made_leaves_its_place_to_the_next() -> None:
    breaker = opened()
    assert breaker.try_enter(BACKOFF_MIN)
    breaker.on_unused(breaker.probe)
    assert breaker.is_open
    assert breaker.try_enter(BACKOFF_MIN)


def test_a_probe_of_an_earlier_opening_is_not_taken_for_the_one_that_is_out() -> None:
    breaker = opened()
    assert breaker.try_enter(BACKOFF_MIN)
    forgotten = breaker.probe
    breaker.on_success()  # a straggler's
    for _ in range(FAILURES_TO_OPEN):
        breaker.on_failure(10.0, NONE)
    assert breaker.try_enter(20.0)
    breaker.on_failure(20.0, NONE, forgotten)
    assert not breaker.may_enter(1000.0)


def test_the_probe_that_opens_it_again_is_an_ordinary_failure() -> None:
    """A straggler closed the breaker while the probe was out; then the probe failed."""
    breaker = opened()
    assert breaker.try_enter(BACKOFF_MIN)
    probe = breaker.probe
    breaker.on_success()
    breaker.on_failure(5.0, NONE, probe)
    assert breaker.is_open == (FAILURES_TO_OPEN == 1)


class BreakerUnderTraffic(RuleBasedStateMachine):
    """Messages come, go, succeed, fail and change their minds in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.out: list[int] = []  # the probe number of each message with the backend
        self.in_a_row = 0

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def enter(self) -> None:
        expected = self.breaker.may_enter(self.now)
        assert self.breaker.try_enter(self.now) == expected
        if expected:
            self.out.append(self.breaker.probe)
            assert (self.out[-1] != 0) == self.breaker.is_open

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0), ending=st.sampled_from("sfu"), random_unit=st.floats(0, 0.999))
    def end(self, which: int, ending: str, random_unit: float) -> None:
        probe = self.out.pop(which % len(self.out))
        if ending == "s":
            self.breaker.on_success()
            self.in_a_row = 0
        elif ending == "f":
            self.breaker.on_failure(self.now, random_unit, probe)
            self.in_a_row += 1
        else:
            self.breaker.on_unused(probe)

    @invariant()
    def it_is_open_after_failures_in_a_row(self) -> None:
        assert self.breaker.is_open == (self.in_a_row >= FAILURES_TO_OPEN)

    @invariant()
    def at_most_one_probe_is_out_and_no_place_is_lost(self) -> None:
        probe = self.breaker.probe
        if probe:
            assert self.breaker.is_open
            assert self.out.count(probe) == 1
        else:
            # Whoever comes when the time is due may enter.
            assert self.breaker.may_enter(self.now + self.breaker.next_probe(self.now) + 1e-6)

    @invariant()
    def the_next_probe_is_never_far(self) -> None:
        assert 0 <= self.breaker.next_probe(self.now) <= BACKOFF_MAX * (1 + JITTER)


BreakerUnderTraffic.TestCase.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=60
)
TestBreakerUnderTraffic = BreakerUnderTraffic.TestCase
