"""One consistent picture of the running service, as a value.

The main loop makes a `Snapshot` every `SNAPSHOT_SECONDS` and swaps it into the holder; the
operations thread only ever reads the holder. So scrapes and status screens cost the main loop
nothing, need no lock, agree with each other, and still come when the main loop is blocked; the
snapshot's age then tells that it is.

`made_at` is monotonic, instants called `*_wall` are Unix times, durations are seconds, sizes are
octets. Totals count since the process started, but for the ledger, which is as old as the spool.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mailshed.metrics.history import Recent

SNAPSHOT_SECONDS = 0.25
"""How often the main loop makes one: fresher than any eye, and 20 times rarer than a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSnapshot:
    """One backend. `waiting` counts messages that wait for one of its slots."""

    name: str
    target: str
    """Where it is, for people: `exch01.example:25`, or a Maildir's path."""
    is_up: bool
    in_flight: int = 0
    limit: int = 0
    ceiling: int = 0
    """Slots that clinical mail may overdraw the limit to."""
    reserve: int = 0
    """Slots kept free for clinical mail."""
    waiting: int = 0
    live_waiting: int = 0
    """Of those that wait, live ones below rank 0."""
    live_waiting_limit: int = 0
    connections_busy: int = 0
    connections_idle: int = 0
    connections_opened_total: int = 0
    connections_failed_total: int = 0
    next_probe_seconds: float = 0.0
    """Until the next attempt to reach it; 0 while it is up."""
    last_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSnapshot:
    """One traffic class. `delivered_total` counts messages that came out of the spool.

    A class that the configuration has lost is there while the spool holds mail of it, with the rank
    and the objective of the default class, as which that mail is delivered.
    """

    name: str
    rank: int
    objective_seconds: float
    waiting: int = 0
    in_flight: int = 0
    in_flight_limit: int = 0
    """The class may start while fewer slots than this are in use by all."""
    relayed_total: int = 0
    spooled_total: int = 0
    delivered_total: int = 0
    queued_messages: int = 0
    queued_octets: int = 0
    oldest_age_seconds: float = 0.0
    """Age of the oldest spooled message that is to be delivered; 0 if there is none."""
    is_configured: bool = True
    recent: Recent = field(default_factory=Recent)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSnapshot:
    """What the spool holds of one class in one state (queued, deferred, hold, corrupt)."""

    traffic_class: str
    state: str
    messages: int
    recipients: int
    octets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSnapshot:
    """The spool as a whole.

    `ledger` maps each class to the terms of the conservation law in recipients: accepted,
    generated, delivered, bounced, refused, expired, removed.
    """

    is_healthy: bool = True
    sick_reason: str = ""
    full_reason: str = ""
    """Which limit keeps new mail out, for people; empty while there is room."""
    has_clinical_room: bool = True
    """Whether clinical mail is still taken where other mail is not."""
    queues: tuple[QueueSnapshot, ...] = ()
    ledger: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    octets: int = 0
    octets_max: int = 0
    messages: int = 0
    messages_max: int = 0
    disk_free: int = 0
    disk_reserve: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A bounded resource: how much is used, of how much."""

    used: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that the operations thread may say about the service."""

    made_at: float
    wall: float
    hostname: str
    version: str
    started_wall: float
    config_hash: str = ""
    config_loaded_wall: float = 0.0
    reload_ok: bool = True
    is_observing: bool = False
    is_stopping: bool = False
    sessions: Usage = Usage()
    listeners: tuple[str, ...] = ()
    """What is listened on, for people: `smtp 10.0.0.5:25`."""
    backends: tuple[BackendSnapshot, ...] = ()
    classes: tuple[ClassSnapshot, ...] = ()
    """By rank, 0 first."""
    spool: SpoolSnapshot = SpoolSnapshot()
    content_memory: Usage = Usage()
    content_disk: Usage = Usage()
    cached_recipients: Usage = Usage()
    held_mailboxes: Usage = Usage()
    retry_tokens: Usage = Usage()
    spool_fill: float = 0.0
    """The fullest measure of the spool, 1 being its limit."""
    quota_keys: Usage = Usage()
    retry_clients: Usage = Usage()
    files: Usage = Usage()
    """Open files."""
    memory: Usage = Usage()
    """Of the process, in octets."""
    loop_lag_seconds: float = 0.0
    """Largest of the last few seconds."""
    tasks_failed_total: int = 0
    log_lines_dropped_total: int = 0
    saturation: Mapping[str, float] = field(default_factory=dict)
    """Resource to how full it is, 0..1 and above; see `catalog.RESOURCES`."""

    @property
    def binding(self) -> str | None:
        """The resource nearest to its limit, which decides what happens next."""
        return max(self.saturation, key=self.saturation.__getitem__, default=None)

    def age(self, now: float) -> float:
        """Seconds since it was made; `now` is monotonic."""
        return max(0.0, now - self.made_at)


class SnapshotHolder:
    """The one place where the main loop leaves a snapshot and others pick it up.

    A single reference is replaced, which is atomic in Python: a reader holds one whole snapshot.
    """

    def __init__(self) -> None:
        self._current: Snapshot | None = None

    @property
    def current(self) -> Snapshot | None:
        """The latest; None before the service has made one."""
        return self._current

    def swap(self, snapshot: Snapshot) -> None:
        """Publish `snapshot`."""
        self._current = snapshot
