"""The catalogue is the one list of metrics, and the page for people is made from it."""

from mailshed.metrics.catalog import FAMILIES, SECTIONS, reference
from mailshed.metrics.family import SECONDS_BUCKETS, Kind


def test_a_name_is_declared_once() -> None:
    assert sum(map(len, SECTIONS.values())) == len(FAMILIES)


def test_only_histograms_have_buckets_and_those_rise() -> None:
    for family in FAMILIES.values():
        assert bool(family.buckets) is (family.kind is Kind.HISTOGRAM)
        assert list(family.buckets) == sorted(set(family.buckets))


def test_the_objectives_of_the_shipped_classes_are_bucket_edges() -> None:
    """Otherwise the share that met its objective cannot be read off the histogram."""
    edges = {*SECONDS_BUCKETS, *FAMILIES["queue_wait_seconds"].buckets}
    assert {10.0, 120.0, 300.0, 900.0, 14400.0} <= edges


def test_the_reference_has_every_metric_with_its_reading() -> None:
    page = reference()
    for family in FAMILIES.values():
        assert f"### `{family.full_name}`\n" in page
        assert family.reading in page
    assert page.endswith("\n")
