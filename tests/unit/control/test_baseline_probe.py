"""When the limit is held down to see the backend unloaded, and for how long."""

import pytest

from mailshed.control.baseline_probe import (
    EPOCH_AGAIN,
    EPOCH_FIRST,
    EPOCH_MAX,
    EPOCH_SECONDS,
    PROBE_MAX,
    SAMPLES_MIN,
    URGENT_BACKOFF,
    URGENT_MIN,
    BaselineProbe,
)


def epoch(probe: BaselineProbe, now: float) -> float:
    """How long it is from `now` to the end of the epoch."""
    return next(s for s in range(100_000) if probe.is_epoch_over(now + s))


def test_epochs_become_longer_until_they_are_ten_minutes() -> None:
    probe, found = BaselineProbe(), []
    for _ in range(5):
        probe.start_epoch(0.0)
        found.append(epoch(probe, 0.0))
    assert found == [EPOCH_FIRST, 240, 480, EPOCH_SECONDS, EPOCH_SECONDS]


def test_the_first_question_starts_the_first_epoch() -> None:
    probe = BaselineProbe()
    assert not probe.is_epoch_over(1e6)
    assert probe.is_epoch_over(1e6 + EPOCH_FIRST)


def test_two_seconds_from_the_moment_when_few_are_in_flight() -> None:
    probe = BaselineProbe()
    probe.begin(10.0, 4, 0.05)
    probe.settle(10.5, 5)
    probe.settle(11.0, 4)
    probe.settle(11.5, 2)
    assert not probe.is_over(12.75, SAMPLES_MIN)
    assert probe.is_over(13.0, SAMPLES_MIN)


def test_a_backend_that_does_not_settle_is_given_up() -> None:
    probe = BaselineProbe()
    probe.begin(10.0, 4, 0.05)
    probe.settle(11.0, 5)
    assert probe.is_over(12.0, 0)


def test_with_too_few_samples_it_goes_on_until_there_are_enough() -> None:
    probe = BaselineProbe()
    probe.begin(0.0, 4, 0.05)
    probe.settle(0.0, 1)
    assert not probe.is_over(2.0, SAMPLES_MIN - 1)
    assert not probe.is_over(5.0, SAMPLES_MIN - 1)
    assert probe.is_over(5.0, SAMPLES_MIN)
    assert probe.is_over(6.0, 0), "but not for ever"


@pytest.mark.parametrize(("service", "seconds"), [(0.0, 2.0), (1.0, 5.0), (100.0, PROBE_MAX)])
def test_slow_backends_are_held_longer_and_more_rarely(service: float, seconds: float) -> None:
    probe = BaselineProbe()
    for _ in range(4):
        probe.start_epoch(0.0)
    probe.begin(0.0, 4, service)
    assert probe.ends_at == seconds
    probe.end(seconds, SAMPLES_MIN, is_lesson=False)
    assert epoch(probe, seconds) == min(max(600, 300 * seconds), EPOCH_MAX)


def test_a_probe_that_had_to_be_prolonged_counts_as_long_as_it_was() -> None:
    probe = BaselineProbe()
    for _ in range(4):
        probe.start_epoch(0.0)
    probe.begin(0.0, 4, 0.05)
    probe.end(7.0, 0, is_lesson=False)
    assert epoch(probe, 7.0) == 300 * 7


def test_after_a_lesson_the_next_probe_comes_soon() -> None:
    probe = BaselineProbe()
    for _ in range(4):
        probe.start_epoch(0.0)
    probe.begin(0.0, 4, 0.05)
    probe.end(2.0, SAMPLES_MIN, is_lesson=True)
    assert epoch(probe, 2.0) == EPOCH_AGAIN
    assert not probe.is_on


def test_a_reason_that_was_none_counts_less_the_next_time() -> None:
    probe = BaselineProbe()
    assert probe.may_hurry(0.0)
    waits = []
    for _ in range(5):
        probe.begin(0.0, 4, 0.05, is_urgent=True)
        probe.end(0.0, SAMPLES_MIN, is_lesson=False)
        waits.append(next(s for s in range(10_000) if probe.may_hurry(s)))
    first = URGENT_MIN * URGENT_BACKOFF
    assert waits == [first, first * URGENT_BACKOFF, EPOCH_SECONDS, EPOCH_SECONDS, EPOCH_SECONDS]
    probe.begin(0.0, 4, 0.05)
    probe.end(0.0, SAMPLES_MIN, is_lesson=True)
    assert probe.may_hurry(URGENT_MIN)


def test_a_probe_without_samples_proves_nothing() -> None:
    probe = BaselineProbe()
    probe.begin(0.0, 4, 0.05, is_urgent=True)
    probe.end(0.0, 3, is_lesson=False)
    assert probe.may_hurry(URGENT_MIN)
