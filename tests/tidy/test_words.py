"""What must not stand in code or documents, being of no use to the next reader.

That nothing is left to be done is looked for elsewhere (`test_layout`).
"""

import re
from pathlib import Path

import pytest

from tests.tidy.files import written_files
from tests.tidy.project import ROOT, name

FORBIDDEN = {
    "a path of somebody's machine": re.compile(r"/(?:root|work|Users)/|/home/[a-z]"),
    "the number of an issue": re.compile(
        r"\b(?:issues?|bugs?|tickets?|pull requests?|PR)[ -]#?[0-9]+\b|(?<![\w&/(\"'=:`])#[0-9]+\b",
        re.IGNORECASE,
    ),
}
FILES = [path for path in written_files() if path != Path(__file__)]


def test_there_are_files_to_look_at() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert {"mailshed", "tests", "docs", "config", "pyproject.toml"} <= names


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("see /root/x", "a path of somebody's machine"),
        ("in /home/jo/mail", "a path of somebody's machine"),
        ("as of issue 12", "the number of an issue"),
        ("fixes #12", "the number of an issue"),
    ],
)
def test_what_is_looked_for_would_be_found(text: str, kind: str) -> None:
    assert FORBIDDEN[kind].search(text)


@pytest.mark.parametrize("text", ["&#12;", "a#1", 'color: "#123456"', "# 12 slots", "#!/bin/sh"])
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert not any(pattern.search(text) for pattern in FORBIDDEN.values())


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_no_file_holds(kind: str) -> None:
    found = [
        f"{name(path)}: {match[0]}"
        for path in FILES
        for match in FORBIDDEN[kind].finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []
