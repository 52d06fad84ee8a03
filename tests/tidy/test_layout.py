"""The shape of the project: what lies where, who may import whom, and that tests have partners."""

import subprocess
import sys
from pathlib import Path

from tests.tidy.project import ROOT, name, sources

TOP_LEVEL = {
    *("mailshed", "config", "systemd", "tests", "docs"),
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile"),
    "SECURITY.md",
}
"""Anything else at the top, dotfiles aside, needs a decision record."""

WITHOUT_UNIT_TEST = frozenset({"__init__.py", "__main__.py"})
"""Re-exports, and one call each; the tests of what they name run them."""

DATA = "mailshed/metrics/families"
"""A folder of nothing but values, which the tests of the catalogue go through one by one."""

LINES_MAX = 600
"""A file over 300 lines is a question to ask, one over this is an answer nobody gave."""


def _ignored() -> set[str]:
    """Names at the top that git ignores, such as `var`."""
    lines = (ROOT / ".gitignore").read_text().splitlines()
    return {line.strip("/") for line in lines}


def test_the_top_level_holds_only_what_is_agreed() -> None:
    """A newcomer sees at one glance what there is."""
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - TOP_LEVEL - _ignored() - {"__pycache__"} == set()
    assert TOP_LEVEL - found == set()


def test_layers_and_adapters_keep_to_their_contracts() -> None:
    """import-linter finds no import that the contracts of pyproject.toml forbid."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_its_unit_test() -> None:
    """`mailshed/a/b.py` is tested by `tests/unit/a/test_b.py`, so nobody has to search."""
    missing = [
        name(module)
        for module in sources("mailshed")
        if module.name not in WITHOUT_UNIT_TEST
        and module.parent != ROOT / DATA
        and not _unit_test_of(module).exists()
    ]
    assert missing == []


def test_every_unit_test_has_its_module() -> None:
    """A module that was renamed or removed takes its test along."""
    modules = {_unit_test_of(module) for module in sources("mailshed")}
    packages = {
        _unit_test_of(module.parent.with_suffix(".py"))
        for module in sources("mailshed")
        if module.name == "__init__.py" and module.parent != ROOT / "mailshed"
    }
    found = {path for path in sources("tests/unit") if path.name.startswith("test_")}
    assert sorted(name(path) for path in found - modules - packages) == []


def _unit_test_of(module: Path) -> Path:
    place = module.relative_to(ROOT / "mailshed")
    return ROOT / "tests/unit" / place.with_name(f"test_{place.name}")


def test_every_test_folder_is_a_package() -> None:
    """Otherwise two tests of the same name in different folders clash."""
    folders = {path.parent for path in sources("tests")}
    assert [name(each) for each in sorted(folders) if not (each / "__init__.py").exists()] == []


def test_modules_say_what_they_are_for() -> None:
    """Every module of the package opens with a docstring."""
    silent = [
        name(module)
        for module in sources("mailshed")
        if not module.read_text().lstrip().startswith(('"""', 'r"""'))
    ]
    assert silent == []


def test_no_module_outgrows_its_reader() -> None:
    """In mail software, the file that grows without bound is the SMTP session."""
    long = {
        name(module): lines
        for module in sources("mailshed")
        if (lines := module.read_text().count("\n")) > LINES_MAX
    }
    assert long == {}


def test_nothing_is_left_to_be_done_in_a_comment() -> None:
    """What is missing stands in the README, not in the middle of the code."""
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    found = [
        f"{name(path)}: {mark}"
        for folder in ("mailshed", "tests", "docs")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".py", ".md"} and ".cache" not in path.parts
        for mark in marks
        if mark in path.read_text()
    ]
    assert found == []


def test_make_test_runs_every_folder_of_tests() -> None:
    """It names the folders, since some run on all cores and some by themselves."""
    makefile = (ROOT / "Makefile").read_text()
    named = {
        "/".join(place.split("/")[:2])
        for variable in ("QUICK", "PARALLEL", "STORIES", "MEASURED")
        for line in makefile.splitlines()
        if line.startswith(f"{variable} := ")
        for place in line.split()[2:]
    }
    there = {f"tests/{path.relative_to(ROOT / 'tests').parts[0]}" for path in _test_modules()}
    assert named - {"$(QUICK)"} == there


def _test_modules() -> list[Path]:
    return [path for path in sources("tests") if path.name.startswith("test_")]
