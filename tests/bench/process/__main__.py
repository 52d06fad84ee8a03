"""`python -m tests.bench.process`: what one process may use, of memory and of its event loop.

- *idle*: 10,000 sessions, and the delay of other mail beside them, with a daemon that has none in
  turn.
- *tls*: what a TLS session has in memory at rest.
- *large*: messages of 25 MiB, one and many at once, on all ways through the daemon.
- *loop*: the longest turn of the event loop under each load of tests/bench/process/loads.py.

Five minutes; `--part` and `--load` choose, `--stacks` shows what long turns were made of. `--quick`
is a smoke test of the bench itself, its figures mean nothing. As root the bench asks the kernel to
let it go before other work (`tests.bench.siege.favour`). Exit status 1: a target was missed. 69:
there is no C compiler.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.machine import machine
from tests.bench.process import report
from tests.bench.process.blocks import measure_blocks
from tests.bench.process.idle import measure_idle
from tests.bench.process.loads import PASSING, SPOOLING, Size
from tests.bench.process.memory import PATIENCE, measure_large, measure_tls
from tests.bench.process.targets import judge_blocks, judge_idle, judge_large, judge_tls
from tests.bench.targets import Target
from tests.bench.tools import NoCompilerError, build

PARTS = ("idle", "tls", "large", "loop")
LOADS = tuple(load.__name__ for load in (*PASSING, *SPOOLING))


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much of everything."""

    idle_sessions: int = 10_000
    rounds: int = 6
    round_seconds: float = 3.0
    tls_sessions: int = 1_000
    large_counts: tuple[int, ...] = (1, 8, 20)
    large_octets: int = 25 * 1024 * 1024
    patience: float = PATIENCE
    size: Size = field(default_factory=Size)


QUICK = Effort(
    idle_sessions=50,
    rounds=1,
    round_seconds=0.2,
    tls_sessions=5,
    large_counts=(1,),
    large_octets=1024 * 1024,
    patience=0.0,
    size=Size(seconds=0.2, sessions=50, queued=50, scans_queued=1, times=1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Of one part."""

    targets: list[Target]
    tree: Any
    text: str


def measure(
    part: str, folder: Path, effort: Effort, loads: Sequence[str], *, with_stacks: bool
) -> Findings:
    """Measure one part."""
    if part == "idle":
        idle = measure_idle(
            folder, effort.idle_sessions, effort.rounds, effort.round_seconds, effort.patience
        )
        return Findings(targets=list(judge_idle(idle)), tree=asdict(idle), text=report.idle(idle))
    if part == "tls":
        rests = measure_tls(folder, effort.tls_sessions)
        return Findings(
            targets=list(judge_tls(rests)),
            tree=[asdict(each) for each in rests],
            text=report.tls(rests),
        )
    if part == "large":
        large = measure_large(folder, effort.large_counts, effort.large_octets, effort.patience)
        return Findings(
            targets=list(judge_large(large)), tree=asdict(large), text=report.large(large)
        )
    found = measure_blocks(folder, effort.size, loads=loads, with_stacks=with_stacks)
    text = report.blocks(found) + (report.stacks(found) if with_stacks else "")
    return Findings(
        targets=list(judge_blocks(found)), tree=[asdict(each) for each in found], text=text
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, judge."""
    arguments = _parser().parse_args(argv)
    try:
        build("smtp_gen")
        build("smtp_sink")
    except NoCompilerError as error:
        sys.stderr.write(f"{error}\n")
        return 69
    effort = QUICK if arguments.quick else Effort()
    tree: dict[str, Any] = {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
    judged: list[Target] = []
    for part in arguments.part or (("loop",) if arguments.load else PARTS):
        # On a disk: mail data over the spill limit is not to be in memory.
        with tempfile.TemporaryDirectory(prefix="mailshed-process-", dir="/var/tmp") as name:
            found = measure(
                part,
                Path(name) / part,
                effort,
                arguments.load or LOADS,
                with_stacks=arguments.stacks,
            )
        judged += found.targets
        tree[part] = found.tree
        sys.stdout.write(found.text + "\n")
        sys.stdout.flush()
    sys.stdout.write(report.targets(judged))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(tree, indent=1) + "\n")
    return 0 if all(each.is_reached for each in judged) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.process",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated")
    parser.add_argument("--load", action="append", choices=LOADS, help="of loop; may be repeated")
    parser.add_argument("--stacks", action="store_true", help="of long turns; disturbs the figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--quick", action="store_true", help="a smoke test of the bench itself")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
