"""What was measured: rounds, and what is left of them as figures.

The rate is the median of the rounds, CPU time per message the minimum, because everything that
disturbs it adds. Trees are what JSON holds: they keep the rounds, so that tables and verdicts can
be made again from a file.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One run of one peer."""

    messages: int
    seconds: float
    cpu_seconds: float | None
    """Of the peer; None if nobody knows."""
    p50_seconds: float | None
    """Time from MAIL to the reply to the dot; None if the client does not tell."""
    p99_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All rounds of one peer with one load."""

    peer: str
    rounds: tuple[Round, ...]

    @property
    def rate(self) -> float:
        """Messages a second."""
        return statistics.median(item.messages / item.seconds for item in self.rounds)

    @property
    def cpu_microseconds(self) -> float | None:
        """CPU time of the peer for one message."""
        known = [
            item.cpu_seconds / item.messages for item in self.rounds if item.cpu_seconds is not None
        ]
        return min(known) * 1e6 if known else None

    @property
    def p50_milliseconds(self) -> float | None:
        """Time from MAIL to the reply to the dot: the median of the rounds' medians."""
        return _median_milliseconds([item.p50_seconds for item in self.rounds])

    @property
    def p99_milliseconds(self) -> float | None:
        """The 99th percentile of the same, median of the rounds."""
        return _median_milliseconds([item.p99_seconds for item in self.rounds])


def _median_milliseconds(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) * 1e3 if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One load: results in the order of its peers, and which of them are missing and why."""

    load: str
    results: tuple[Result, ...]
    missing: Mapping[str, str]
    paced_rate: float | None = None
    """Messages a second that were due, if that was not as many as possible."""

    def of(self, peer: str) -> Result | None:
        """The result of a peer, if it was measured."""
        return next((each for each in self.results if each.peer == peer), None)

    def as_tree(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Self:
        """From JSON."""
        results = tuple(
            Result(peer=each["peer"], rounds=tuple(Round(**item) for item in each["rounds"]))
            for each in tree["results"]
        )
        return cls(**{**tree, "results": results})
