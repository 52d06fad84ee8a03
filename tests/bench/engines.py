"""What our engine gains over the libraries' own classes: processor time of the daemon per message.

Four daemons, with either engine in front and behind, take turns with the same load and the same
sink, and the least of several rounds counts: on a busy machine rates tell nothing, and processor
time little more than that. So the difference of two rows is what all overrides of one library gain
together. ::

    python -m tests.bench.engines            measure, and print a table
    python -m tests.bench.engines own stock serve --config FILE     run one of the four

The second form is what the first one starts.
"""

import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from mailshed import app
from mailshed.cli.main import main
from mailshed.engine import OWN, STOCK
from tests.bench.tools import Mode, Sink, build, generate
from tests.support.daemon import Daemon
from tests.support.processes import cpu_seconds

ENGINES = {"own": OWN, "stock": STOCK}
ROUNDS = 6
CONNECTIONS = 20

LOADS: Mapping[str, tuple[Mode, int, int]] = {
    "1 KiB, connections reused": ("reuse", 1024, 400),
    "1 KiB, a new connection each": ("new", 1024, 200),
    "10 KiB, connections reused": ("reuse", 10 * 1024, 300),
    "1 MiB, connections reused": ("reuse", 1024 * 1024, 20),
}
"""Mode, octets of a message, and messages in a round."""


def measure() -> dict[str, dict[str, float]]:
    """Microseconds per message, by the engines (`front behind`) and by load."""
    build("smtp_gen")
    build("smtp_sink")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sink = stack.enter_context(Sink(folder))
        daemons = {
            f"{front} {back}": stack.enter_context(_daemon(folder, sink.port, front, back))
            for front in ENGINES
            for back in ENGINES
        }
        figures: dict[str, dict[str, float]] = {name: {} for name in daemons}
        for load, (mode, octets, messages) in LOADS.items():
            for turn in range(ROUNDS + 1):
                for name, daemon in daemons.items():
                    spent = _round(daemon, mode, octets, messages) / messages * 1e6
                    if turn:  # the first one warms up
                        figures[name][load] = min(figures[name].get(load, spent), spent)
    return figures


def _daemon(folder: Path, sink: int, front: str, back: str) -> Daemon:
    # A fixed limit, since an adaptive one would send as fast as this machine happens to be.
    backend = {
        "name": "sink",
        "host": "127.0.0.1",
        "port": sink,
        "in_flight_max": 400,
        "limit": "fixed",
        "tls": "none",
    }
    return Daemon(
        folder=folder / f"{front}-{back}",
        backend_port=sink,
        overrides={"backends": [backend]},
        program=("tests.bench.engines", front, back),
    )


def _round(daemon: Daemon, mode: Mode, octets: int, messages: int) -> float:
    """Seconds of the daemon's processor time."""
    before = cpu_seconds(daemon.pid)
    generate(daemon.port, connections=CONNECTIONS, messages=messages, octets=octets, mode=mode)
    return cpu_seconds(daemon.pid) - before


def table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """The figures as a table of Markdown."""
    lines = [f"| in front | behind | {' | '.join(LOADS)} |", "|---|---|" + "--:|" * len(LOADS)]
    for name, by_load in figures.items():
        shown = " | ".join(f"{by_load[load]:,.0f}" for load in LOADS)
        lines.append(f"| {name.replace(' ', ' | ')} | {shown} |")
    return "\n".join(lines)


def _serve(front: str, back: str, arguments: list[str]) -> int:
    mixed = replace(ENGINES[front], build_backend=ENGINES[back].build_backend)
    with patch.object(app, "choose", lambda _name, _config: mixed):
        return main(arguments)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(_serve(sys.argv[1], sys.argv[2], sys.argv[3:]))
    sys.stdout.write(table(measure()) + "\n")
