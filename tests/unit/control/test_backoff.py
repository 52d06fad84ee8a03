"""When something that does not answer is asked again."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mailshed.control.backoff import (
    AT_ONCE,
    BACKOFF_MAX,
    BACKOFF_MIN,
    JITTER,
    REFUSED_MAX,
    Backoff,
)

# The middle of the jitter: the pause as it is.
NONE = 0.5


def opened(now: float = 0.0) -> Backoff:
    """One that was turned on at `now`."""
    backoff = Backoff()
    assert backoff.try_enter(now)
    assert backoff.on_failure(now, NONE)
    return backoff


def fail_probe(backoff: Backoff, now: float, jitter: float = NONE, took: float = 0.0) -> float:
    """Let a probe begin at `now` and be refused; return how long the next pause is."""
    assert backoff.try_enter(now)
    assert backoff.on_failure(now + took, jitter, backoff.probe, is_refused=took <= AT_ONCE)
    return backoff.next_probe(now + took)


def test_off_everybody_may_ask() -> None:
    backoff = Backoff()
    assert all(backoff.try_enter(0.0) for _ in range(100))
    assert not backoff.is_open
    assert (backoff.next_probe(0.0), backoff.probe, backoff.age(1.0)) == (0.0, 0, 0.0)


def test_on_nobody_may_until_the_first_probe_is_due() -> None:
    backoff = opened(now=100.0)
    assert backoff.is_open
    assert not backoff.may_enter(100.0)
    assert not backoff.try_enter(100.0 + BACKOFF_MIN - 0.001)
    assert backoff.next_probe(100.25) == pytest.approx(BACKOFF_MIN - 0.25)
    assert backoff.may_enter(100.0 + BACKOFF_MIN)
    assert backoff.next_probe(100.0 + BACKOFF_MIN) == 0.0


def test_one_probes_at_a_time() -> None:
    backoff = opened()
    assert backoff.may_enter(BACKOFF_MIN), "asking whether does not make a probe"
    assert backoff.try_enter(BACKOFF_MIN)
    assert not backoff.may_enter(BACKOFF_MIN)
    assert not backoff.try_enter(1000.0)
    assert backoff.age(3.0) == 3.0 - BACKOFF_MIN


def test_a_success_turns_it_off() -> None:
    backoff = opened()
    assert backoff.try_enter(BACKOFF_MIN)
    backoff.on_success()
    assert not backoff.is_open
    assert all(backoff.try_enter(BACKOFF_MIN) for _ in range(3))


def test_silence_is_asked_at_doubling_distances_up_to_half_a_minute() -> None:
    backoff, now = opened(), 0.0
    pauses = [backoff.next_probe(now)]
    for _ in range(7):
        now += pauses[-1]
        pauses.append(fail_probe(backoff, now, took=10.0))
        now += 10.0
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_what_refuses_at_once_is_asked_every_two_seconds() -> None:
    backoff, now = opened(), 0.0
    pauses = [backoff.next_probe(now)]
    for _ in range(5):
        now += pauses[-1]
        pauses.append(fail_probe(backoff, now))
    assert pauses == [BACKOFF_MIN] + [REFUSED_MAX] * 5


def test_what_refuses_at_once_after_a_silence_is_nearly_back() -> None:
    """A host that boots: nothing, then a refusal, then the server."""
    backoff, now = opened(), 100.0
    for _ in range(6):
        fail_probe(backoff, now, took=10.0)
        now += 100.0
    assert fail_probe(backoff, now) == REFUSED_MAX
    assert fail_probe(backoff, now + 100.0, took=10.0) == 2 * REFUSED_MAX


def test_a_refusal_that_took_long_is_not_free() -> None:
    backoff = opened()
    assert backoff.try_enter(10.0)
    assert backoff.on_failure(10.0 + AT_ONCE + 0.5, NONE, backoff.probe, is_refused=True)
    assert backoff.try_enter(20.0)
    assert backoff.on_failure(20.0 + AT_ONCE + 0.5, NONE, backoff.probe, is_refused=True)
    assert backoff.next_probe(20.0 + AT_ONCE + 0.5) == 4 * BACKOFF_MIN


def test_after_a_success_the_pauses_begin_anew() -> None:
    backoff = opened()
    fail_probe(backoff, 10.0, took=10.0)
    fail_probe(backoff, 30.0, took=10.0)
    assert backoff.try_enter(60.0)
    backoff.on_success()
    backoff.on_failure(60.0, NONE)
    assert backoff.next_probe(60.0) == BACKOFF_MIN


@pytest.mark.parametrize("jitter", [0.0, 0.25, 0.5, 0.75, 0.999999])
def test_jitter_spreads_the_probes_within_its_bounds(jitter: float) -> None:
    backoff, now = Backoff(), 0.0
    backoff.on_failure(now, jitter)
    pause = backoff.next_probe(now)
    assert BACKOFF_MIN * (1 - JITTER) <= pause <= BACKOFF_MIN * (1 + JITTER)
    for _ in range(10):
        now += pause + 1e-6
        pause = fail_probe(backoff, now, jitter, took=10.0)
        now += 10.0
    assert BACKOFF_MAX * (1 - JITTER) <= pause <= BACKOFF_MAX * (1 + JITTER)


def test_a_straggler_that_fails_says_nothing_new() -> None:
    """It was out before; its failure neither delays nor hastens the probe, nor ends one."""
    backoff = opened()
    assert not backoff.on_failure(0.9, NONE)
    assert backoff.next_probe(0.9) == pytest.approx(0.1)
    assert backoff.try_enter(BACKOFF_MIN)
    probe = backoff.probe
    assert not backoff.on_failure(2.0, NONE)
    backoff.on_unused(0)
    assert not backoff.may_enter(1000.0), "the probe is still out"
    assert backoff.on_failure(3.0, NONE, probe)
    assert backoff.next_probe(3.0) == 2.0


def test_a_probe_that_was_not_made_leaves_its_place_to_the_next() -> None:
    backoff = opened()
    assert backoff.try_enter(BACKOFF_MIN)
    backoff.on_unused(backoff.probe)
    assert backoff.is_open
    assert backoff.try_enter(BACKOFF_MIN)


def test_a_probe_of_an_earlier_time_is_not_taken_for_the_one_that_is_out() -> None:
    backoff = opened()
    assert backoff.try_enter(BACKOFF_MIN)
    forgotten = backoff.probe
    backoff.on_success()  # a straggler's
    backoff.on_failure(10.0, NONE)
    assert backoff.try_enter(20.0)
    assert not backoff.on_failure(20.0, NONE, forgotten)
    assert not backoff.may_enter(1000.0)


def test_a_step_forward_makes_the_next_probe_due_and_keeps_the_pause() -> None:
    backoff = opened()
    fail_probe(backoff, 10.0, took=10.0)
    assert backoff.try_enter(50.0)
    assert not backoff.on_step(51.0, 0), "it is not the probe's"
    assert backoff.on_step(51.0, backoff.probe)
    assert backoff.is_open
    assert backoff.may_enter(51.0)
    assert fail_probe(backoff, 52.0, took=10.0) == 4.0


def test_what_speaks_for_a_success_hastens_the_probe_and_never_delays_it() -> None:
    backoff = opened(now=100.0)
    backoff.hasten(100.5)
    assert backoff.may_enter(100.5)
    backoff.hasten(200.0)
    assert backoff.may_enter(100.5)


class BackoffUnderTraffic(RuleBasedStateMachine):
    """Questions come, go, succeed, fail and are not asked after all, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.backoff = Backoff()
        self.now = 0.0
        self.out: list[int] = []  # the probe number of each question
        self.is_open = False

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def enter(self) -> None:
        expected = self.backoff.may_enter(self.now)
        assert self.backoff.try_enter(self.now) == expected
        if expected:
            self.out.append(self.backoff.probe)
            assert (self.out[-1] != 0) == self.backoff.is_open

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0), ending=st.sampled_from("sfru"), jitter=st.floats(0, 0.999))
    def end(self, which: int, ending: str, jitter: float) -> None:
        probe = self.out.pop(which % len(self.out))
        if ending == "s":
            self.backoff.on_success()
            self.is_open = False
        elif ending == "u":
            self.backoff.on_unused(probe)
        else:
            self.backoff.on_failure(self.now, jitter, probe, is_refused=ending == "r")
            self.is_open = True

    @invariant()
    def it_is_on_from_a_failure_to_a_success(self) -> None:
        assert self.backoff.is_open == self.is_open

    @invariant()
    def at_most_one_probe_is_out_and_no_place_is_lost(self) -> None:
        probe = self.backoff.probe
        if probe:
            assert self.backoff.is_open
            assert self.out.count(probe) == 1
        else:
            # Whoever comes when the time is due may enter.
            assert self.backoff.may_enter(self.now + self.backoff.next_probe(self.now) + 1e-6)

    @invariant()
    def the_next_probe_is_never_far(self) -> None:
        assert 0 <= self.backoff.next_probe(self.now) <= BACKOFF_MAX * (1 + JITTER)


BackoffUnderTraffic.TestCase.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=60
)
TestBackoffUnderTraffic = BackoffUnderTraffic.TestCase
