"""aiosmtpd's own test modules, run against our session.

Their source is in no wheel, so it is downloaded (pinned by its hash) into `tests/.cache`. Every
test passes, or stands in `aiosmtpd_differences.toml` with the reason why it does not; a difference
that no failing test needs is a failure, too.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

from tests.third_party.aiosmtpd_outcomes import VARIABLE

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = HERE.parent / ".cache" / "third_party"
SOURCE = CACHE / "aiosmtpd-1.4.6"
PACKAGES = CACHE / "packages"
# The last one leaves a changed smtplib behind when it fails, as it is to.
MODULES = ("test_smtp", "test_starttls", "test_smtps", "test_smtpsmuggling")
SECONDS = 600


def run() -> list[str]:
    """Lines that say what came out; raises AssertionError if a test fails that should pass."""
    _fetch()
    outcomes = _outcomes()
    assert len(outcomes) > 300, f"only {len(outcomes)} tests have run"
    differences = tomllib.loads((HERE / "aiosmtpd_differences.toml").read_text())["difference"]
    explained: Counter[str] = Counter()
    unexplained = []
    for test, failure in outcomes.items():
        if failure:
            reason = _reason(test, failure, differences)
            if reason is None:
                unexplained.append(f"{test}: {failure}")
            else:
                explained[reason] += 1
    assert not unexplained, "\n".join(["tests of aiosmtpd that fail:", *unexplained])
    unneeded = {each["reason"] for each in differences} - set(explained)
    assert not unneeded, f"differences that are none: {sorted(unneeded)}"
    passed = sum(not failure for failure in outcomes.values())
    lines = [f"{len(outcomes)} tests, {passed} pass, {explained.total()} differ on purpose"]
    return lines + [f"  {count:>3}  {reason}" for reason, count in explained.most_common()]


def _reason(test: str, failure: str, differences: list[dict[str, object]]) -> str | None:
    name = test.partition("::")[2]
    for each in differences:
        patterns = each["tests"]
        assert isinstance(patterns, list)
        is_named = any(fnmatchcase(name, pattern) for pattern in patterns)
        if is_named and re.search(str(each.get("says", "")), failure):
            return str(each["reason"])
    return None


def _fetch() -> None:
    """Download what is missing; every file by its hash."""
    if SOURCE.is_dir() and PACKAGES.is_dir():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    wanted = ["--no-deps", "--require-hashes", "-r", str(HERE / "requirements.txt")]
    subprocess.run(
        [*pip, "download", "--no-binary", "aiosmtpd", "-d", str(CACHE), *wanted], check=True
    )
    for wheel in CACHE.glob("*.whl"):
        subprocess.run([*pip, "install", "--no-deps", "--target", PACKAGES, wheel], check=True)
    with tarfile.open(CACHE / f"{SOURCE.name}.tar.gz") as archive:
        archive.extractall(CACHE, filter="data")


def _outcomes() -> dict[str, str]:
    """The first line of why each test failed, or nothing."""
    file = CACHE / "outcomes.json"
    file.unlink(missing_ok=True)
    places = os.pathsep.join(map(str, (ROOT, SOURCE, PACKAGES)))
    plugins = ["-p", "tests.third_party.aiosmtpd_adapter", "-p", "pytest_mock"]
    for name in ("randomly", "asyncio", "cacheprovider", "xdist"):
        plugins += ["-p", f"no:{name}"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", "."),
            *plugins,
            *(f"aiosmtpd/tests/{name}.py" for name in MODULES),
        ],
        cwd=SOURCE,
        env={**os.environ, "PYTHONPATH": places, VARIABLE: str(file)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert file.exists(), done.stdout[-4000:] + done.stderr[-4000:]
    outcomes = json.loads(file.read_text())
    assert isinstance(outcomes, dict)
    return outcomes
