"""What is left of a run: delays of clinical mail, memory, CPU time, and how attackers fared.

A delay is from a clinical client's first connect to the 250 after its dot. A message belongs to the
stretch in which its client connects.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.siege.attackers import Tally
from tests.bench.siege.scenarios import Scenario
from tests.bench.siege.site import CLINICAL
from tests.bench.siege.watch import Look
from tests.support.ledger import Fate
from tests.support.load import Outcome

P99_RATIO_MAX = 1.5
P99_MORE_MAX = 0.050
MEMORY_MAX = 256 * 2**20
SLOWEST = 12
FLOOD_SECONDS_MAX = 0.100
"""Within which a clinical client has a session, whoever floods: here even its 250."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `start` to `end`, in Unix time."""

    start: float
    end: float

    def holds(self, at: float) -> bool:
        """Whether `at` is in it."""
        return self.start <= at < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Of the clinical messages of one stretch; seconds."""

    messages: int
    failed: int
    """Not taken: refused, or the connection was lost."""
    others: int
    others_failed: int
    """Of the other classes; strangers among them may find the place full."""
    p50: float
    p99: float
    worst: float
    slowest: tuple[tuple[float, float], ...]
    """Of the slowest, when they connected, in seconds of the stretch, and how long they took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All of one scenario."""

    scenario: Scenario
    before: Delays
    attack: Delays
    after: Delays
    at_rest: int
    peak: int
    """Octets of memory in RAM."""
    most_held: int
    """Most sessions at any scrape."""
    lag_before: float
    lag_attack: float
    """The 99th percentile of the event loop's lag: the bound of its bucket; seconds."""
    cpu_before: float
    cpu_attack: float
    """Share of one core."""
    stressed: int
    """Scrapes at which there was stress."""
    tallies: Mapping[str, Tally]


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank, of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def delays(outcomes: Iterable[Outcome], stretch: Stretch) -> Delays:
    """What clients felt who connected in this stretch."""
    inside = [each for each in outcomes if stretch.holds(each.started)]
    clinical = [each for each in inside if each.message.traffic_class == CLINICAL]
    others = [each for each in inside if each.message.traffic_class != CLINICAL]
    taken = [each.ended - each.started for each in clinical if each.fate is Fate.ACKNOWLEDGED]
    assert taken, "no clinical message was taken"
    return Delays(
        messages=len(clinical),
        failed=len(clinical) - len(taken),
        others=len(others),
        others_failed=sum(each.fate is not Fate.ACKNOWLEDGED for each in others),
        p50=percentile(taken, 0.5),
        p99=percentile(taken, 0.99),
        worst=max(taken),
        slowest=tuple(
            (each.started - stretch.start, each.ended - each.started)
            for each in sorted(clinical, key=lambda each: each.started - each.ended)[:SLOWEST]
        ),
    )


def figures(
    scenario: Scenario,
    outcomes: Sequence[Outcome],
    looks: Sequence[Look],
    *,
    before: Stretch,
    attack: Stretch,
    after: Stretch,
    tallies: Mapping[str, Tally],
    at_rest: int,
    peak: int,
) -> Figures:
    """Put them together."""
    under_attack = [look for look in looks if attack.holds(look.at)]
    unattacked = [look for look in looks if before.holds(look.at)]
    return Figures(
        scenario=scenario,
        before=delays(outcomes, before),
        attack=delays(outcomes, attack),
        after=delays(outcomes, after),
        at_rest=at_rest,
        peak=peak,
        most_held=int(max((look.sessions or 0 for look in under_attack), default=0)),
        lag_before=_lag(unattacked),
        lag_attack=_lag(under_attack),
        cpu_before=_cpu(unattacked),
        cpu_attack=_cpu(under_attack),
        stressed=sum(bool(look.is_stressed) for look in under_attack),
        tallies=tallies,
    )


def _cpu(looks: Sequence[Look]) -> float:
    if len(looks) < 2:
        return 0.0
    return (looks[-1].cpu - looks[0].cpu) / (looks[-1].at - looks[0].at)


def _lag(looks: Sequence[Look], share: float = 0.99) -> float:
    """What the loop was late by at most, of this share of all times between first and last."""
    scrapes = [look.lags for look in looks if look.lags]
    if len(scrapes) < 2:
        return 0.0
    counts = [
        (most, last - first)
        for (most, first), (_, last) in zip(scrapes[0], scrapes[-1], strict=True)
    ]
    return next((most for most, times in counts if times >= share * counts[-1][1]), 0.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target of one scenario."""

    text: str
    found: str
    is_reached: bool


def verdicts(of: Figures) -> list[Verdict]:
    """Judge."""
    found = [
        Verdict(
            "clinical mail refused or lost: 0",
            f"{of.attack.failed} of {of.attack.messages}",
            of.attack.failed == 0,
        )
    ]
    more = of.attack.p99 - of.before.p99
    if of.scenario.is_proof:
        ratio = of.attack.p99 / of.before.p99
        found += [
            Verdict(f"clinical p99 <= {P99_RATIO_MAX} x", f"{ratio:.2f} x", ratio <= P99_RATIO_MAX),
            Verdict(
                f"clinical p99 <= +{P99_MORE_MAX * 1e3:.0f} ms",
                f"{more * 1e3:+.1f} ms",
                more <= P99_MORE_MAX,
            ),
            Verdict(
                f"memory <= {MEMORY_MAX >> 20} MiB",
                f"{of.peak / 2**20:.0f} MiB",
                of.peak <= MEMORY_MAX,
            ),
        ]
    else:
        worst = of.attack.worst
        found.append(
            Verdict(
                f"a clinical client has its 250 within {FLOOD_SECONDS_MAX * 1e3:.0f} ms",
                f"p99 {of.attack.p99 * 1e3:.1f}, worst {worst * 1e3:.1f} ms",
                worst <= FLOOD_SECONDS_MAX,
            )
        )
    return found
