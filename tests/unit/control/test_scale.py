"""Seconds by quantity: medians where there are samples, a line where there are none."""

import random

import pytest

from mailshed.control.scale import (
    BLEND,
    BUCKETS,
    SAMPLES_MIN,
    SECONDS_MIN,
    Learned,
    Prior,
    Scale,
    fit_line,
)

PRIOR = Prior(quantity=1024.0**2, factor=1.0, seconds=0.04)
KIB = 1024
MIB = KIB**2


def scale(**samples: tuple[int, float]) -> Scale:
    """A scale of octets that has learned so much, ten samples each."""
    made = Scale(12, PRIOR)
    for quantity, seconds in samples.values():
        for _ in range(10):
            made.note(quantity, seconds, 1)
    made.learn(4, is_anew=False)
    return made


@pytest.mark.parametrize(
    ("octets", "bucket"),
    [(0, 0), (4095, 0), (4096, 0), (8191, 0), (8192, 1), (MIB, 8), (16 * MIB, 12), (10**12, 12)],
)
def test_each_bucket_is_twice_as_wide(octets: int, bucket: int) -> None:
    made = scale(a=(5000, 0.1))
    assert made.bucket(octets) == bucket
    assert made.seconds(octets) == made.seconds(4096 << bucket)


def test_a_bucket_is_the_median_of_its_samples() -> None:
    made = Scale(12, PRIOR)
    for seconds in (0.1, 0.2, 0.3, 0.4, 60.0):
        made.note(5000, seconds, 1)
    made.learn(4, is_anew=False)
    assert made.has(6000)
    assert made.seconds(6000) == 0.3


def test_too_few_samples_wait_for_the_next_ones() -> None:
    made = Scale(12, PRIOR)
    for _ in range(SAMPLES_MIN - 1):
        made.note(5000, 0.1, 1)
    made.learn(4, is_anew=False)
    assert not made.is_known
    made.note(5000, 0.1, 1)
    made.learn(4, is_anew=False)
    assert made.has(5000)


def test_samples_that_were_not_light_do_not_count() -> None:
    made = Scale(12, PRIOR)
    for _ in range(20):
        made.note(5000, 9.0, 5)
    for _ in range(SAMPLES_MIN):
        made.note(5000, 0.1, 4)
    made.learn(4, is_anew=False)
    assert made.seconds(5000) == 0.1


def test_new_samples_move_a_value_by_a_part() -> None:
    made = scale(a=(5000, 0.1))
    made.restore({0: Learned(0.1, 5000.0, 64)}.items())
    for _ in range(10):
        made.note(5000, 0.2, 1)
    made.learn(4, is_anew=False)
    assert made.seconds(5000) == pytest.approx(0.1 + BLEND * 0.1)


def test_they_count_by_their_number_while_the_value_rests_on_few() -> None:
    made = scale(a=(5000, 0.1))
    for _ in range(30):
        made.note(5000, 0.2, 1)
    made.learn(4, is_anew=False)
    assert made.seconds(5000) == pytest.approx(0.175)
    assert made.samples == 40


def test_what_is_learned_anew_replaces() -> None:
    made = scale(a=(5000, 0.1))
    for _ in range(10):
        made.note(5000, 0.2, 1)
    made.learn(4, is_anew=True)
    assert made.seconds(5000) == 0.2


def test_large_messages_that_nobody_has_seen_are_on_a_line() -> None:
    made = scale(a=(6 * KIB, 0.05), b=(96 * KIB, 0.05 + 0.1 * 96 / 1024), c=(MIB + 1, 0.15))
    assert not made.has(5 * MIB)
    assert made.seconds(5 * MIB) == pytest.approx(0.05 + 0.1 * 6, rel=0.15)


def test_noise_between_small_messages_says_nothing_about_large_ones() -> None:
    made = scale(a=(5 * KIB, 0.050), b=(9 * KIB, 0.055))
    assert made.seconds(30 * MIB) < 3.0


def test_values_never_fall_with_the_size_beyond_what_was_seen() -> None:
    made = scale(a=(5 * KIB, 0.08), b=(40 * KIB, 0.05))
    assert made.seconds(30 * MIB) >= 0.05


def test_all_can_become_slower_at_once() -> None:
    made = scale(a=(5000, 0.1), b=(MIB, 0.2))
    far = made.seconds(20 * MIB)
    made.multiply(2.0)
    assert (made.seconds(5000), made.seconds(MIB)) == (0.2, 0.4)
    assert made.seconds(20 * MIB) > 1.5 * far


def test_nothing_is_ever_zero() -> None:
    made = scale(a=(5000, 0.0))
    assert all(made.seconds(1 << bits) >= SECONDS_MIN for bits in range(30))
    made.multiply(0.0)
    assert made.seconds(5000) >= SECONDS_MIN


def test_what_is_known_can_be_told_and_taken_over() -> None:
    made = scale(a=(5000, 0.1), b=(MIB, 0.2))
    other = Scale(12, PRIOR)
    other.restore(made.learned.items())
    assert [other.seconds(4096 << n) for n in range(BUCKETS)] == [
        made.seconds(4096 << n) for n in range(BUCKETS)
    ]


def test_a_line_is_found_again() -> None:
    points = [(float(q), 0.05 + 1e-7 * q, 10) for q in (5_000, 50_000, 500_000, 5_000_000)]
    assert fit_line(points) == pytest.approx((0.05, 1e-7))


def test_neither_part_of_a_line_is_negative() -> None:
    rng = random.Random(1)
    for _ in range(200):
        points = [
            (rng.uniform(1e3, 1e7), rng.uniform(0.001, 10.0), rng.randint(1, 64)) for _ in range(4)
        ]
        assert min(fit_line(points)) >= 0.0
    assert fit_line([(1.0, 1.0, 5), (2.0, 4.0, 5)])[0] == 0.0
    assert fit_line([(1.0, 4.0, 5), (2.0, 1.0, 5)])[1] == 0.0
    assert fit_line([(1.0, 4.0, 5)]) == (4.0, 0.0)
