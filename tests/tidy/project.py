"""The project as its files state it: what the tidy tests compare with each other."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

_CODE_BLOCK = re.compile(r"^(?:```(?s:.*?)^```$|(?:    .*\n)+)", re.MULTILINE)
_CODE_SPAN = re.compile(r"`([^`\n]+)`")


def pyproject() -> dict[str, Any]:
    """pyproject.toml, parsed."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def documents() -> list[Path]:
    """Every page of prose that people read."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def sources(folder: str) -> list[Path]:
    """Every Python file below a top-level folder, hidden folders such as caches left out."""
    return [
        path
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]


def name(path: Path) -> str:
    """A path as people write it, from the top of the project."""
    return path.relative_to(ROOT).as_posix()


def code_spans(page: Path) -> list[str]:
    """What stands between single backticks in a page, blocks of code left out."""
    return _CODE_SPAN.findall(_CODE_BLOCK.sub("", page.read_text()))


def code_lines(page: Path) -> Iterator[str]:
    """Lines of code of a page: of its blocks, and its spans; continuation lines are joined."""
    for block in _CODE_BLOCK.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.partition("#")[0].strip()
    yield from code_spans(page)


def make_targets() -> set[str]:
    """Every target of the Makefile that has a name of its own."""
    found = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return set(found)
