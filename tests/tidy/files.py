"""The files that people read and write: what the checks on the project itself look at."""

from collections.abc import Iterator
from pathlib import Path

from tests.tidy.project import ROOT

FOLDERS = ("mailshed", "tests", "docs", "config", "systemd", ".ci")
SUFFIXES = frozenset(
    {
        ".py",
        ".md",
        ".toml",
        ".yaml",
        ".yml",
        ".c",
        ".sh",
        ".service",
        ".txt",
        ".html",
        ".js",
        ".css",
    }
)
NAMES = frozenset({"Makefile", "run"})


def written_files() -> Iterator[Path]:
    """Every file of ours that is text, in a fixed order; nothing that a tool has put there."""
    for path in sorted(_candidates()):
        is_text = path.suffix in SUFFIXES or path.name in NAMES
        if is_text and path.is_file():
            yield path


def _candidates() -> Iterator[Path]:
    yield from ROOT.iterdir()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            inner = path.relative_to(ROOT / folder)
            if not any(part.startswith((".", "__pycache__")) for part in inner.parts):
                yield path
