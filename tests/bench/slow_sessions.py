"""`python -m tests.bench.slow_sessions`: ten thousand slow sessions, and clinical mail meanwhile.

Runs the scenarios of `tests.bench.siege` one after the other and prints a table for each. Exit
status 1: a target was missed. 69: there is no C compiler. Eleven minutes; `--scenario` chooses,
`--seconds` shortens the attack.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from tests.bench.machine import machine
from tests.bench.siege.attackers import PROGRAM
from tests.bench.siege.figures import verdicts
from tests.bench.siege.report import table
from tests.bench.siege.run import Phases, measure
from tests.bench.siege.scenarios import SCENARIOS
from tests.bench.tools import NoCompilerError, build


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.slow_sessions", description=__doc__
    )
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", action="append", choices=names, help="may be repeated")
    parser.add_argument("--seconds", type=float, metavar="N", help="length of the attack")
    parser.add_argument("--before", type=float, metavar="N", default=Phases().before)
    parser.add_argument("--favoured", action="store_true", help="go before other work (root)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return parser.parse_args()


def main() -> int:
    """Measure, print, judge."""
    arguments = _arguments()
    try:
        build(PROGRAM)
        build("smtp_sink")
    except NoCompilerError as error:
        sys.stderr.write(f"{error}\n")
        return 69
    wanted = arguments.scenario or [scenario.name for scenario in SCENARIOS]
    results = []
    for scenario in SCENARIOS:
        if scenario.name not in wanted:
            continue
        chosen = replace(scenario, seconds=arguments.seconds or scenario.seconds)
        with tempfile.TemporaryDirectory(prefix="mailshed-bench-") as folder:
            found = measure(
                chosen,
                Phases(before=arguments.before),
                Path(folder) / scenario.name,
                is_favoured=arguments.favoured,
            )
        results.append(found)
        load = " ".join(f"{value:.1f}" for value in os.getloadavg())
        sys.stdout.write(f"{table(found)}  (load average {load})\n\n")
        sys.stdout.flush()
    if arguments.json is not None:
        tree = {"machine": machine(), "results": [asdict(each) for each in results]}
        arguments.json.write_text(json.dumps(tree, indent=2) + "\n")
    missed = [v for each in results for v in verdicts(each) if not v.is_reached]
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
