"""All gauges, and the counters that live elsewhere, from one snapshot.

At each scrape the collector takes the current snapshot once and makes every family of it, so the
values of one scrape belong together, and updating them costs the main loop nothing. Without a
snapshot (the service is starting) the families are there without samples.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mailshed.control.limit_picture import LimitPicture
from mailshed.metrics.catalog import FAMILIES
from mailshed.metrics.family import Kind
from mailshed.metrics.labels import (
    BREAKER_STATES,
    CAUSES,
    ENDINGS,
    RESOURCES,
    SLOW_STAGES,
    STATES,
    TERMS,
)
from mailshed.metrics.snapshot import Snapshot, SnapshotHolder, SurgeSnapshot

Samples = Iterable[tuple[tuple[str, ...], float]]
_Source = Callable[[Snapshot], Samples]


class SnapshotCollector(Collector):
    """Exports what the holder's current snapshot says; `now` is the monotonic clock."""

    def __init__(self, holder: SnapshotHolder, now: Callable[[], float]) -> None:
        self._holder = holder
        self._now = now

    def describe(self) -> Iterator[Metric]:
        """The families alone, so that the registry knows the names."""
        for name in (*_SOURCES, "snapshot_age_seconds"):
            yield _family(name, ())

    def collect(self) -> Iterator[Metric]:
        """The families with the samples of the current snapshot."""
        snapshot = self._holder.current
        if snapshot is None:
            yield from self.describe()
            return
        for name, source in _SOURCES.items():
            yield _family(name, source(snapshot))
        yield _family("snapshot_age_seconds", [((), snapshot.age(self._now()))])


def _family(name: str, samples: Samples) -> Metric:
    family = FAMILIES[name]
    made: CounterMetricFamily | GaugeMetricFamily
    if family.kind is Kind.COUNTER:
        made = CounterMetricFamily(family.full_name, family.help, labels=family.labels)
    else:
        made = GaugeMetricFamily(family.full_name, family.help, labels=family.labels)
    for labels, value in samples:
        made.add_metric(labels, value)
    return made


def _one(get: Callable[[Snapshot], float]) -> _Source:
    return lambda snapshot: [((), get(snapshot))]


def _connections(snapshot: Snapshot) -> Samples:
    for backend in snapshot.backends:
        yield (backend.name, "busy"), backend.connections_busy
        yield (backend.name, "idle"), backend.connections_idle


def _queue(get: str) -> _Source:
    """Per class and state, with 0 for the states a class has nothing in."""

    def samples(snapshot: Snapshot) -> Samples:
        found = {(q.traffic_class, q.state): getattr(q, get) for q in snapshot.spool.queues}
        known = {(c.name, state): 0 for c in snapshot.classes for state in STATES}
        return (known | found).items()

    return samples


def _ledger(snapshot: Snapshot) -> Samples:
    for name in {**dict.fromkeys(c.name for c in snapshot.classes), **snapshot.spool.ledger}:
        terms = snapshot.spool.ledger.get(name, {})
        for term in TERMS:
            yield (name, term), terms.get(term, 0)


def _known(samples: Iterable[tuple[tuple[str, ...], float | None]]) -> Samples:
    """Those that have a value."""
    return [(labels, value) for labels, value in samples if value is not None]


def _surges(get: Callable[[SurgeSnapshot], float | None]) -> _Source:
    """Of whole classes; without those that have no value yet."""

    def samples(snapshot: Snapshot) -> Samples:
        for each in snapshot.surges:
            if not each.network and (value := get(each)) is not None:
                yield (each.traffic_class,), value

    return samples


def _network_surges(get: Callable[[SurgeSnapshot], float | None]) -> _Source:
    """Of classes by network; most come from one or two, so those without mail are left out."""

    def samples(snapshot: Snapshot) -> Samples:
        for each in snapshot.surges:
            is_there = bool(each.network) and (each.messages > 0 or each.is_alarm)
            if is_there and (value := get(each)) is not None:
                yield (each.traffic_class, each.network), value

    return samples


def _learned(get: Callable[[LimitPicture], float | None]) -> _Source:
    """Of backends whose limit is adaptive."""

    def samples(snapshot: Snapshot) -> Samples:
        for backend in snapshot.backends:
            if backend.learning is not None and (value := get(backend.learning)) is not None:
                yield (backend.name,), value

    return samples


