"""Run them all, or those that are named: `python -m tests.third_party [nmap] [aiosmtpd] ...`."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.third_party import aiosmtpd_suite
from tests.third_party.tools import CHECKS, site


def main() -> int:
    """Tell what each said; 1 if any found what it must not find."""
    names = (*CHECKS, "aiosmtpd")
    parser = argparse.ArgumentParser(prog="python -m tests.third_party", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    wanted = parser.parse_args().names or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="mailshed-third-party-") as folder:
        good = [_run(name, Path(folder)) for name in wanted]
    return 0 if all(good) else 1


def _run(name: str, folder: Path) -> bool:
    began = time.monotonic()

    def check() -> list[str]:
        if name == "aiosmtpd":
            return aiosmtpd_suite.run()
        with site(folder / name) as running:
            return CHECKS[name](running)

    try:
        lines = check()
    except AssertionError as error:
        _tell(f"{name}: FAILED after {time.monotonic() - began:.0f} s\n{error}")
        return False
    _tell(f"{name}: good, {time.monotonic() - began:.0f} s")
    for line in lines:
        _tell(f"  {line}")
    return True


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
