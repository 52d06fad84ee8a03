"""How an adaptive limit stands, with its reasons: a value for metrics, `status` and tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mailshed.control.window import Stages


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitPicture:
    """One instant of an adaptive limit."""

    limit: int
    """Slots there are now; less than the limit of its windows while a probe is on."""
    ceiling: int
    learned_ceiling: int | None
    """None: the backend has refused no connection."""
    x: float
    """Service time over expected time, smoothed; 1 is unloaded."""
    queue: float
    """Messages of ours that wait inside the backend, in the last window."""
    in_flight_average: float
    """In the last window, as far as they were with the backend."""
    capacity: float
    """Slot-seconds a second; 0 if not known yet."""
    queue_factor: float
    """What the targets of the queue are multiplied by."""
    elasticity: float | None
    """Of the throughput, by messages in flight; None if not known yet."""
    stages: Stages
    is_delayed: bool
    """The backend delays its reply to MAIL, and nothing else."""
    is_probing: bool
    """The limit is held down to learn the expected times."""
    is_baseline_known: bool
    is_baseline_stale: bool
    baseline: tuple[tuple[str, int, float], ...]
    """Expected times: `envelope` or `data`, lower bound of the bucket, seconds."""
    tail: float
    """The 90th percentile of x at light load."""
    cause: str
    """Of the last change."""
    changes: Mapping[str, int] = field(default_factory=dict)
    """How often the limit has changed, by cause."""
