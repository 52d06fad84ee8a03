"""Cases of a policy."""

from pathlib import Path

import pytest

from mailshed.config.cases import load_cases
from mailshed.config.shipped import CASES, policy_folder
from mailshed.errors import ConfigError


def refused(folder: Path, text: str) -> str:
    file = folder / "cases.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_cases(file)
    return str(caught.value).replace(f"{folder}/", "")


def test_reads_what_a_case_says_and_fills_in_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(
        "version: 1\ncases:\n"
        "  - name: plain\n    expect: {class: personal}\n"
        "  - name: full\n    from: <>\n    to: [a@b.example]\n    headers: {List-Id: x}\n"
        "    size: 1MiB\n    expect: {class: bulk, rule: lists, action: wait, state: away}\n"
    )
    plain, full = load_cases(file)
    assert (plain.origin, full.origin) == (f"{file}:3", f"{file}:5")
    assert (plain.section.sender, plain.section.from_ip) == ("someone@example.org", "192.0.2.1")
    assert (full.section.sender, full.section.size) == ("<>", 1024**2)
    expected = full.section.expect
    assert (expected.traffic_class, expected.rule) == ("bulk", "lists")
    assert (expected.action, expected.state) == ("wait", "away")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "cases.yaml: error: is empty"),
        ("- a\n", "cases.yaml:1:1: error: expected a mapping with keys version and cases"),
        ("version: 1\ncases: []\n", "cases: needs at least one entry"),
        ("version: 1\ncases: [{name: a}]\n", "cases[0].expect: required, but missing"),
        (
            "version: 1\ncases: [{name: a, form: x, expect: {class: bulk}}]\n",
            'cases[0].form: unknown key, did you mean "from"?',
        ),
        (
            "version: 1\ncases: [{name: a, expect: {class: bulk, state: full}}]\n",
            'cases[0].expect.state: expected "room", "saturated", "away" or "spool_filling"',
        ),
        (
            "version: 1\ncases:\n" + 2 * "  - {name: a, expect: {class: b}}\n",
            "is also the name of the case at cases.yaml:3",
        ),
    ],
    ids=range(7),
)
def test_says_what_is_wrong_and_where(text: str, fault: str, tmp_path: Path) -> None:
    assert fault in refused(tmp_path, text)


def test_sixty_cases_are_shipped_and_all_rules_are_among_them() -> None:
    cases = load_cases(policy_folder() / CASES)
    assert len(cases) >= 60
    assert {case.section.expect.rule for case in cases} >= {"mailing-lists", "default"}
