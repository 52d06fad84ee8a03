"""`python -m tests.bench.overload`: mailshed, Postfix and Haraka with three times too much mail.

Before each of two mail servers of known capacity (see `backends`) all peers (see `peers`) get the
same messages at the same times (see `plan`), one peer after the other. Printed are the figures per
class beside the bounds of theory, the targets, and the simulator's figures for the same.

Exit status 1: a target was missed. 69: something that is needed is not installed. A quarter of an
hour; `--quick` takes two minutes and says nothing about percentiles.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.haraka import fetch
from tests.bench.machine import machine
from tests.bench.overload import report, simulated
from tests.bench.overload.backends import Kind, postfix, programmable
from tests.bench.overload.figures import Figures
from tests.bench.overload.peers import ADAPTIVE, HARAKA, PEERS, has_adaptive
from tests.bench.overload.plan import Plan
from tests.bench.overload.run import measure
from tests.bench.overload.simulated import Gap
from tests.bench.overload.targets import Target, judge
from tests.bench.tools import NoCompilerError, build
from tests.support.npm import NoPackageError

# A run takes a little more than three times the load, since the rest has to drain.
LOAD_SECONDS = {"programmable": 22.0, "postfix": 10.0}
QUICK_SECONDS = {"programmable": 3.0}
BACKENDS = {"programmable": programmable, "postfix": postfix}


def available(wanted: Sequence[str]) -> list[str]:
    """The peers that can be had, of those that are wanted."""
    found = list(wanted)
    if ADAPTIVE in found and not has_adaptive():
        found.remove(ADAPTIVE)
    if HARAKA in found:
        try:
            fetch()
        except NoPackageError as error:
            sys.stderr.write(f"without Haraka: {error}\n")
            found.remove(HARAKA)
    return found


def run(kind: Kind, plan: Plan, peers: Sequence[str]) -> list[Figures]:
    """Measure all peers before one kind of mail server."""
    results = []
    with tempfile.TemporaryDirectory(prefix="mailshed-bench-") as folder:
        for peer in peers:
            started = time.monotonic()
            results.append(measure(kind, peer, plan, Path(folder) / peer))
            seconds = time.monotonic() - started
            sys.stderr.write(f"{kind.name}, {peer}: {seconds:.0f} s\n")
    return results


def as_tree(
    results: Sequence[Figures], plans: dict[str, Plan], found: Sequence[Target], gaps: Sequence[Gap]
) -> dict[str, Any]:
    """For JSON."""
    return {
        "machine": machine(),
        "plans": {name: asdict(plan) for name, plan in plans.items()},
        "results": [asdict(each) for each in results],
        "targets": [asdict(each) | {"is_reached": each.is_reached} for each in found],
        "simulated": [asdict(each) | {"gap": each.share} for each in gaps],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.overload", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--quick", action="store_true", help="two minutes, for development")
    parser.add_argument("--seconds", type=float, metavar="N", help="length of the load")
    parser.add_argument("--seed", type=int, default=Plan(seconds=1).seed, metavar="N")
    parser.add_argument(
        "--backend", action="append", choices=BACKENDS, help="only this one; may be repeated"
    )
    parser.add_argument(
        "--peer", action="append", choices=PEERS, help="only this one; may be repeated"
    )
    return parser.parse_args()


def main() -> int:
    """Measure, print, judge."""
    arguments = _arguments()
    try:
        build("smtp_server")
    except NoCompilerError as error:
        sys.stderr.write(f"{error}\n")
        return 69
    lengths = QUICK_SECONDS if arguments.quick else LOAD_SECONDS
    peers = available(arguments.peer or list(PEERS))
    results: list[Figures] = []
    plans: dict[str, Plan] = {}
    gaps: list[Gap] = []
    for name in arguments.backend or lengths:
        seconds = arguments.seconds or lengths.get(name, min(lengths.values()))
        plan = plans[name] = Plan(seconds=seconds, seed=arguments.seed)
        kind = BACKENDS[name]()
        found = run(kind, plan, peers)
        sys.stdout.write(report.table(kind, plan, found) + "\n")
        sys.stdout.flush()
        results += found
        gaps += simulated.compare(kind, plan, found)
    targets = judge(results)
    sys.stdout.write(report.targets(targets))
    if gaps:
        sys.stdout.write("\n" + report.gaps(gaps))
    if arguments.json is not None:
        tree = as_tree(results, plans, targets, gaps)
        arguments.json.write_text(json.dumps(tree, indent=2) + "\n")
    return 0 if all(each.is_reached for each in targets) else 1


if __name__ == "__main__":
    raise SystemExit(main())
