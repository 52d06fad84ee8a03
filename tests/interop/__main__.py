"""Fill both tables, or the rows that are named: `python -m tests.interop [Exim] [curl] ...`.

docs/interoperability.md is written if all rows were filled and all is as it has to be. Exits with 1
if anything is not, and says what.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop import behind
from tests.interop.backends import BACKENDS
from tests.interop.cells import Cell, Outcome
from tests.interop.clients import CLIENTS
from tests.interop.exemptions import complaint
from tests.interop.front import front
from tests.interop.report import PAGE, Run, page
from tests.support.debian import MAIL_PROGRAMS, install, program


def main() -> int:
    """Run, tell, and write the page."""
    rows = [*(client.name for client in CLIENTS), *BACKENDS]
    parser = argparse.ArgumentParser(prog="python -m tests.interop", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(rows))
    wanted: Sequence[str] = parser.parse_args().rows or rows
    if unknown := set(wanted) - set(rows):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    try:
        _prepare()
        run = _run(wanted)
    except (pytest.fail.Exception, pytest.skip.Exception) as error:  # what `require` raises
        _tell(str(error))
        return 1
    for line in run.complaints:
        _tell(f"NOT AS IT HAS TO BE: {line}")
    if run.complaints:
        return 1
    if set(wanted) == set(rows):
        PAGE.write_text(page(run))
        _tell(f"written: {PAGE}")
    return 0


def _prepare() -> None:
    missing = [package for package, name in MAIL_PROGRAMS.items() if program(name) is None]
    if missing and (failure := install(missing)):
        raise SystemExit(failure)


def _run(wanted: Sequence[str]) -> Run:
    wall, began = time.time(), time.monotonic()
    outcomes: dict[Cell, Outcome] = {}
    versions: dict[str, str] = {}
    chosen = [client for client in CLIENTS if client.name in wanted]
    if chosen:
        with _folder() as folder, front(folder) as tried:
            for client in chosen:
                versions[client.name] = client.version()
                _note(client.name, outcomes, tried.fill(client))
    for name in BACKENDS:
        if name in wanted:
            with _folder() as folder:
                found, versions[name] = behind.fill(name, folder)
            _note(name, outcomes, found)
    seconds = time.monotonic() - began
    return Run(outcomes=outcomes, versions=versions, seconds=seconds, wall=wall)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that servers under other users may enter."""
    with tempfile.TemporaryDirectory(prefix="mailshed-interop-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _note(name: str, outcomes: dict[Cell, Outcome], found: Mapping[Cell, Outcome]) -> None:
    outcomes.update(found)
    bad = sum(complaint(cell, outcome) is not None for cell, outcome in found.items())
    _tell(f"{name}: {len(found)} messages, {bad} not as they have to be")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
