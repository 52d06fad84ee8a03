"""`python -m tests.bench.profile`: what mailshed's CPU time is made of, load by load.

perf(1) samples the daemon's threads while a load is sent (`perf record -e cpu-clock`, which needs
neither counters of the processor nor symbols), and each sample counts for the library in which it
was taken: the kernel, the interpreter, TLS, SQLite, the event loop. What is Python's own is not
divided further here: it is spread over some five hundred calls a message, which py-spy(1) shows.

The shares are of CPU time; beside them stands the CPU time of a message from the same seconds.
Prints a table in the form of docs/performance.md. About a minute; needs root and linux-perf.
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.loads import MAILSHED, Load, load
from tests.bench.measure import place_of
from tests.bench.peers import start
from tests.bench.tools import NoCompilerError, Sink, build, generate
from tests.support.debian import program
from tests.support.processes import free_port

LOADS = (
    *("1k-reuse", "10k-reuse", "10k-new", "10k-pipelined", "1m-reuse", "25m-reuse"),
    *("10k-tls-reuse", "10k-tls-new", "10k-away", "1m-away"),
)

PARTS: Mapping[str, str] = {
    "kernel": r"\[kernel|\[vdso\]|\[unknown\]",
    "TLS": r"libssl|libcrypto|_ssl\.",
    "SQLite": r"libsqlite3|_sqlite3\.",
    "uvloop": r"^loop\.|_asyncio\.",
    "libc": r"^libc\.|^libm\.|^ld-linux",
    "Python": r"",
}
"""Name of a part, and the names of shared objects that are it; the first that fits counts."""


def part_of(shared_object: str) -> str:
    """The part that a sample in this shared object counts for."""
    return next(name for name, pattern in PARTS.items() if re.search(pattern, shared_object))


def shares(report: str) -> dict[str, float]:
    """Read `perf report --sort dso`: the share of each part, which add up to 1."""
    found = dict.fromkeys(PARTS, 0.0)
    for line in report.splitlines():
        match = re.match(r"\s+([0-9.]+)%\s+(\S+)", line)
        if match:
            found[part_of(match[2])] += float(match[1])
    total = sum(found.values())
    assert total, f"no samples: {report}"
    return {name: share / total for name, share in found.items()}


def measure(wanted: Load, seconds: float) -> tuple[float, dict[str, float]]:
    """CPU microseconds of a message under this load, and what they are made of."""
    perf = program("perf")
    assert perf is not None, "needs perf: apt-get install linux-perf"
    with tempfile.TemporaryDirectory(prefix="mailshed-profile-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Sink(folder) as sink:
            port = sink.port if wanted.backend == "sink" else free_port()
            with start(MAILSHED, place_of(folder, port)) as peer:
                _send(peer.port_for(wanted.tls), wanted, 0.5)
                data = folder / "perf.data"
                words = ("record", "-e", "cpu-clock", "-F", "997", "-p", str(peer.session))
                with subprocess.Popen(
                    [perf, *words, "-o", data], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                ) as recorder:
                    before = peer.cpu_seconds()
                    messages = _send(peer.port_for(wanted.tls), wanted, seconds)
                    used = peer.cpu_seconds() - before
                    recorder.send_signal(signal.SIGINT)
                    recorder.wait()
                done = subprocess.run(
                    [perf, "report", "-i", data, "--sort", "dso", "--stdio"],
                    capture_output=True,
                    text=True,
                    check=True,
                )
    return used / messages * 1e6, shares(done.stdout)


def _send(port: int, wanted: Load, seconds: float) -> int:
    run = generate(
        port,
        connections=wanted.connections,
        octets=wanted.octets,
        mode=wanted.mode,
        seconds=seconds,
        is_pipelined=wanted.is_pipelined,
        tls=wanted.tls,
    )
    return run.messages


def row(wanted: Load, microseconds: float, found: Mapping[str, float]) -> str:
    """One row of the table."""
    cells = " | ".join(f"{found[name]:.0%}" for name in PARTS)
    return f"| {wanted.name} | {microseconds:,.0f} | {cells} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("--load", action="append", choices=LOADS, help="only this one; repeatable")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load (3)")
    chosen = parser.parse_args(arguments)
    try:
        build("smtp_gen")
        build("smtp_sink")
    except NoCompilerError as error:
        sys.stderr.write(f"{error}\n")
        return 69
    sys.stdout.write(f"| load | CPU us/msg | {' | '.join(PARTS)} |\n|{'---|' * (len(PARTS) + 2)}\n")
    for name in chosen.load or LOADS:
        wanted = load(name)
        sys.stdout.write(row(wanted, *measure(wanted, chosen.seconds)) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
