"""What mailshed has to reach beside the others, judged on what was measured. Pure.

Ratios are mailshed's figure over the peer's, or the peer's over mailshed's where less is better, so
that more is always better; but for the time that mailshed adds. Every target is in the list: one
that nothing was measured for says so.

The targets of rates were set with a client and a sink that did 7,900 messages a second between
them. Ours do more than twice that, which makes who does least faster by more. So the rates are
judged a second time with `smtp-source`, which comes close to those.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.bench.loads import HAPROXY, MAILSHED, NAIVE, POSTFIX, SINK
from tests.bench.results import Measured, Result

_RATES = (
    ("10k-reuse", POSTFIX, 10.0),
    ("10k-reuse", HAPROXY, 0.7),
    ("10k-new", POSTFIX, 3.0),
    ("10k-new", HAPROXY, 0.8),
    ("10k-reuse-source", POSTFIX, 10.0),
    ("10k-reuse-source", HAPROXY, 0.7),
    ("10k-new-source", POSTFIX, 3.0),
    ("10k-new-source", HAPROXY, 0.8),
    ("10k-tls-reuse", POSTFIX, 1.0),
    ("10k-tls-new", POSTFIX, 1.0),
    ("25m-reuse", HAPROXY, 0.5),
    ("10k-away", POSTFIX, 4.0),
)
"""Load, peer, and how many times its rate mailshed has to have."""

_COSTS = (("1k-reuse", NAIVE, 4.0), ("1m-reuse", NAIVE, 12.0))
"""Load, peer, and how many times mailshed's CPU time it has to cost."""

_ADDED_LOAD, _ADDED_MILLISECONDS = "10k-half", 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One target and what was measured."""

    load: str
    name: str
    value: float | None
    """None if it was not measured."""
    limit: float
    at_most: bool = False
    """Whether the limit is the most instead of the least."""

    @property
    def is_reached(self) -> bool | None:
        """Whether the value is on the right side; None if there is none."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def verdict(self) -> str:
        """The same in a word."""
        return {True: "reached", False: "MISSED", None: "not measured"}[self.is_reached]


def judge(measured: Mapping[str, Measured]) -> list[Target]:
    """All targets, from what was measured of each load."""
    return list(_targets(measured))


def _targets(measured: Mapping[str, Measured]) -> Iterator[Target]:
    for load, peer, limit in _RATES:
        ours, theirs = _pair(measured, load, peer)
        value = ours.rate / theirs.rate if ours and theirs else None
        yield Target(load=load, name=f"rate, times that of {peer}", value=value, limit=limit)
    for load, peer, limit in _COSTS:
        ours, theirs = _pair(measured, load, peer)
        value = None
        if ours and theirs and ours.cpu_microseconds and theirs.cpu_microseconds:
            value = theirs.cpu_microseconds / ours.cpu_microseconds
        yield Target(load=load, name=f"CPU time of {peer}, times ours", value=value, limit=limit)
    ours, direct = _pair(measured, _ADDED_LOAD, SINK)
    value = None
    if ours and direct and ours.p99_milliseconds and direct.p99_milliseconds:
        value = ours.p99_milliseconds - direct.p99_milliseconds
    yield Target(
        load=_ADDED_LOAD,
        name="p99 more than direct, ms",
        value=value,
        limit=_ADDED_MILLISECONDS,
        at_most=True,
    )


def _pair(
    measured: Mapping[str, Measured], load: str, peer: str
) -> tuple[Result | None, Result | None]:
    """Our result and the peer's."""
    if load not in measured:
        return None, None
    return measured[load].of(MAILSHED), measured[load].of(peer)
