"""Let atheris (libFuzzer) search for what breaks a parser: `python -m tests.fuzz --seconds 60`.

Each target runs in a process of its own (`search`). It starts from the committed seeds, keeps what
reaches new branches in `tests/.cache/fuzz`, and stops at the first finding, whose octets it leaves
in `tests/.cache/fuzz/findings`. To keep a finding from coming back, commit its octets as a seed.
"""

import argparse
import re
import subprocess
import sys

from tests.fuzz.search import FINDINGS
from tests.fuzz.targets import TARGETS

_DONE = re.compile(r"Done (\d+) runs in (\d+) second")


def main() -> int:
    """Run the targets one after the other; 1 if any has a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--runs", type=int, default=-1, help="at most, for each target")
    args = parser.parse_args()
    if unknown := set(args.targets) - TARGETS.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    failed = [name for name in args.targets or TARGETS if not _run(name, args.seconds, args.runs)]
    if failed:
        _tell(f"findings: {', '.join(failed)}; their octets are in {FINDINGS}")
    return 1 if failed else 0


def _run(name: str, seconds: int, runs: int) -> bool:
    """Search in a process of its own; whether nothing was found."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.search", name, str(seconds), str(runs)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    counted = _DONE.search(done.stderr)
    if done.returncode or counted is None:
        _tell(f"{name:<16} FINDING\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        return False
    _tell(f"{name:<16} {int(counted[1]):>12,} inputs in {counted[2]} s, no finding")
    return True


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
