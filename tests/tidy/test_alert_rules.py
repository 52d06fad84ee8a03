"""Every alert can fire, can stay silent, has a page, and asks for what is really exported.

promtool knows the language of rules but not our metrics: a rule about a metric that was renamed is
correct and dead. So each expression is compared with the page of a service that has just started,
labels included: an `increase` does not see a counter that appears with its first event.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.core import Metric

from mailshed.metrics import Metrics, SnapshotCollector, SnapshotHolder, new_registry
from tests.support.debian import require
from tests.support.promql import Exported, exported
from tests.support.snapshots import CLASS_NAMES, busy_snapshot
from tests.tidy.project import ROOT

RULES_FILE = ROOT / "config/prometheus/mailshed.rules.yml"
TEST_FILES = sorted((ROOT / "config/prometheus/tests").glob("*.yml"))
PAGE = ROOT / "docs/monitoring.md"
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
SEVERITIES = {"critical", "warning", "info"}

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = [rule["record"] for rule in RULES if "record" in rule]

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=[each["alert"] for each in ALERTS])


@pytest.fixture(scope="module")
def page_at_start() -> Exported:
    """What is exported before anything has happened."""
    registry = new_registry()
    metrics, holder = Metrics(registry), SnapshotHolder()
    registry.register(SnapshotCollector(holder, lambda: 1000.0))
    metrics.declare(CLASS_NAMES, ["smtp"], ["exch01"])
    holder.swap(busy_snapshot())
    families: list[Metric] = list(registry.collect())
    return exported(
        ((sample.name, sample.labels) for family in families for sample in family.samples),
        RECORDED,
    )


@pytest.mark.parametrize("rule", RULES, ids=[r.get("alert") or r["record"] for r in RULES])
def test_a_rule_asks_for_what_is_exported(rule: dict[str, Any], page_at_start: Exported) -> None:
    assert page_at_start.faults(rule["expr"]) == []


def test_recorded_rules_that_the_page_names_exist() -> None:
    named = set(re.findall(r"\w+:mailshed_\w+:\w+", PAGE.read_text()))
    assert named
    assert named <= set(RECORDED)


def promtool(*words: str | Path, folder: Path = ROOT) -> None:
    done = subprocess.run(
        [require("prometheus", binary="promtool"), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_no_fault_in_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES_FILE)


@pytest.mark.parametrize("file", TEST_FILES, ids=[file.stem for file in TEST_FILES])
def test_alerts_fire_and_stay_silent_as_their_tests_say(file: Path) -> None:
    promtool("test", "rules", file.name, folder=file.parent)


@pytest.mark.parametrize("file", TEST_FILES, ids=[file.stem for file in TEST_FILES])
def test_what_is_recorded_is_recorded_before_alerts_look_at_it(file: Path) -> None:
    """Without this order promtool takes any, and a test fails one time in ten."""
    groups = [group["name"] for group in yaml.safe_load(RULES_FILE.read_text())["groups"]]
    assert yaml.safe_load(file.read_text())["group_eval_order"] == groups


def _expectations() -> list[tuple[str, bool]]:
    """Of each test of each file: the alert, and whether it is to fire."""
    return [
        (test["alertname"], bool(test["exp_alerts"]))
        for file in TEST_FILES
        for group in yaml.safe_load(file.read_text())["tests"]
        for test in group.get("alert_rule_test", ())
    ]


@each_alert
def test_an_alert_has_a_test_that_fires_and_one_that_stays_silent(alert: dict[str, Any]) -> None:
    expected = {fires for name, fires in _expectations() if name == alert["alert"]}
    assert expected == {True, False}


def test_no_test_is_about_an_alert_that_is_gone() -> None:
    """Its silence would be worth nothing."""
    assert {name for name, _ in _expectations()} == {alert["alert"] for alert in ALERTS}


@each_alert
def test_an_alert_says_what_it_means_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert re.fullmatch(r"Mailshed[A-Z][A-Za-z]+", alert["alert"])
    assert alert["labels"]["severity"] in SEVERITIES
    annotations = alert["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert not annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")
    assert annotations["runbook_url"] == f"docs/monitoring.md#{alert['alert'].lower()}"


def _sections() -> dict[str, str]:
    """The sections of the page that are named like an alert."""
    parts = re.split(r"^### (Mailshed\w+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@each_alert
def test_an_alert_has_a_section_with_the_four_answers(alert: dict[str, Any]) -> None:
    section = _sections()[alert["alert"]]
    assert re.findall(r"^\*\*(\w+)\.\*\*", section, re.MULTILINE) == HEADINGS
    answers = re.split(r"^\*\*\w+\.\*\*", section, flags=re.MULTILINE)[1:]
    assert all(len(answer.split()) >= 5 for answer in answers)


def test_no_section_is_about_an_alert_that_is_gone() -> None:
    assert set(_sections()) == {alert["alert"] for alert in ALERTS}
