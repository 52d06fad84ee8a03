"""Packages of npm, in one version each, for programs of others that tests run.

A package is fetched once into tests/.cache, with dependencies no newer than a date, so that two
people test the same.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.debian import program

CACHE = Path(__file__).parents[1] / ".cache"

_FETCH_SECONDS = 300.0


class NoPackageError(Exception):
    """It cannot be had; the text says why."""


def npm_package(name: str, version: str, *, before: str) -> Path:
    """The `node_modules` folder with the package, fetched if need be; raises NoPackageError.

    `before` is the date (2026-03-01) after which nothing that it needs may have been published.
    """
    folder = CACHE / f"{name.lower()}-{version}"
    if folder.exists():
        return folder / "node_modules"
    npm = program("npm")
    if npm is None or program("node") is None:
        raise NoPackageError("npm is missing: apt-get install npm")
    CACHE.mkdir(exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=CACHE))
    command: list[str | Path] = [
        *(npm, "install", "--prefix", temporary, f"--before={before}", "--silent"),
        *("--no-audit", "--no-fund", "--omit=optional", "--ignore-scripts"),
        f"{name}@{version}",
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_FETCH_SECONDS)
    except subprocess.SubprocessError as error:
        shutil.rmtree(temporary)
        raise NoPackageError(f"{name} cannot be fetched with npm: {error}") from error
    temporary.rename(folder)
    return folder / "node_modules"
