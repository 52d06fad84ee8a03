"""`python -m tests.bench`: throughput, CPU time and latency beside real peers, in one run.

Prints a table for each load (tests/bench/loads.py) and what the figures say of the targets
(tests/bench/targets.py). Takes a quarter of an hour; `--load` and `--peer` choose. `--record`
writes the figures, tables and plots of docs/performance.md, `--json FILE` every round. `--quick` is
a smoke test of the bench itself, its figures mean nothing.

Exit status 1: a load could not be measured. 69: something that is needed is not installed. A target
that is missed is printed, and no failure.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bench import plots, record, report
from tests.bench.loads import LOADS, PEERS, load
from tests.bench.machine import machine
from tests.bench.measure import QUICK, Effort, measure
from tests.bench.record import Record
from tests.bench.results import Measured
from tests.bench.targets import judge
from tests.bench.tools import NoCompilerError, build
from tests.support.debian import require


def run(
    loads: Sequence[str], peers: Sequence[str], effort: Effort
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Measure the loads one after the other and print each; and what went wrong, by load."""
    found: dict[str, Measured] = {}
    failures: dict[str, str] = {}
    for name in loads:
        try:
            found[name] = measure(load(name), peers, effort)
        except AssertionError as failure:
            failures[name] = str(failure)
            sys.stdout.write(f"{name} FAILED: {failure}\n\n")
        else:
            sys.stdout.write(report.text(load(name), found[name]) + "\n")
        sys.stdout.flush()
    return found, failures


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    arguments = _parser().parse_args(argv)
    try:
        for program in ("smtp_gen", "smtp_sink"):
            build(program)
        require("openssl")
        if arguments.record:
            plots.library()
    except (NoCompilerError, plots.NoLibraryError, pytest.skip.Exception) as error:
        sys.stderr.write(f"{error}\n")
        return 69
    effort = (
        QUICK if arguments.quick else Effort(rounds=arguments.rounds, seconds=arguments.seconds)
    )
    before = machine()
    names = [each.name for each in LOADS if each.name in (arguments.load or _names())]
    found, failures = run(names, arguments.peer or PEERS, effort)
    sys.stdout.write(report.targets_text(judge(found)))
    made = Record(
        command=" ".join(("python -m tests.bench", *(sys.argv[1:] if argv is None else argv))),
        machine=before,
        effort=f"{effort.rounds} rounds of {effort.seconds:g} s for each peer and load",
        dates=dict.fromkeys(found, time.strftime("%Y-%m-%d")),
        loads=found,
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(made.as_tree(), indent=1) + "\n")
    if arguments.record:
        older = record.load()
        made = made if older is None else made.over(older)
        record.save(made)
        plots.draw(made.loads, record.FOLDER)
    return 1 if failures else 0


def _names() -> list[str]:
    return [each.name for each in LOADS]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--load", action="append", choices=_names(), help="only this one; may be repeated"
    )
    parser.add_argument(
        "--peer", action="append", choices=PEERS, help="only this one; may be repeated"
    )
    parser.add_argument("--rounds", type=int, default=Effort().rounds, metavar="N")
    parser.add_argument(
        "--seconds", type=float, default=Effort().seconds, metavar="S", help="of a round"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rounds to FILE")
    parser.add_argument("--record", action="store_true", help="rewrite docs/performance.md")
    parser.add_argument("--quick", action="store_true", help="a smoke test of the bench itself")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
