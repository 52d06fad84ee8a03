"""Quantiles in bounded memory, against the values themselves."""

from random import Random

import pytest

from mailshed.simulation.histogram import BUCKETS, Histogram


def exact(values: list[float], share: float) -> float:
    return sorted(values)[max(0, int(share * len(values) + 0.999999) - 1)]


def test_quantiles_are_right_within_a_per_cent_and_never_too_small() -> None:
    rng, histogram = Random(1), Histogram()
    values = [rng.lognormvariate(0.0, 2.0) for _ in range(5000)]
    for value in values:
        histogram.add(value)
    for share in (0.01, 0.5, 0.9, 0.99, 0.999):
        true = exact(values, share)
        assert true <= histogram.quantile(share) * (1 + 1e-9) <= true * 1.011


def test_the_largest_the_mean_and_the_number_are_exact() -> None:
    histogram = Histogram()
    for value in (1.0, 2.0, 6.0):
        histogram.add(value)
    assert (histogram.count, histogram.mean, histogram.largest) == (3, 3.0, 6.0)
    assert histogram.quantile(1.0) == 6.0


def test_a_value_may_count_several_times() -> None:
    histogram = Histogram()
    histogram.add(1.0, 99)
    histogram.add(50.0)
    assert histogram.quantile(0.99) == pytest.approx(1.0, rel=0.011)
    assert histogram.quantile(0.995) == 50.0


def test_without_values_all_is_zero() -> None:
    histogram = Histogram()
    assert (histogram.mean, histogram.quantile(0.5), histogram.largest) == (0.0, 0.0, 0.0)


def test_what_is_beyond_its_range_is_counted_at_the_ends() -> None:
    histogram = Histogram()
    histogram.add(0.0)
    histogram.add(1e12)
    assert histogram.count == 2
    assert histogram.quantile(0.5) <= 1e-4
    assert histogram.quantile(1.0) <= 1e12


def test_merged_histograms_have_all_values() -> None:
    one, other = Histogram(), Histogram()
    one.add(1.0, 3)
    other.add(9.0)
    merged = Histogram.merged([one, other])
    assert (merged.count, merged.total, merged.largest) == (4, 12.0, 9.0)
    assert merged.quantile(0.75) == pytest.approx(1.0, rel=0.011)
    assert len(merged._counts) == BUCKETS
