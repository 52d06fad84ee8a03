"""`python -m tests.bench`: throughput, CPU time and memory against real peers, in one run.

Prints a table; `--json FILE` writes every round besides. `--quick` is a smoke test of the bench
itself, its figures mean nothing. About two minutes.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench import peers
from tests.bench.measure import MODES, Load, Result, measure
from tests.bench.memory import Memory, measure_memory
from tests.bench.tools import NoCompilerError, Sink, build
from tests.support.debian import program

QUICK = Load(rounds=1, seconds=0.2, messages_max=200)

_MODE_TEXT = {
    "reuse": "connections reused",
    "new": "a new connection for each message",
}


def run(load: Load) -> tuple[list[Result], Memory]:
    """Start all peers, measure, stop them."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailshed-bench-")))
        sink = stack.enter_context(Sink(folder))
        mailshed = stack.enter_context(peers.mailshed(folder, sink.port))
        memory = measure_memory(mailshed)
        contenders = [peers.Peer(name="sink", port=sink.port, session=sink.pid)]
        if program("haproxy") is not None:
            contenders.append(stack.enter_context(peers.haproxy(folder, sink.port)))
        if program("postfix") is not None and os.geteuid() == 0:
            contenders.append(stack.enter_context(peers.postfix(sink.port)))
        contenders.append(mailshed)
        return measure(contenders, sink, load), memory


def table(results: Sequence[Result], memory: Memory, load: Load) -> str:
    """The figures for people."""
    lines = [
        (
            f"{load.octets // 1024} KiB messages, {load.connections} lock-step connections, "
            f"{load.rounds} rounds; client and sink share the machine's cores"
        )
    ]
    for mode in MODES:
        rows = [result for result in results if result.mode == mode]
        ours = next(result for result in rows if result.peer == "mailshed")
        lines += [
            "",
            f"{_MODE_TEXT[mode]}:",
            (
                f"  {'peer':<10}{'messages/s':>12}{'CPU us/msg':>12}{'p50 ms':>10}{'p99 ms':>10}"
                f"{'mailshed has':>14}{'and costs':>11}"
            ),
        ]
        lines += [
            f"  {row.peer:<10}{row.rate:>12,.0f}{row.cpu_microseconds:>12,.0f}"
            f"{row.p50_milliseconds:>10.2f}{row.p99_milliseconds:>10.2f}"
            f"{_ratio(ours.rate, row.rate):>14}"
            f"{_ratio(ours.cpu_microseconds, row.cpu_microseconds):>11}"
            for row in rows
        ]
    lines += [
        "",
        (
            f"mailshed's memory: {memory.at_rest / 2**20:.1f} MiB at rest, "
            f"{memory.with_idle / 2**20:.1f} MiB with {memory.idle_connections:,} idle "
            f"connections ({memory.per_connection / 1024:.1f} KiB each)"
        ),
    ]
    return "\n".join(lines) + "\n"


def _ratio(ours: float, theirs: float) -> str:
    """How many times theirs; CPU time is counted in ticks, and a quick run may have none."""
    return f"{ours / theirs:.2f}x" if theirs else "-"


def machine() -> dict[str, Any]:
    """What it ran on."""
    model = ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "unix_time": round(time.time()),
    }


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rounds to FILE")
    parser.add_argument("--quick", action="store_true", help="a smoke test of the bench itself")
    arguments = parser.parse_args()
    try:
        build("smtp_gen")
        build("smtp_sink")
    except NoCompilerError as error:
        sys.stderr.write(f"{error}\n")
        return 69
    load = QUICK if arguments.quick else Load()
    results, memory = run(load)
    sys.stdout.write(table(results, memory, load))
    if arguments.json is not None:
        tree = {
            "machine": machine(),
            "octets": load.octets,
            "connections": load.connections,
            "results": [result.as_tree() for result in results],
            "memory": memory.as_tree(),
        }
        arguments.json.write_text(json.dumps(tree, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
