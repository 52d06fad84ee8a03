"""What is counted appears on the page, under labels that nobody outside can choose."""

import sys
import threading

import pytest
from prometheus_client import CollectorRegistry

from mailshed.mail.delivery import StageTimes
from mailshed.metrics.catalog import FAMILIES
from mailshed.metrics.family import Kind
from mailshed.metrics.recorder import Metrics
from mailshed.terms import Reason, Stage

CLASSES = [f"class{number}" for number in range(8)]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """One sample; `class_` stands for the label `class`."""
    labels = {key.rstrip("_"): text for key, text in labels.items()}
    return registry.get_sample_value(f"mailshed_{name}", labels)


def test_declared_names_are_there_with_zero(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.declare(["clinical"], ["smtp"], ["exch"])
    assert value(registry, "messages_accepted_total", class_="clinical", disposition="relayed") == 0
    assert value(registry, "smtp_connections_total", listener="smtp", result="refused") == 0
    assert value(registry, "queue_wait_seconds_count", class_="clinical") == 0
    assert value(registry, "delivery_stage_seconds_count", backend="exch", stage="service") == 0
    none = {"backend": "exch", "stage": "dot", "code_class": "none"}
    assert value(registry, "backend_replies_total", **none) == 0
    assert value(registry, "spool_sync_seconds_count") == 0


def test_declaring_again_after_a_reload_keeps_what_was_counted(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics.declare(["clinical"], ["smtp"], ["exch"])
    metrics.in_doubt("clinical")
    metrics.declare(["clinical", "new"], ["smtp"], ["exch"])
    assert value(registry, "in_doubt_total", class_="clinical") == 1
    assert value(registry, "in_doubt_total", class_="new") == 0


def test_a_relayed_message_is_counted(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.connection("smtp", "accepted")
    metrics.decision("bulk", "spool", Reason.SATURATED)
    metrics.accepted("bulk", "spooled", size=5000, recipients=3)
    metrics.transaction("bulk", "spooled", 0.3)
    metrics.deliveries("bulk", "spool", "delivered", 3)
    metrics.queue_wait("bulk", 70.0)
    metrics.verification("unknown")
    metrics.call_ahead(0.2)
    assert value(registry, "recipient_verifications_total", result="unknown") == 1
    assert value(registry, "recipient_verifications_total", result="cached_known") == 0
    assert value(registry, "call_ahead_seconds_bucket", le="0.25") == 1
    assert value(registry, "smtp_connections_total", listener="smtp", result="accepted") == 1
    saturated = {"class_": "bulk", "action": "spool", "reason": "saturated"}
    assert value(registry, "decisions_total", **saturated) == 1
    assert value(registry, "messages_accepted_total", class_="bulk", disposition="spooled") == 1
    assert value(registry, "recipients_accepted_total", class_="bulk") == 3
    assert value(registry, "message_size_bytes_sum", class_="bulk") == 5000
    spooled = {"class_": "bulk", "outcome": "spooled"}
    assert value(registry, "transaction_duration_seconds_bucket", **spooled, le="0.1") == 0
    assert value(registry, "transaction_duration_seconds_bucket", **spooled, le="0.5") == 1
    delivered = {"class_": "bulk", "source": "spool", "result": "delivered"}
    assert value(registry, "deliveries_total", **delivered) == 3
    assert value(registry, "queue_wait_seconds_sum", class_="bulk") == 70.0


@pytest.mark.parametrize(
    ("traffic_class", "seconds", "timeliness"),
    [
        ("clinical", 10.0, "on_time"),
        ("clinical", 10.01, "late"),
        ("lost", 300.0, "on_time"),
        ("lost", 300.1, "late"),
    ],
)
def test_a_delivery_is_on_time_by_the_objective_of_its_class(
    registry: CollectorRegistry,
    metrics: Metrics,
    traffic_class: str,
    seconds: float,
    timeliness: str,
) -> None:
    """Mail of a class that the configuration has lost is promised what the default class is."""
    metrics.promise({"clinical": 10.0}, 300.0)
    metrics.delivered(traffic_class, seconds, 4000)
    counted = {"class_": traffic_class, "timeliness": timeliness}
    assert value(registry, "delivered_messages_total", **counted) == 1
    assert value(registry, "delivered_bytes_total", class_=traffic_class) == 4000
    assert metrics.late(traffic_class) == (timeliness == "late")


def test_a_new_promise_counts_from_then_on(metrics: Metrics) -> None:
    metrics.promise({"bulk": 10.0}, 10.0)
    metrics.delivered("bulk", 11.0, 1)
    metrics.promise({"bulk": 20.0}, 10.0)
    metrics.delivered("bulk", 11.0, 1)
    assert metrics.late("bulk") == 1


def test_without_a_promise_nothing_is_late(metrics: Metrics) -> None:
    metrics.delivered("bulk", 1e9, 1)
    assert metrics.late("bulk") == 0


def test_decisions_can_be_asked_for_by_one_reason_or_by_all(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics.decision("bulk", "spool", Reason.SATURATED)
    metrics.decision("bulk", "spool", Reason.BACKEND_AWAY)
    metrics.decision("bulk", "defer", Reason.SPOOL_FULL)
    metrics.decision("telework", "spool", Reason.SATURATED)
    assert metrics.decided("bulk", "spool", Reason.SATURATED) == 1
    assert metrics.decided("bulk", "spool") == 2
    assert metrics.decided("bulk", "reject") == 0
    never = {"class_": "bulk", "action": "reject", "reason": "saturated"}
    assert value(registry, "decisions_total", **never) is None, "asking has made a series"


def test_the_wait_for_a_slot_is_a_histogram_by_class(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics.slot_wait("telework", 3.0)
    metrics.slot_wait("telework", -0.001)
    assert value(registry, "slot_wait_seconds_bucket", class_="telework", le="2.0") == 1
    assert value(registry, "slot_wait_seconds_bucket", class_="telework", le="5.0") == 2
    assert value(registry, "slot_wait_seconds_sum", class_="telework") == 3.0


def test_a_value_on_an_edge_belongs_to_that_bucket(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    """`le` means less or equal; +Inf takes the rest; buckets accumulate."""
    for seconds in (0.005, 0.0050001, 600.0, 601.0):
        metrics.spool_sync(seconds)
    assert value(registry, "spool_sync_seconds_bucket", le="0.005") == 1
    assert value(registry, "spool_sync_seconds_bucket", le="0.01") == 2
    assert value(registry, "spool_sync_seconds_bucket", le="600.0") == 3
    assert value(registry, "spool_sync_seconds_bucket", le="+Inf") == 4
    assert value(registry, "spool_sync_seconds_count") == 4
    assert value(registry, "spool_sync_seconds_sum") == pytest.approx(1201.0100001)


def test_a_client_cannot_choose_labels(registry: CollectorRegistry, metrics: Metrics) -> None:
    for verb in ("x" * 500, "MAIL FROM", "évil", ""):
        metrics.reply("smtp", verb, 500)
    metrics.reply("smtp", "mail", 599)
    other = {"listener": "smtp", "verb": "other", "code": "500"}
    assert value(registry, "smtp_replies_total", **other) == 4
    assert value(registry, "smtp_replies_total", listener="smtp", verb="mail", code="other") == 1


def test_replies_of_the_backend_count_by_class(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    for code in (250, 354, 451, 550, 666, None):
        metrics.backend_reply("exch", Stage.DOT, code)
    counts = {
        code_class: value(
            registry, "backend_replies_total", backend="exch", stage="dot", code_class=code_class
        )
        for code_class in ("2xx", "4xx", "5xx", "none")
    }
    assert counts == {"2xx": 2, "4xx": 1, "5xx": 1, "none": 2}


def test_a_stage_that_was_not_reached_has_no_time(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics.declare([], [], ["exch"])
    metrics.stage_times("exch", StageTimes(connect=0.0, envelope=0.1, content=0.0, service=0.2))
    counts = {
        stage: value(registry, "delivery_stage_seconds_count", backend="exch", stage=stage)
        for stage in ("connect", "envelope", "content", "service")
    }
    assert counts == {"connect": 0, "envelope": 1, "content": 0, "service": 1}


def test_a_clock_that_jumped_back_observes_zero(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    """A negative sum would look like a restart to Prometheus."""
    metrics.queue_wait("bulk", -5.0)
    metrics.loop_lag(-0.1)
    assert value(registry, "queue_wait_seconds_sum", class_="bulk") == 0.0
    assert value(registry, "event_loop_lag_seconds_sum") == 0.0


def test_every_counter_and_histogram_of_the_catalogue_has_a_home(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    """Here, or in the snapshot's collector; the tidy test looks at both together."""
    recorded = {metric.name.removeprefix("mailshed_") for metric in metrics.collect()}
    known = {name.removesuffix("_total") for name in FAMILIES}
    assert recorded <= known
    histograms = {name for name, family in FAMILIES.items() if family.kind is Kind.HISTOGRAM}
    assert histograms <= recorded


def test_series_stay_within_the_budget(registry: CollectorRegistry, metrics: Metrics) -> None:
    """Eight classes, four listeners, two backends: the larger part of the 1500 of the design."""
    metrics.declare(CLASSES, ["a", "b", "c", "d"], ["x", "y"])
    assert sum(len(metric.samples) for metric in registry.collect()) < 1250


def test_scraping_while_counting_never_fails(registry: CollectorRegistry, metrics: Metrics) -> None:
    """The reader copies what the writer goes on changing, new labels included."""
    done, scraped = threading.Event(), threading.Event()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def count() -> None:
        for number in range(2000):
            metrics.accepted(f"class{number}", "relayed", size=number, recipients=1)
            if number == 1000:
                scraped.wait(60.0)
        done.set()

    thread = threading.Thread(target=count)
    thread.start()
    try:
        scrapes = 0
        while not done.is_set():
            for metric in metrics.collect():
                assert metric.samples is not None
            scrapes += 1
            scraped.set()
    finally:
        thread.join()
        sys.setswitchinterval(interval)
    assert scrapes > 0
    assert value(registry, "recipients_accepted_total", class_="class1999") == 1


def test_relayed_counts_in_one_step_what_the_single_steps_would() -> None:
    """Else the quick way and the others would tell different stories."""
    pages = []
    for is_quick in (True, False):
        registry = CollectorRegistry(auto_describe=True)
        metrics = Metrics(registry)
        metrics.promise({"bulk": 5.0}, 60.0)
        for delay, size in ((1.0, 3000), (7.0, 9_000_000)):
            if is_quick:
                metrics.relayed("bulk", size=size, recipients=2, delay=delay, seconds=delay + 1)
                continue
            metrics.decision("bulk", "relay", Reason.ROOM)
            metrics.accepted("bulk", "relayed", size=size, recipients=2)
            metrics.delivered("bulk", delay, size)
            metrics.transaction("bulk", "delivered", delay + 1)
        pages.append(
            {
                (sample.name, *sorted(sample.labels.items())): sample.value
                for family in registry.collect()
                for sample in family.samples
            }
        )
    quick, slow = pages
    assert quick == slow
    assert quick["mailshed_messages_accepted_total", ("class", "bulk"), ("disposition", "relayed")]
