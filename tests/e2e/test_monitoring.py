"""Story: a real daemon exports what the shipped rules ask for, and a real Prometheus runs them.

tests/tidy/test_alert_rules.py looks at the rules by themselves. Here they meet a running service
that has just started: every family of the catalogue is on the page with its HELP and TYPE, the page
stays within its budget, and Prometheus evaluates every rule without an error.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mailshed.metrics.catalog import FAMILIES
from tests.support.daemon import Daemon
from tests.support.processes import free_port, wait_until
from tests.support.prometheus import Prometheus
from tests.support.promql import exported

RULES_FILE = Path(__file__).parents[2] / "config/prometheus/mailshed.rules.yml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]
]
SERIES_MAX = 1500
CLASSES = 8


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Eight classes and four listeners in front of a Maildir."""
    folder = tmp_path_factory.mktemp("daemon")
    classes = [
        {
            "name": name,
            "rank": rank,
            "threshold": 1,
            "wait_max": "1s",
            "objective": f"{10 * (rank + 1)}s",
        }
        for rank, name in enumerate(
            ["clinical", "personal", "telework", "bulk", *(f"more{n}" for n in range(CLASSES - 4))]
        )
    ]
    overrides = {
        "backends": [{"name": "maildir", "maildir": str(folder / "maildir")}],
        "classes": classes,
        "listeners": [{"name": f"smtp{n}", "bind": f"127.0.0.1:{free_port()}"} for n in range(4)],
    }
    with Daemon(folder=folder / "mailshed", backend_port=0, overrides=overrides) as running:
        yield running


@pytest.fixture(scope="module")
def page(daemon: Daemon) -> str:
    status, text = daemon.get("/metrics")
    assert status == 200
    return text


def test_every_family_of_the_catalogue_is_on_the_page_of_a_service_that_has_just_started(
    page: str,
) -> None:
    found = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(page)
        if family.name.startswith("mailshed_")
    }
    assert set(found) == {family.full_name for family in FAMILIES.values()}
    for family in FAMILIES.values():
        shown = found[family.full_name]
        assert shown.type == family.kind.value
        assert shown.documentation == family.help


def test_rules_ask_for_nothing_that_the_service_does_not_export(page: str) -> None:
    families = list(text_string_to_metric_families(page))
    samples = [(sample.name, sample.labels) for each in families for sample in each.samples]
    # Some have no value yet in the first days, or while nobody overrides anything.
    samples += [(each.name, {}) for each in families if not each.samples]
    there = exported(
        samples,
        [rule["record"] for rule in RULES if "record" in rule],
    )
    faults = {
        rule.get("alert") or rule["record"]: found
        for rule in RULES
        if (found := there.faults(rule["expr"]))
    }
    assert faults == {}


def test_the_page_stays_within_its_budget(page: str) -> None:
    """With eight classes and four listeners."""
    families = list(text_string_to_metric_families(page))
    samples = [sample for family in families for sample in family.samples]
    assert (
        len({sample.labels["class"] for sample in samples if "class" in sample.labels}) == CLASSES
    )
    assert len(samples) <= SERIES_MAX


def test_prometheus_evaluates_every_rule(daemon: Daemon, tmp_path: Path) -> None:
    with Prometheus(
        folder=tmp_path / "prometheus",
        target_port=daemon.metrics_port,
        rules=RULES_FILE.read_text(),
    ) as prometheus:
        wait_until(
            lambda: "unknown" not in prometheus.rule_health.values(), "every rule is evaluated"
        )
        health = prometheus.rule_health
        assert set(health) == {rule.get("alert") or rule["record"] for rule in RULES}
        assert set(health.values()) == {"ok"}, health
        prometheus.wait_for("instance:mailshed_recipients_unaccounted:sum == 0")
        series = prometheus.query('scrape_samples_scraped{job="mailshed"}')
        assert 0 < series[0][1] <= SERIES_MAX
        assert not prometheus.firing
