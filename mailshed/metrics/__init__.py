"""What monitoring sees: the catalogue, the counters, the snapshot behind the gauges, the page.

The only importer of prometheus-client. `Metrics` counts as mail passes; `Snapshot` is one picture
of the service, which the main loop leaves in a `SnapshotHolder`; `SnapshotCollector` exports it;
`render` makes the page.
"""

from mailshed.metrics.collector import SnapshotCollector
from mailshed.metrics.exporter import new_registry, render
from mailshed.metrics.history import History, Recent, Totals
from mailshed.metrics.recorder import Metrics
from mailshed.metrics.snapshot import (
    SNAPSHOT_SECONDS,
    BackendSnapshot,
    ClassSnapshot,
    OverrideSnapshot,
    QueueSnapshot,
    Snapshot,
    SnapshotHolder,
    SpoolSnapshot,
    SurgeSnapshot,
    Usage,
)

__all__ = [
    "SNAPSHOT_SECONDS",
    "BackendSnapshot",
    "ClassSnapshot",
    "History",
    "Metrics",
    "OverrideSnapshot",
    "QueueSnapshot",
    "Recent",
    "Snapshot",
    "SnapshotCollector",
    "SnapshotHolder",
    "SpoolSnapshot",
    "SurgeSnapshot",
    "Totals",
    "Usage",
    "new_registry",
    "render",
]