def _slow_stages(snapshot: Snapshot) -> Samples:
    for backend in snapshot.backends:
        if backend.learning is not None:
            stages = backend.learning.stages
            for stage in SLOW_STAGES:
                yield (backend.name, stage), getattr(stages, stage)


def _limit_changes(snapshot: Snapshot) -> Samples:
    for backend in snapshot.backends:
        if backend.learning is not None:
            for cause in CAUSES:
                yield (backend.name, cause), backend.learning.changes.get(cause, 0)


def _breakers(snapshot: Snapshot) -> Samples:
    for backend in snapshot.backends:
        for state in BREAKER_STATES:
            yield (backend.name, state), state == backend.breaker


def _endings(snapshot: Snapshot) -> Samples:
    for backend in snapshot.backends:
        for ending in ENDINGS:
            yield (backend.name, ending), backend.endings.get(ending, 0)


_SOURCES: dict[str, _Source] = {
    "backend_up": lambda s: [((b.name,), b.is_up) for b in s.backends],
    "backend_breaker_state": _breakers,
    "backend_stuck_senders": lambda s: [((b.name,), b.stuck_senders) for b in s.backends],
    "backend_endings_total": _endings,
    "backend_in_flight": lambda s: [((b.name,), b.in_flight) for b in s.backends],
    "backend_in_flight_limit": lambda s: [((b.name,), b.limit) for b in s.backends],
    "backend_in_flight_ceiling": lambda s: [((b.name,), b.ceiling) for b in s.backends],
    "backend_reserved_slots": lambda s: [((b.name,), b.reserve) for b in s.backends],
    "backend_spooled_messages": lambda s: [((b.name,), b.queued_messages) for b in s.backends],
    "backend_fallback_active": lambda s: [((b.name,), bool(b.fallback)) for b in s.backends],
    "backend_waiting": lambda s: [((b.name,), b.waiting) for b in s.backends],
    "backend_live_waiting": lambda s: [((b.name,), b.live_waiting) for b in s.backends],
    "backend_live_waiting_limit": lambda s: [((b.name,), b.live_waiting_limit) for b in s.backends],
    "messages_in_flight_limit": lambda s: [((c.name,), c.in_flight_limit) for c in s.classes],
    "backend_connections": _connections,
    "backend_connections_opened_total": lambda s: [
        ((b.name,), b.connections_opened_total) for b in s.backends
    ],
    "backend_connection_failures_total": lambda s: [
        ((b.name,), b.connections_failed_total) for b in s.backends
    ],
    "messages_in_flight": lambda s: [((c.name,), c.in_flight) for c in s.classes],
    "messages_waiting": lambda s: [((c.name,), c.waiting) for c in s.classes],
    "queue_messages": _queue("messages"),
    "queue_recipients": _queue("recipients"),
    "queue_bytes": lambda s: [((c.name,), c.queued_octets) for c in s.classes],
    "queue_oldest_message_age_seconds": lambda s: [
        ((c.name,), c.oldest_age_seconds) for c in s.classes
    ],
    "queue_age_objective_seconds": lambda s: [((c.name,), c.objective_seconds) for c in s.classes],
    "spool_bytes": _one(lambda s: s.spool.octets),
    "spool_bytes_limit": _one(lambda s: s.spool.octets_max),
    "spool_messages": _one(lambda s: s.spool.messages),
    "spool_messages_limit": _one(lambda s: s.spool.messages_max),
    "spool_disk_free_bytes": _one(lambda s: s.spool.disk_free),
    "spool_disk_reserve_bytes": _one(lambda s: s.spool.disk_reserve),
    "spool_healthy": _one(lambda s: s.spool.is_healthy),
    "recipients_ledger_total": _ledger,
    "surge_ratio": _surges(lambda each: each.ratio),
    "surge_alarm": _surges(lambda each: each.is_alarm),
    "surge_network_ratio": _network_surges(lambda each: each.ratio),
    "surge_network_alarm": _network_surges(lambda each: each.is_alarm),
    "surge_unexpected_work_seconds_total": _surges(lambda each: each.unexpected_work_seconds_total),
    "saturation_ratio": lambda s: [((r,), s.saturation.get(r, 0.0)) for r in RESOURCES],
    "saturation_binding_info": lambda s: [((s.binding,), 1)] if s.binding else [],
    "pressure_ratio": _one(lambda s: s.pressure),
    "shed_level": _one(lambda s: s.shed_level),
    "derived_shed_level": _one(lambda s: s.derived_level),
    "backend_offered_ratio": lambda s: _known(((b.name,), b.offered_ratio) for b in s.backends),
    "backend_slowness_ratio": _learned(lambda each: each.x),
    "backend_queue_messages": _learned(lambda each: each.queue),
    "backend_capacity_slots": _learned(lambda each: each.capacity),
    "backend_connections_limit": _learned(lambda each: each.learned_ceiling),
    "backend_limit_probing": _learned(lambda each: each.is_probing),
    "backend_stage_slowness_ratio": _slow_stages,
    "backend_limit_changes_total": _limit_changes,
    "backend_drain_slots": lambda s: [((b.name,), b.drain_slots) for b in s.backends],
    "class_load_ratio": lambda s: _known(((c.name,), c.load) for c in s.classes),
    "class_headroom_ratio": lambda s: [
        ((c.name,), c.headroom) for c in s.classes if c.load is not None
    ],
    "class_saturation_ratio": lambda s: _known(((c.name,), c.saturation) for c in s.classes),
    "class_kept_back": lambda s: [((c.name,), bool(c.kept_back)) for c in s.classes],
    "queue_drain_seconds": lambda s: _known(((c.name,), c.drain_seconds) for c in s.classes),
    "slow_reply_sessions": _one(lambda s: s.slow_replies.used),
    "slow_reply_sessions_limit": _one(lambda s: s.slow_replies.limit),
    "slow_replies_total": _one(lambda s: s.slow_replies_total),
    "smtp_sessions": _one(lambda s: s.sessions.used),
    "smtp_stress_mode": _one(lambda s: s.is_stressed),
    "smtp_sessions_limit": _one(lambda s: s.sessions.limit),
    "content_memory_bytes": _one(lambda s: s.content_memory.used),
    "content_memory_limit_bytes": _one(lambda s: s.content_memory.limit),
    "content_disk_bytes": _one(lambda s: s.content_disk.used),
    "content_disk_limit_bytes": _one(lambda s: s.content_disk.limit),
    "cached_recipients": _one(lambda s: s.cached_recipients.used),
    "cached_recipients_limit": _one(lambda s: s.cached_recipients.limit),
    "remembered_logins": _one(lambda s: s.remembered_logins.used),
    "remembered_logins_limit": _one(lambda s: s.remembered_logins.limit),
    "held_mailboxes": _one(lambda s: s.held_mailboxes.used),
    "held_mailboxes_limit": _one(lambda s: s.held_mailboxes.limit),
    "retry_tokens": _one(lambda s: s.retry_tokens.used),
    "retry_tokens_limit": _one(lambda s: s.retry_tokens.limit),
    "memory_bytes": _one(lambda s: s.memory.used),
    "memory_limit_bytes": _one(lambda s: s.memory.limit),
    "observe_mode": _one(lambda s: s.is_observing),
    "override_active": lambda s: [((o.kind, o.traffic_class), 1) for o in s.overrides],
    "override_age_seconds": lambda s: [
        ((o.kind, o.traffic_class), max(0.0, s.wall - o.since_wall)) for o in s.overrides
    ],
    "class_rank": lambda s: [((c.name,), c.rank) for c in s.classes],
    "spool_fill_ratio": _one(lambda s: s.spool_fill),
    "quota_keys": _one(lambda s: s.quota_keys.used),
    "quota_keys_limit": _one(lambda s: s.quota_keys.limit),
    "retry_clients": _one(lambda s: s.retry_clients.used),
    "retry_clients_limit": _one(lambda s: s.retry_clients.limit),
    "tls_open_handshakes": lambda s: [((), s.tls_handshakes.used)] if s.tls_handshakes else [],
    "tls_open_handshakes_limit": lambda s: (
        [((), s.tls_handshakes.limit)] if s.tls_handshakes else []
    ),
    "tls_certificate_expiry_timestamp_seconds": lambda s: _known([((), s.certificate_ends_wall)]),
    "build_info": lambda s: [((s.version,), 1)],
    "config_info": lambda s: [((s.config_hash,), 1)],
    "config_last_reload_successful": _one(lambda s: s.reload_ok),
    "config_last_reload_success_timestamp_seconds": _one(lambda s: s.config_loaded_wall),
    "tasks_failed_total": _one(lambda s: s.tasks_failed_total),
    "log_lines_dropped_total": _one(lambda s: s.log_lines_dropped_total),
}
"""Each family that is exported from the snapshot, and where its samples are in it."""
