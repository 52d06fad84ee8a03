"""The expected time of a message: what teaches it, what does not, and what survives."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from mailshed.control.baseline import POOL_MIN, STALE_SECONDS, Baseline

MIB = 1024**2


def teach(
    baseline: Baseline,
    factor: float = 1.0,
    *,
    number: int = 60,
    in_flight: int = 1,
    noise: float = 0.2,
    seed: int = 1,
    mail: float = 0.0,
) -> None:
    """Let messages of all sizes be served, 0.02 s for the envelope and 0.05 s + 0.05 s/MiB."""
    rng = random.Random(seed)
    for _ in range(number):
        size = int(4096 * rng.paretovariate(0.8)) % (20 * MIB)
        chance = factor * rng.lognormvariate(0.0, noise)
        baseline.note(
            size=size,
            recipients=1,
            in_flight=in_flight,
            mail=mail,
            envelope=0.02 * chance + mail,
            data=(0.05 + 0.05 * size / MIB) * chance,
        )


def taught(**changes: Any) -> Baseline:
    """A baseline that has had its first lesson."""
    made = Baseline()
    teach(made, **changes)
    made.learn(4)
    return made


def test_it_knows_nothing_at_first() -> None:
    made = Baseline()
    assert not made.is_known
    assert made.medians() == ()
    assert made.learn(4).samples == 0
    assert not made.is_known


def test_it_is_envelope_and_data() -> None:
    made = taught(number=400)
    assert made.envelope(1) == pytest.approx(0.02, rel=0.1)
    assert made.expected(6000, 1) == pytest.approx(0.07, rel=0.1)
    assert made.expected(3 * MIB, 1) == pytest.approx(0.07 + 0.15, rel=0.4)
    assert made.expected(6000, 50) > made.expected(6000, 1)
    assert made.has(6000)
    assert {scale for scale, _, _ in made.medians()} == {"envelope", "data"}


def test_samples_that_were_not_light_teach_nothing() -> None:
    made = taught()
    before = made.medians()
    teach(made, 5.0, in_flight=5)
    assert made.samples > 0
    assert made.light(4) == 0
    assert made.learn(4).samples == 0
    assert made.medians() == before


def test_all_becoming_slower_is_learned_at_once() -> None:
    made = taught()
    before = made.expected(6000, 1)
    teach(made, 2.0, seed=2)
    assert made.learn(4).shift == pytest.approx(2.0, rel=0.15)
    assert made.expected(6000, 1) == pytest.approx(2 * before, rel=0.15)
    assert made.expected(30 * MIB, 1) > 1.0


def test_so_is_becoming_faster() -> None:
    made = taught()
    teach(made, 0.5, seed=2)
    assert made.learn(4).shift == pytest.approx(0.5, rel=0.15)


def test_chance_is_not() -> None:
    made = taught(noise=1.0)
    for seed in range(2, 30):
        teach(made, noise=1.0, seed=seed)
        assert made.learn(4).shift == pytest.approx(1.0, abs=0.7)
    assert made.expected(6000, 1) == pytest.approx(0.07, rel=0.25)


def test_a_few_samples_shift_nothing() -> None:
    made = taught()
    teach(made, 9.0, number=POOL_MIN - 1)
    assert made.learn(4).shift == 1.0


def test_a_tarpit_does_not_make_everything_slower() -> None:
    made = taught(mail=0.01)
    assert made.mail == pytest.approx(0.01)
    before = made.expected(3 * MIB, 1)
    teach(made, mail=5.0, seed=2)
    assert made.learn(4).shift == 1.0
    assert made.expected(3 * MIB, 1) < before + 6.0


def test_a_refused_message_teaches_the_envelope() -> None:
    made = taught(number=400)
    for _ in range(64):
        made.note_envelope(recipients=1, in_flight=1, envelope=0.04)
    made.learn(4)
    assert 0.02 < made.envelope(1) < 0.04


def test_the_usual_tail_is_known() -> None:
    narrow, wide = taught(number=200, noise=0.2), taught(number=200, noise=1.0)
    assert narrow.tail == pytest.approx(1.29, rel=0.2)
    assert wide.tail == pytest.approx(3.6, rel=0.4)


def test_it_comes_back_as_it_was() -> None:
    made, again = taught(number=200, mail=0.01), Baseline()
    document = json.loads(json.dumps(made.to_document()))
    assert again.restore(document, 60.0) is None
    assert again.medians() == made.medians()
    assert again.mail == made.mail
    assert (again.tail, again.is_stale) == (made.tail, False)


@pytest.mark.parametrize("age", [STALE_SECONDS + 1, -1.0])
def test_old_knowledge_gives_way_to_the_first_samples(age: float) -> None:
    again = Baseline()
    assert again.restore(taught(number=200).to_document(), age) is None
    was_stale = again.is_stale
    teach(again, 1.1, noise=0.01, number=200)
    again.learn(4)
    assert (was_stale, again.is_stale) == (True, False)
    assert again.expected(6000, 1) == pytest.approx(0.077, rel=0.05)


def _without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda document: document.pop(key)


def _with(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document.update({key: value})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_with("version", 2), "version 2"),
        (_without("version"), "version None"),
        (_without("tail"), "no 'tail'"),
        (_without("data"), "no 'data'"),
        (_with("tail", True), "not a number"),
        (_with("tail", float("nan")), "not a number"),
        (_with("tail", 0.5), "between"),
        (_with("data", {}), "list of buckets"),
        (_with("data", [[0, 0.1, 5000]]), "damaged"),
        (_with("data", [[13, 0.1, 5000, 5]]), "no bucket 13"),
        (_with("data", [[True, 0.1, 5000, 5]]), "no bucket True"),
        (_with("data", [[0, -1.0, 5000, 5]]), "between"),
        (_with("data", [[0, "fast", 5000, 5]]), "not a number"),
        (_with("data", [[0, 0.0, 5000, 5]]), "between"),
        (_with("data", [7]), "damaged"),
        (_with("data", []), "empty"),
    ],
)
def test_a_damaged_document_is_ignored(
    spoil: Callable[[dict[str, Any]], object], reason: str
) -> None:
    document, again = taught().to_document(), Baseline()
    spoil(document)
    told = again.restore(document, 0.0)
    assert told is not None
    assert reason in told
    assert not again.is_known
