"""The comparison: `python -m tests.simulation.compare`, by `make simulate`.

    --seeds 20                  the mail of so many seeds; SEEDS=3 make simulate
    --experiments E1,E5         some of them; --models, --controllers likewise
    --list                      what would be run, and nothing else
    --record                    write docs/simulation/, and the tables in docs/shedding.md

All controllers meet the same mail, seed by seed. Runs are spread over the processors; a run is a
function of its seed, so the figures do not depend on how. Without `--record` the tables are
printed, which is how to look at a part.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from mailshed.simulation.controllers.registry import CONTROLLERS
from mailshed.simulation.result import Result
from tests.simulation import report
from tests.simulation.experiments import EXPERIMENTS, KINDS, Cell, matrix
from tests.simulation.figures import Figures, figures, summary, with_ratios

SEEDS = 20
DRAWN = ("mailshed", "oracle", "gradient2", "vegas", "aimd", "fixed-100")


@dataclass(frozen=True, slots=True)
class Done:
    """A run that has ended: its figures, messages, and CPU seconds."""

    cell: Cell
    figures: Figures
    messages: int
    seconds: float


def run(cell: Cell) -> Result:
    """Run one cell of the matrix."""
    scenario = EXPERIMENTS[cell.experiment].scenario(KINDS[cell.model])
    return CONTROLLERS[cell.controller].run(scenario, cell.seed)


def measure(cell: Cell) -> Done:
    """Run one cell of the matrix and measure it."""
    began = time.process_time()
    result = run(cell)
    messages = sum(part.messages for part in result.classes)
    return Done(cell, figures(cell, result), messages, time.process_time() - began)


def measure_all(cells: Sequence[Cell], jobs: int) -> list[Done]:
    """Measure all of them, in order, in `jobs` processes; says on stderr how far it is."""
    done: list[Done] = []
    with ProcessPoolExecutor(jobs) as pool:
        for number, each in enumerate(pool.map(measure, cells), start=1):
            done.append(each)
            cpu = sum(one.seconds for one in done)
            sys.stderr.write(f"\r{number} of {len(cells)} runs, {cpu:.0f} CPU seconds  ")
            sys.stderr.flush()
    sys.stderr.write("\n")
    return done


def document(done: Iterable[Done], command: str) -> report.Document:
    """All figures, over the seeds."""
    runs = list(done)
    by_cell = {each.cell: each.figures for each in runs}
    with_ratios(by_cell)
    cells: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {}
    for name, experiment in EXPERIMENTS.items():
        for model in experiment.models:
            for controller in experiment.controllers:
                rows = [
                    row
                    for cell, row in by_cell.items()
                    if (cell.experiment, cell.model, cell.controller) == (name, model, controller)
                ]
                if rows:
                    found = summary(rows)
                    found["seeds"] = (len(rows),) * 3
                    table = cells.setdefault(f"{name}/{model}", {})
                    table[controller] = {
                        figure: tuple(round(value, 4) for value in values)  # type: ignore[misc]
                        for figure, values in found.items()
                    }
    return {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "command": command,
        "runs": len(runs),
        "messages": sum(each.messages for each in runs),
        "cpu_seconds": round(sum(each.seconds for each in runs)),
        "cells": cells,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.compare")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    for what in ("experiments", "models", "controllers"):
        parser.add_argument(f"--{what}", type=lambda text: text.split(","), default=None)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args(arguments)
    cells = [
        cell
        for cell in matrix(options.seeds)
        if (options.experiments is None or cell.experiment in options.experiments)
        and (options.models is None or cell.model in options.models)
        and (options.controllers is None or cell.controller in options.controllers)
    ]
    if options.list:
        for cell in cells:
            print(cell.experiment, cell.model, cell.controller, cell.seed)  # noqa: T201
        return
    found = document(measure_all(cells, options.jobs), f"make simulate SEEDS={options.seeds}")
    if not options.record:
        print(report.tables(found))  # noqa: T201
        return
    report.save(found)
    report.PAGE.write_text(report.rewrite(report.PAGE.read_text(), found))
    traces = {
        name: run(Cell(experiment="E1", model="servers", controller=name, seed=1)).trace.points
        for name in DRAWN
    }
    report.draw(found, report.RESULTS.parent, traces)


if __name__ == "__main__":
    main()
