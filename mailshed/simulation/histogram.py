"""Durations, counted in buckets that are one per cent wide: quantiles in bounded memory.

From a tenth of a millisecond to eleven days, in `BUCKETS` numbers. A quantile is the upper edge of
its bucket, so it is at most one per cent too large, and never more than the largest value, which is
kept as it was. Sums of several histograms are exact.
"""

from collections.abc import Iterable
from math import ceil, log

SMALLEST = 1e-4
GROWTH = 1.01
BUCKETS = 2320
_SCALE = 1.0 / log(GROWTH)
_SHIFT = -log(SMALLEST) * _SCALE + 1.0


class Histogram:
    """Durations in seconds."""

    __slots__ = ("_counts", "count", "largest", "total")

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self.count = 0
        self.total = 0.0
        self.largest = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration, perhaps several times."""
        bucket = int(log(seconds) * _SCALE + _SHIFT) if seconds > SMALLEST else 0
        self._counts[bucket if bucket < BUCKETS else BUCKETS - 1] += times
        self.count += times
        self.total += seconds * times
        self.largest = max(self.largest, seconds)

    @property
    def mean(self) -> float:
        """The mean; 0 without values."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """The value that `share` of all (0..1) do not exceed; 0 without values."""
        wanted = max(1, ceil(share * self.count))
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(self.largest, SMALLEST * GROWTH**bucket)
        return self.largest

    @classmethod
    def merged(cls, parts: "Iterable[Histogram]") -> "Histogram":
        """All values of all of them."""
        merged = cls()
        for part in parts:
            merged._counts = [a + b for a, b in zip(merged._counts, part._counts, strict=True)]  # noqa: SLF001 - its own kind
            merged.count += part.count
            merged.total += part.total
            merged.largest = max(merged.largest, part.largest)
        return merged
