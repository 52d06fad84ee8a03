"""Counters and histograms that cost an addition: where numbers are kept until somebody scrapes.

The library's own counters take a lock and check their labels, 1 to 2 microseconds each, a quarter
of the whole budget of a message. Here a number is a cell in a dictionary by its label values, and
becomes one of the library's families when it is read. Who counts the same labels for every message
looks the cell up once, and keeps it: then counting is a list's item and an addition.

What makes this safe is that each metric is written by one thread and read through copies
(`_items`).
"""

from bisect import bisect_left
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from mailshed.metrics.catalog import FAMILIES
from mailshed.metrics.family import Kind

Labels = tuple[str, ...]
T = TypeVar("T")


def _items(values: dict[Labels, T]) -> list[tuple[Labels, T]]:
    """What a dictionary holds that another thread is adding to.

    Even this one call is not one step: making a tuple may run the garbage collector, and that may
    let the other thread add a key. Keys are few and soon all there, so trying again ends.
    """
    while True:
        try:
            return list(values.items())
        except RuntimeError:
            continue


class Counter:
    """One counter: per label values a cell, which is a list of one number."""

    def __init__(self, name: str) -> None:
        self._family = FAMILIES[name]
        assert self._family.kind is Kind.COUNTER
        self._cells: dict[Labels, list[int]] = {}

    def cell(self, *labels: str) -> list[int]:
        """The cell of these labels, made if need be: `cell[0] += 1`."""
        return self._cells.setdefault(labels, [0])

    def add(self, labels: Labels, count: int = 1) -> None:
        """Count something with these labels."""
        cell = self._cells.get(labels) or self.cell(*labels)
        cell[0] += count

    def value(self, *labels: str) -> int:
        """What was counted with these labels so far."""
        cell = self._cells.get(labels)
        return cell[0] if cell is not None else 0

    def export(self) -> Metric:
        """The library's family, as of now; may be called in any thread."""
        family = self._family
        made = CounterMetricFamily(family.full_name, family.help, labels=family.labels)
        for labels, cell in _items(self._cells):
            made.add_metric(labels, cell[0])
        return made


class Histogram:
    """One histogram: per label values a row of counts, one a bucket (+Inf last), and the sum."""

    def __init__(self, name: str) -> None:
        self._family = FAMILIES[name]
        assert self._family.kind is Kind.HISTOGRAM
        self._bounds = self._family.buckets
        self._edges = [*map(floatToGoString, self._bounds), "+Inf"]
        self._rows: dict[Labels, list[float]] = {}

    def declare(self, *labels: str) -> list[float]:
        """The row of these labels, made if need be."""
        return self._rows.setdefault(labels, [0.0] * (len(self._edges) + 1))

    def observe(self, labels: Labels, value: float) -> None:
        """Take a value with these labels."""
        self.note(self._rows.get(labels) or self.declare(*labels), value)

    def note(self, row: list[float], value: float) -> None:
        """Take a value in a row that was looked up before."""
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value

    def export(self) -> Metric:
        """The library's family, as of now; may be called in any thread."""
        family = self._family
        made = HistogramMetricFamily(family.full_name, family.help, labels=family.labels)
        for labels, row in _items(self._rows):
            *counts, total = row.copy()
            running = 0.0
            buckets: list[tuple[str, float]] = []
            for edge, count in zip(self._edges, counts, strict=True):
                running += count
                buckets.append((edge, running))
            made.add_metric(labels, buckets, total)
        return made
