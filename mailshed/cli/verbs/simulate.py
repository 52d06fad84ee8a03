"""`mailshed simulate`: try a policy on mail that was never sent, against a mail server's model."""

import argparse
from pathlib import Path
from typing import Any

from mailshed.cli.exit_codes import ExitCode


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add `simulate`."""
    parser = subparsers.add_parser(
        "simulate",
        help="try a policy on a virtual clock",
        description="Run a scenario: mail as it might come, in front of a mail server as it might "
        "be, by the rules of a configuration. Prints what became of each class. The same scenario "
        "and seed give the same result. Examples are under config/scenarios/.",
    )
    parser.add_argument("scenario", metavar="SCENARIO", type=Path, help="a file of YAML")
    parser.add_argument(
        "--seed", metavar="N", type=int, default=1, help="of the random numbers (1)"
    )
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw it: .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=_simulate)


def _simulate(args: argparse.Namespace) -> int:
    from mailshed.cli.simulation import plot, report
    from mailshed.cli.simulation.progress import Progress
    from mailshed.config.scenario import load_scenario
    from mailshed.simulation.build import limit_of, scenario_of
    from mailshed.simulation.engine import run

    file, config = load_scenario(args.scenario)
    if args.plot is not None:
        plot.check(args.plot)
    scenario = scenario_of(file, config)
    progress = Progress()
    try:
        result = run(scenario, args.seed, limit=limit_of(file, config), progress=progress)
    finally:
        progress.close()
    if args.json:
        print(result.to_json(), end="")
    else:
        print("\n".join(report.lines(result)))
    if args.plot is not None:
        plot.draw(result, args.plot)
    return ExitCode.OK
