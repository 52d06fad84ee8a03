"""The metric catalogue keeps to Prometheus' conventions, and its page is fresh."""

import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from mailshed.mail.delivery import StageTimes
from mailshed.metrics import Metrics, SnapshotCollector, SnapshotHolder, new_registry, render
from mailshed.metrics.catalog import FAMILIES, reference
from mailshed.metrics.family import Family, Kind
from mailshed.metrics.labels import CLOSED_SETS, CONFIGURED
from mailshed.terms import Reason, Stage
from tests.support.debian import require
from tests.support.snapshots import CLASS_NAMES, busy_snapshot

ROOT = Path(__file__).parents[2]
# Gauges without a unit count things; the noun they count is their unit.
UNITS = ("_seconds", "_bytes", "_ratio", "_total", "_info")
COUNTED = (
    *("messages", "recipients", "sessions", "connections", "in_flight", "waiting", "limit"),
    *("ceiling", "slots", "keys", "clients", "mailboxes", "tokens", "senders", "logins"),
    "handshakes",
)
# Neither a number of things nor a statement: the place in an order.
ORDERS = ("_rank", "_level")
STATEMENTS = (
    *("_up", "_healthy", "_successful", "_mode", "_alarm", "_state"),
    *("_kept_back", "_active", "_probing"),
)


def full_page() -> CollectorRegistry:
    """A registry in which every family has samples."""
    registry = new_registry()
    metrics, holder = Metrics(registry), SnapshotHolder()
    registry.register(SnapshotCollector(holder, lambda: 1000.0))
    holder.swap(busy_snapshot())
    metrics.declare(CLASS_NAMES, ["a", "b", "c", "d"], ["exch01", "exch02"])
    metrics.transaction("bulk", "aborted", 1.0)
    metrics.decision("bulk", "defer", Reason.NO_MEMORY)
    metrics.reply("a", "other", 500)
    metrics.backend_reply("exch01", Stage.QUIT, 221)
    metrics.stage_times("exch01", StageTimes(connect=1.0))
    return registry


def test_the_page_for_people_is_fresh() -> None:
    """Otherwise: python -m mailshed.metrics > docs/metrics.md."""
    assert (ROOT / "docs" / "metrics.md").read_text() == reference()


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_name_says_its_unit(family: Family) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z]", family.name)
    assert family.name.endswith("_total") is (family.kind is Kind.COUNTER)
    if family.kind is Kind.HISTOGRAM:
        assert family.name.endswith(("_seconds", "_bytes"))
    assert (
        family.name.endswith((*UNITS, *COUNTED, *ORDERS, *STATEMENTS))
        or "_bytes_limit" in family.name
    ), "no unit"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_help_and_reading_are_sentences(family: Family) -> None:
    assert re.fullmatch(r"[A-Z].*[.]", family.help)
    assert family.reading.endswith(".")
    assert family.reading != family.help


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_labels_are_closed_sets_or_names_of_the_configuration(family: Family) -> None:
    assert {*family.labels} <= {*CLOSED_SETS, *CONFIGURED, "reason"}


def test_every_family_is_exported_and_nothing_else_of_ours() -> None:
    exported = {
        metric.name + ("_total" if metric.type == "counter" else ""): metric.type
        for metric in full_page().collect()
        if metric.name.startswith("mailshed_")
    }
    assert exported == {family.full_name: family.kind.value for family in FAMILIES.values()}


def test_every_label_value_is_of_its_closed_set() -> None:
    reasons = {reason.value for reason in Reason}
    for metric in full_page().collect():
        for sample in metric.samples:
            for label, value in sample.labels.items():
                allowed = reasons if label == "reason" else CLOSED_SETS.get(label)
                if metric.name.startswith("mailshed_") and allowed and label != "le":
                    assert value in allowed, (metric.name, label)


def test_the_page_stays_within_1500_series() -> None:
    """With eight classes, four listeners and two backends; what rarely happens comes on top."""
    _, page = render(full_page(), "")
    series = [line for line in page.decode().splitlines() if not line.startswith("#")]
    assert len(series) <= 1500


def test_promtool_finds_nothing_to_say() -> None:
    promtool = require("prometheus", binary="promtool")
    _, page = render(full_page(), "")
    result = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, check=False, timeout=60
    )
    assert (result.stdout + result.stderr).decode() == ""
    assert result.returncode == 0
