"""What is declared, what is locked, what is imported and what is argued for are the same."""

import ast
import re
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mailshed
from tests.tidy.project import ROOT, make_targets, pyproject, sources

LOCK = ROOT / "tests/lock"


def _declared(*groups: str) -> dict[str, Requirement]:
    """Requirements by canonical name: `runtime`, the `dev` extra, the `build` group."""
    project = pyproject()
    lists = {
        "runtime": project["project"]["dependencies"],
        "plots": project["project"]["optional-dependencies"]["plots"],
        "dev": project["project"]["optional-dependencies"]["dev"],
        "build": project["dependency-groups"]["build"],
    }
    found = [Requirement(text) for group in groups for text in lists[group]]
    # An extra may ask for another one of ours.
    others = (each for each in found if each.name != project["project"]["name"])
    return {canonicalize_name(each.name): each for each in others}


def _locked(lock: str) -> dict[str, str]:
    """Versions by canonical name."""
    text = (LOCK / f"{lock}.txt").read_text()
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE)
    return {canonicalize_name(package): version for package, version in pins}


@pytest.mark.parametrize(
    ("lock", "groups"),
    [
        ("runtime", ("runtime",)),
        ("build", ("build",)),
        ("dev", ("runtime", "plots", "build", "dev")),
    ],
)
def test_the_lock_has_what_is_declared(lock: str, groups: tuple[str, ...]) -> None:
    """Each requirement is pinned to a version that it allows; else `make lock` was forgotten."""
    pins = _locked(lock)
    wrong = [
        str(requirement)
        for package, requirement in _declared(*groups).items()
        if package not in pins or not requirement.specifier.contains(pins[package])
    ]
    assert wrong == []


def test_the_locks_agree() -> None:
    """What is tested is what runs in production."""
    dev = _locked("dev")
    for lock in ("runtime", "build"):
        assert _locked(lock).items() <= dev.items(), lock


@pytest.mark.parametrize("lock", ["runtime", "build", "dev"])
def test_every_pin_has_its_hashes(lock: str) -> None:
    """A file that a registry swapped is refused."""
    text = (LOCK / f"{lock}.txt").read_text()
    entries = re.split(r"^(?=[A-Za-z0-9._-]+==)", text, flags=re.MULTILINE)[1:]
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text, "the lock names no registry"


@pytest.mark.parametrize(
    ("folder", "groups"),
    [("mailshed", ("runtime", "plots")), ("tests", ("runtime", "plots", "dev", "build"))],
)
def test_everything_imported_is_declared(folder: str, groups: tuple[str, ...]) -> None:
    """No package is used that is there only because another one brought it."""
    distributions = packages_distributions()
    allowed = set(_declared(*groups))
    # Parts of pydantic's public interface that live in distributions of their own; and packaging is
    # what pytest itself stands on.
    allowed |= {"pydantic-core", "annotated-types", "packaging"}
    undeclared = {
        module
        for path in sources(folder)
        for module in _imported(path)
        if module not in sys.stdlib_module_names
        and module not in {"mailshed", "tests"}
        and not {canonicalize_name(each) for each in distributions.get(module, ())} & allowed
    }
    assert undeclared == set()


def _imported(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_every_dependency_has_its_reason() -> None:
    """Those declared, and those that come with them at run time."""
    text = (ROOT / "docs/dependencies.md").read_text().lower()
    words = {canonicalize_name(word) for word in re.findall(r"[\w.-]*\w", text)}
    assert set(_declared("runtime", "dev", "build")) | set(_locked("runtime")) <= words


def test_the_wheel_has_the_shipped_policy(tmp_path: Path) -> None:
    """It lies under `config/` for people; installed, it lies in the package and still works."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    for file in (ROOT / "config/policies").iterdir():
        assert (installed / "mailshed/config/policies" / file.name).read_text() == file.read_text()
    done = subprocess.run(
        [sys.executable, "-m", "mailshed", "config", "test"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("cases, 0 failed\n"), done.stderr


def test_versions_agree() -> None:
    """The package, and what it says of itself."""
    assert pyproject()["project"]["version"] == mailshed.__version__


def test_the_changelog_has_a_place_for_the_next_change() -> None:
    """And an entry for the version that is out, once one is."""
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.index("## [Unreleased]") > 0


def test_ci_runs_what_the_readme_tells_people_to_run() -> None:
    """`make check`, then the README's command for the tests."""
    script = (ROOT / ".ci/run").read_text()
    assert {"check", "test"} <= make_targets()
    assert re.search(r"^make check$", script, re.MULTILINE)
    assert re.search(r"\bmake test$", script, re.MULTILINE)
    assert "    make test\n" in (ROOT / "README.md").read_text()
