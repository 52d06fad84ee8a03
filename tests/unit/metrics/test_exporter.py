"""The page is in the format that the scraper asks for."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from mailshed.metrics.exporter import new_registry, render
from mailshed.metrics.recorder import Metrics

# What Prometheus 2.42 of Debian 12 sends.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def test_plain_text_by_default() -> None:
    registry = new_registry()
    Metrics(registry).loop_lag(0.3)
    content_type, page = render(registry, "")
    assert content_type.startswith("text/plain; version=0.0.4")
    names = {family.name for family in parse_text(page.decode())}
    assert "mailshed_event_loop_lag_seconds" in names


def test_openmetrics_when_prometheus_asks() -> None:
    registry = new_registry()
    metrics = Metrics(registry)
    metrics.declare(["clinical"], ["smtp"], ["exch"])
    metrics.transaction("clinical", "delivered", 0.02)
    content_type, page = render(registry, PROMETHEUS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert page.endswith(b"# EOF\n")
    families = {family.name: family for family in parse_openmetrics(page.decode())}  # type: ignore[no-untyped-call]
    assert families["mailshed_transaction_duration_seconds"].type == "histogram"
    assert families["mailshed_messages_accepted"].type == "counter"


def test_the_process_itself_is_on_the_page() -> None:
    _, page = render(new_registry(), "")
    assert b"process_resident_memory_bytes" in page
    assert b"process_open_fds" in page


def test_no_created_series() -> None:
    registry = new_registry()
    Metrics(registry).declare(["clinical"], ["smtp"], ["exch"])
    assert b"_created" not in render(registry, PROMETHEUS)[1]
