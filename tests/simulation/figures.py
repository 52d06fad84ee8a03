"""What is measured of a run, and what many seeds make of it.

| figure | is |
|---|---|
| work | done in the experiment's span, of what an ideal server would have done |
| p50, p99 | of clinical mail, from its arrival to the server's 250, in seconds |
| ratio | p99 over the oracle's with the same mail |
| limit | its minimum, mean and maximum in the span |
| drain | seconds until nothing is left once the trouble is over, over the ideal server's |
| refused | of 10,000 attempts: 421, or no connection |
| lost, twice, errors | mail a device forgot; second copies; 4xx that a user saw |
| fair | Jain's index over what the senders of telework, all equal, had delivered when mail ended |
"""

from collections.abc import Iterable, Mapping
from math import inf
from statistics import fmean

from mailshed.simulation.result import Point, Result
from mailshed.simulation.theory import jain
from tests.simulation.experiments import EXPERIMENTS, Cell

Figures = dict[str, float]
"""By name; one that does not apply is not there."""

FAIR = "telework"
NEVER = 99.0
"""The figure of a drain that did not come to its end."""
SETTLED = 5
"""Messages in the spool and waiting: as many are there at any time."""


def figures(cell: Cell, result: Result) -> Figures:
    """What is measured of one run."""
    experiment = EXPERIMENTS[cell.experiment]
    start, end = experiment.span
    clinical = result.of_class("clinical")
    low, mean, high = result.limits(start, end)
    found: Figures = {
        "work": result.work_ratio_between(start, end),
        "p50": clinical.sojourn.quantile(0.5),
        "p99": clinical.sojourn.quantile(0.99),
        "limit_min": low,
        "limit": mean,
        "limit_max": high,
        "refused": 1e4 * result.refused_ratio,
        "lost": sum(part.lost for part in result.classes),
        "twice": sum(part.duplicates for part in result.classes),
        "errors": sum(part.errors for part in result.classes),
        "deferred": sum(part.deferred for part in result.classes),
    }
    senders = [float(count) for count in result.trace.at_close.get(FAIR, {}).values()]
    if senders:
        found["fair"] = jain(senders)
    if experiment.healed is not None:
        found["drain"] = _drain(result, experiment.healed)
    return found


def _drain(result: Result, healed: float) -> float:
    """Seconds until nothing was left, over those of the ideal server; `NEVER` if it never was."""
    after = result.trace.between(healed, inf)
    ours = next((each.time for each in after if each.spooled + each.waiting <= SETTLED), inf)
    ideal = next((each.time for each in after if _is_ideal_done(each)), healed)
    return min(NEVER, (ours - healed) / max(1.0, ideal - healed))


def _is_ideal_done(point: Point) -> bool:
    """Whether the ideal server has no more than what is in service at any time."""
    return point.fluid_backlog <= point.capacity


def summary(runs: Iterable[Figures]) -> dict[str, tuple[float, float, float]]:
    """Mean, least and greatest of each figure over all seeds."""
    rows = list(runs)
    names = dict.fromkeys(name for row in rows for name in row)
    found = {}
    for name in names:
        values = [row[name] for row in rows if name in row]
        found[name] = (fmean(values), min(values), max(values))
    return found


def with_ratios(runs: Mapping[Cell, Figures]) -> None:
    """Add what needs the oracle's run with the same mail."""
    for cell, row in runs.items():
        best = runs.get(
            Cell(experiment=cell.experiment, model=cell.model, controller="oracle", seed=cell.seed)
        )
        if best is not None and best["p99"] > 0:
            row["ratio"] = row["p99"] / best["p99"]
            row["ratio50"] = row["p50"] / best["p50"]
