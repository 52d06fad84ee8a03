"""All gauges of one scrape are of one snapshot."""

import dataclasses

import pytest
from prometheus_client import CollectorRegistry

from mailshed.metrics.collector import SnapshotCollector
from mailshed.metrics.labels import RESOURCES
from mailshed.metrics.snapshot import SnapshotHolder
from tests.support.clock import ManualClock
from tests.support.snapshots import busy_snapshot


class Scrape:
    """A registry with the collector, and a clock."""

    def __init__(self) -> None:
        self.clock = ManualClock(monotonic=1000.0)
        self.holder = SnapshotHolder()
        self.registry = CollectorRegistry(auto_describe=True)
        self.registry.register(SnapshotCollector(self.holder, self.clock.monotonic))

    def value(self, name: str, **labels: str) -> float | None:
        labels = {key.rstrip("_"): text for key, text in labels.items()}
        return self.registry.get_sample_value(f"mailshed_{name}", labels)


@pytest.fixture
def scrape() -> Scrape:
    return Scrape()


def test_without_a_snapshot_there_are_families_and_no_samples(scrape: Scrape) -> None:
    families = list(scrape.registry.collect())
    assert families
    assert not any(family.samples for family in families)


def test_the_snapshot_is_what_is_exported(scrape: Scrape) -> None:
    scrape.holder.swap(busy_snapshot())
    expected: list[tuple[str, dict[str, str], float]] = [
        ("backend_up", {"backend": "exch01"}, 1),
        ("backend_up", {"backend": "exch02"}, 0),
        ("backend_fallback_active", {"backend": "exch01"}, 0),
        ("backend_spooled_messages", {"backend": "exch02"}, 0),
        ("backend_breaker_state", {"backend": "exch01", "state": "closed"}, 1),
        ("backend_breaker_state", {"backend": "exch02", "state": "closed"}, 0),
        ("backend_breaker_state", {"backend": "exch02", "state": "half_open"}, 0),
        ("backend_breaker_state", {"backend": "exch02", "state": "open"}, 1),
        ("backend_stuck_senders", {"backend": "exch01"}, 2),
        ("backend_endings_total", {"backend": "exch01", "ending": "in_doubt"}, 2),
        ("backend_endings_total", {"backend": "exch01", "ending": "busy"}, 0),
        ("backend_in_flight", {"backend": "exch01"}, 20),
        ("backend_in_flight_limit", {"backend": "exch01"}, 20),
        ("backend_waiting", {"backend": "exch01"}, 14),
        ("backend_connections", {"backend": "exch01", "state": "idle"}, 2),
        ("backend_connections_opened_total", {"backend": "exch01"}, 400),
        ("backend_connection_failures_total", {"backend": "exch01"}, 3),
        ("queue_messages", {"class_": "bulk", "state": "hold"}, 12),
        ("queue_messages", {"class_": "clinical", "state": "queued"}, 0),
        ("queue_recipients", {"class_": "bulk", "state": "queued"}, 9614),
        ("queue_bytes", {"class_": "bulk"}, 6_000_000),
        ("queue_oldest_message_age_seconds", {"class_": "bulk"}, 15_000),
        ("queue_age_objective_seconds", {"class_": "clinical"}, 10),
        ("messages_in_flight", {"class_": "bulk"}, 3),
        ("messages_waiting", {"class_": "bulk"}, 6),
        ("surge_ratio", {"class_": "telework"}, 2.1),
        ("surge_alarm", {"class_": "telework"}, 1),
        ("surge_alarm", {"class_": "extra"}, 0),
        ("surge_network_ratio", {"class_": "telework", "network": "vpn"}, 2.2),
        ("surge_network_alarm", {"class_": "telework", "network": "other"}, 0),
        ("surge_unexpected_work_seconds_total", {"class_": "telework"}, 51.5),
        ("class_rank", {"class_": "clinical"}, 0),
        ("class_rank", {"class_": "bulk"}, 6),
        ("memory_bytes", {}, 90 * 1024**2),
        ("memory_limit_bytes", {}, 8 * 1024**3),
        ("saturation_ratio", {"resource": "files"}, 0.003),
        ("observe_mode", {}, 0),
        ("spool_healthy", {}, 1),
        ("spool_bytes_limit", {}, 10 * 1024**3),
        ("recipients_ledger_total", {"class_": "bulk", "term": "delivered"}, 36_420),
        ("recipients_ledger_total", {"class_": "calendar", "term": "expired"}, 0),
        ("saturation_ratio", {"resource": "backend_slots"}, 1.0),
        ("saturation_binding_info", {"resource": "backend"}, 1),
        ("pressure_ratio", {}, 0.93),
        ("shed_level", {}, 3),
        ("derived_shed_level", {}, 2),
        ("backend_offered_ratio", {"backend": "exch01"}, 1.8),
        ("backend_drain_slots", {"backend": "exch01"}, 4),
        ("class_load_ratio", {"class_": "telework"}, 0.99),
        ("class_headroom_ratio", {"class_": "telework"}, 0.9),
        ("class_saturation_ratio", {"class_": "telework"}, 1.0),
        ("class_kept_back", {"class_": "telework"}, 1),
        ("class_kept_back", {"class_": "clinical"}, 0),
        ("queue_drain_seconds", {"class_": "clinical"}, 0),
        ("queue_drain_seconds", {"class_": "telework"}, 245),
        ("slow_reply_sessions", {}, 3),
        ("slow_reply_sessions_limit", {}, 200),
        ("slow_replies_total", {}, 17),
        ("smtp_sessions", {}, 140),
        ("smtp_sessions_limit", {}, 5000),
        ("content_memory_limit_bytes", {}, 64 * 1024**2),
        ("cached_recipients", {}, 3_100),
        ("cached_recipients_limit", {}, 100_000),
        ("remembered_logins", {}, 170),
        ("remembered_logins_limit", {}, 10_000),
        ("held_mailboxes", {}, 7),
        ("held_mailboxes_limit", {}, 10_000),
        ("retry_tokens", {}, 180),
        ("retry_tokens_limit", {}, 200),
        ("build_info", {"version": "1.0.0"}, 1),
        ("config_info", {"hash": "3f9a2c1d77aa"}, 1),
        ("config_last_reload_successful", {}, 1),
        ("tasks_failed_total", {}, 0),
    ]
    for name, labels, value in expected:
        assert scrape.value(name, **labels) == value, (name, labels)


