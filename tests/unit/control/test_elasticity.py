"""The slow loop: what it makes of backends of known elasticity."""

import random
from collections.abc import Callable

import pytest

from mailshed.control.elasticity import (
    FACTOR_MAX,
    FACTOR_MIN,
    PHASES,
    SWING,
    WINDOWS_PER_PHASE,
    Elasticity,
    slope,
)


def watch(
    respond: Callable[[float], float], phases: int = PHASES, noise: float = 0.0
) -> Elasticity:
    """So many phases around ten in flight, of a backend with x = respond(n)."""
    loop, rng = Elasticity(), random.Random(1)
    for _ in range(phases * WINDOWS_PER_PHASE):
        n = 10.0 * loop.swing(1.0)
        loop.note(n, respond(n) * rng.lognormvariate(0.0, noise) if noise else respond(n))
    return loop


def test_the_limit_swings_up_and_down() -> None:
    loop = Elasticity()
    seen = []
    for _ in range(3 * WINDOWS_PER_PHASE):
        seen.append(loop.swing(1.0))
        loop.note(10.0, 1.0)
    up, down = [1 + SWING] * WINDOWS_PER_PHASE, [1 - SWING] * WINDOWS_PER_PHASE
    assert seen == pytest.approx(up + down + up)


def test_it_swings_no_further_than_there_is_a_queue() -> None:
    loop = Elasticity()
    assert loop.swing(0.05) == pytest.approx(1.05)
    assert loop.swing(0.0) == 1.0


def test_a_backend_that_gains_nothing_gets_a_shorter_queue() -> None:
    loop = watch(lambda n: n / 8)
    assert loop.estimate == pytest.approx(0.0, abs=0.01)
    assert loop.factor == pytest.approx(1 / 1.15)


def test_a_backend_that_gains_gets_a_longer_one() -> None:
    loop = watch(lambda n: n**0.5)
    assert loop.estimate == pytest.approx(0.5, abs=0.01)
    assert loop.factor == pytest.approx(1.15)


def test_one_that_gains_a_little_is_left_alone() -> None:
    loop = watch(lambda n: n**0.8, 5 * PHASES)
    assert loop.estimate == pytest.approx(0.2, abs=0.01)
    assert loop.factor == 1.0


def test_the_factor_has_bounds() -> None:
    assert watch(lambda n: n, 20 * PHASES).factor == FACTOR_MIN
    assert watch(lambda _: 2.0, 30 * PHASES).factor == FACTOR_MAX


def test_noise_is_not_taken_for_news() -> None:
    """With an error as large as the difference nothing is concluded, mostly."""
    factor = watch(lambda n: n**0.8, 60 * PHASES, noise=0.1).factor
    assert 0.6 < factor < 2.5


def test_what_is_not_comparable_is_forgotten() -> None:
    loop = Elasticity()
    for phase in range(PHASES * 3):
        for _ in range(WINDOWS_PER_PHASE):
            loop.note(10.0 * loop.swing(1.0), 1.0)
        if phase % 5 == 4:
            loop.forget()
    assert loop.estimate is None


def test_a_limit_that_was_not_followed_shows_nothing() -> None:
    loop = watch(lambda n: n)
    assert loop.estimate is not None
    loop = Elasticity()
    for _ in range(PHASES * WINDOWS_PER_PHASE):
        loop.note(10.0, 1.5)
    assert (loop.estimate, loop.factor) == (None, 1.0)


def test_an_idle_window_is_none() -> None:
    loop = Elasticity()
    assert not any(loop.note(0.0, 1.0) for _ in range(100))


def test_the_line_and_its_error() -> None:
    exact = slope([(n / 10, 2.0 * n / 10 + 1.0) for n in range(12)])
    assert exact == pytest.approx((2.0, 0.0), abs=1e-6)
    rng = random.Random(3)
    noisy = slope([(n / 10, 2.0 * n / 10 + rng.gauss(0.0, 0.1)) for n in range(12)])
    assert noisy is not None
    assert noisy[0] == pytest.approx(2.0, abs=3 * noisy[1])
    assert 0.03 < noisy[1] < 0.2
    assert slope([(1.0, 2.0)] * 5) is None
