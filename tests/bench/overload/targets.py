"""What mailshed has to reach, judged on the figures of a run, one line each.

A target that nothing was measured for (Postfix was left out, say) is not in the list.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench.overload.figures import Figures
from tests.bench.overload.peers import ADAPTIVE, FIXED, POSTFIX
from tests.bench.overload.plan import FULL, HALF, TOP

BOUND_FACTOR = 1.25
POSTFIX_FACTOR = 20.0
GOODPUT = 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One target and what was measured; `at_most` says which side of `limit` is reached."""

    backend: str
    peer: str
    name: str
    value: float
    limit: float
    at_most: bool = True

    @property
    def is_reached(self) -> bool:
        """Whether the value is on the right side; nan never is."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def judge(results: Sequence[Figures]) -> list[Target]:
    """All targets of all runs of mailshed."""
    relays = {each.backend: each for each in results if each.peer == POSTFIX}
    found: list[Target] = []
    for each in results:
        if each.peer in (FIXED, ADAPTIVE):
            found += _of_one(each, relays.get(each.backend))
    return found


def _of_one(figures: Figures, relay: Figures | None) -> Iterator[Target]:
    def target(name: str, value: float, limit: float, *, at_most: bool = True) -> Target:
        return Target(
            backend=figures.backend,
            peer=figures.peer,
            name=name,
            value=value,
            limit=limit,
            at_most=at_most,
        )

    bounds = figures.bounds
    for stretch in (FULL, HALF):
        yield target(
            f"{TOP} p99 at {stretch} capacity, s",
            figures.top.by_stretch[stretch].p99,
            BOUND_FACTOR * bounds.top_p99[stretch],
        )
    if relay is not None:
        yield target(
            f"{TOP} p99 below Postfix's, times",
            relay.top.delays.p99 / figures.top.delays.p99,
            POSTFIX_FACTOR,
            at_most=False,
        )
    yield target("lost", figures.total("lost") + figures.total("waiting"), 0)
    yield target("errors seen by clients", figures.total("errors"), 0)
    yield target("goodput over capacity", figures.goodput, GOODPUT, at_most=False)
    yield target("drain, s", figures.drain, BOUND_FACTOR * bounds.drain)