def test_what_is_not_known_is_not_exported(scrape: Scrape) -> None:
    scrape.holder.swap(busy_snapshot())
    assert scrape.value("backend_offered_ratio", backend="exch02") is None
    assert scrape.value("saturation_binding_info", resource="sessions") is None
    assert scrape.value("class_load_ratio", class_="clinical") is None
    assert scrape.value("class_headroom_ratio", class_="clinical") is None
    assert scrape.value("class_saturation_ratio", class_="clinical") is None
    assert scrape.value("queue_drain_seconds", class_="bulk") is None


def test_the_age_grows_between_snapshots(scrape: Scrape) -> None:
    scrape.holder.swap(busy_snapshot(made_at=1000.0))
    scrape.clock.advance(7.5)
    assert scrape.value("snapshot_age_seconds") == 7.5


def test_a_class_that_left_the_configuration_keeps_its_ledger(scrape: Scrape) -> None:
    """Its mail is still accounted for."""
    snapshot = busy_snapshot()
    scrape.holder.swap(dataclasses.replace(snapshot, classes=snapshot.classes[:2]))
    assert scrape.value("recipients_ledger_total", class_="bulk", term="accepted") == 46_047
    assert scrape.value("queue_messages", class_="bulk", state="hold") == 12


def test_every_resource_has_a_ratio_even_if_nobody_measured_it(scrape: Scrape) -> None:
    scrape.holder.swap(dataclasses.replace(busy_snapshot(), saturation={}))
    for resource in RESOURCES:
        assert scrape.value("saturation_ratio", resource=resource) == 0.0


def test_ledger_and_queue_of_a_scrape_balance(scrape: Scrape) -> None:
    """The conservation law can be computed from one page."""
    scrape.holder.swap(busy_snapshot())
    samples = {
        family.name: family.samples
        for family in scrape.registry.collect()
        if family.name in ("mailshed_recipients_ledger", "mailshed_queue_recipients")
    }
    balance = 0.0
    for sample in samples["mailshed_recipients_ledger"]:
        sign = 1 if sample.labels["term"] in ("accepted", "generated") else -1
        balance += sign * sample.value
    assert balance == sum(sample.value for sample in samples["mailshed_queue_recipients"]) == 9626


def test_mail_of_a_class_that_is_not_configured_has_an_age(scrape: Scrape) -> None:
    snapshot = busy_snapshot()
    lost = dataclasses.replace(snapshot.classes[6], name="lost", is_configured=False)
    scrape.holder.swap(dataclasses.replace(snapshot, classes=(*snapshot.classes, lost)))
    assert scrape.value("queue_oldest_message_age_seconds", class_="lost") == 15_000
    assert scrape.value("queue_age_objective_seconds", class_="lost") == 14_400


def test_each_override_that_is_in_force_is_there_with_its_age(scrape: Scrape) -> None:
    scrape.holder.swap(busy_snapshot())
    assert scrape.value("override_active", kind="hold", class_="bulk") == 1
    assert scrape.value("override_age_seconds", kind="hold", class_="bulk") == 600
    assert scrape.value("override_age_seconds", kind="level", class_="") == 2 * 86400
    assert scrape.value("override_active", kind="hold", class_="telework") is None

    scrape.holder.swap(dataclasses.replace(busy_snapshot(), overrides=()))
    assert scrape.value("override_active", kind="hold", class_="bulk") is None


def test_an_override_that_began_in_a_future_that_was_taken_back_is_not_younger_than_0(
    scrape: Scrape,
) -> None:
    snapshot = busy_snapshot()
    scrape.holder.swap(dataclasses.replace(snapshot, wall=snapshot.wall - 86400))
    assert scrape.value("override_age_seconds", kind="hold", class_="bulk") == 0


def test_what_is_not_known_of_a_surge_has_no_value(scrape: Scrape) -> None:
    scrape.holder.swap(busy_snapshot())
    assert scrape.value("surge_ratio", class_="extra") is None
    assert scrape.value("surge_network_ratio", class_="clinical", network="vpn") is None
    assert scrape.value("surge_network_alarm", class_="clinical", network="vpn") is None


def test_where_surges_are_not_watched_there_is_nothing_of_them(scrape: Scrape) -> None:
    scrape.holder.swap(dataclasses.replace(busy_snapshot(), surges=()))
    assert scrape.value("surge_alarm", class_="telework") is None
