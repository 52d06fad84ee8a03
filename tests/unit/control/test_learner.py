"""Who teaches the expected times, and when."""

from math import inf

from mailshed.control.baseline_probe import EPOCH_FIRST, SAMPLES_ENOUGH
from mailshed.control.learner import FIRST_SECONDS, Learner


def teach(learner: Learner, number: int, seconds: float = 0.1, in_flight: int = 1) -> None:
    """So many samples."""
    for _ in range(number):
        learner.baseline.note(
            size=5000,
            recipients=1,
            in_flight=in_flight,
            mail=0.0,
            envelope=0.02,
            data=seconds - 0.02,
        )


def taught(limit: int = 40) -> Learner:
    """After its first lesson, at 0 s."""
    learner = Learner(2)
    teach(learner, SAMPLES_ENOUGH)
    assert learner.learn_first(0.0, 1)
    learner.hold(limit, limit)
    return learner


def test_until_there_are_expected_times_the_lowest_limit_holds() -> None:
    learner = Learner(2)
    assert learner.hold(40, 40) == 2
    assert learner.gate == 12
    assert taught().hold(40, 44) == 44


def test_nothing_is_learned_of_nothing() -> None:
    learner = Learner(2)
    assert not learner.learn_first(0.0, 0)
    assert not learner.learn_first(1e6, 0)
    assert not learner.learn_first(1e6, 1)


def test_few_samples_are_enough_after_a_while() -> None:
    learner = Learner(2)
    teach(learner, 6)
    assert not learner.learn_first(5.0, 1)
    assert not learner.learn_first(5.0 + FIRST_SECONDS - 0.1, 1)
    assert learner.learn_first(5.0 + FIRST_SECONDS, 1)
    assert learner.is_known


def test_the_gate_follows_the_limit() -> None:
    learner = taught()
    for limit, gate in ((4, 2), (20, 6), (100, 30)):
        learner.hold(limit, limit)
        assert learner.gate == gate


def test_with_light_samples_enough_there_is_no_probe() -> None:
    learner = taught()
    learner.crowded = 500
    teach(learner, SAMPLES_ENOUGH, 0.11)
    assert learner.end_epoch(EPOCH_FIRST, 40, 0.1, 30) == 1.0
    assert not learner.probe.is_on
    assert learner.crowded == 0
    assert learner.baseline.expected(5000, 1) > 0.1


def test_with_no_others_there_is_none_either() -> None:
    learner = taught()
    teach(learner, 3)
    learner.end_epoch(EPOCH_FIRST, 40, 0.1, 0)
    assert not learner.probe.is_on


def test_else_the_limit_is_held_at_what_is_light() -> None:
    learner = taught()
    learner.crowded = 500
    learner.end_epoch(100.0, 40, 0.1, 30)
    assert learner.probe.is_on
    assert learner.hold(40, 44) == 12
    assert learner.until == 102.0
    assert learner.look_at_probe(101.0, 10) is None
    teach(learner, 30)
    assert learner.look_at_probe(103.0, 10) == 1.0
    assert learner.hold(40, 44) == 44
    assert learner.until == inf


def test_a_probe_finds_out_that_all_has_become_slower() -> None:
    learner = taught()
    learner.begin_probe(0.0, 40, 0.1, 1, is_urgent=True)
    teach(learner, 60, 0.3)
    shift = learner.look_at_probe(2.0, 5)
    assert shift is not None
    assert 2.5 < shift < 4.0


def test_what_was_light_by_a_higher_limit_does_not_teach() -> None:
    learner = taught()
    teach(learner, 60, 0.3, in_flight=10)
    learner.crowded = 500
    learner.hold(20, 20)  # it has fallen, so ten in flight were not few
    learner.begin_probe(0.0, 20, 0.1, 1)
    assert learner.look_at_probe(2.0, 5) is None, "no samples of use"
    assert learner.look_at_probe(6.0, 5) == 1.0
    assert learner.baseline.expected(5000, 1) == 0.1


def test_a_probe_never_holds_below_the_lowest_limit() -> None:
    learner = taught(4)
    learner.begin_probe(0.0, 4, 0.1, 1)
    assert learner.hold(4, 4) == 2
