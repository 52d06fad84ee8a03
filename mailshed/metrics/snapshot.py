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

from mailshed.control.limit_picture import LimitPicture
from mailshed.control.saturation import binding
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
    offered_ratio: float | None = None
    """Work that is offered over what the backend can do; None: not known."""
    drain_slots: int = 0
    """Slots that spooled mail may have in any case, that of the best two ranks aside."""
    next_probe_seconds: float = 0.0
    """Until the next attempt to reach it; 0 while it is up."""
    breaker: str = "closed"
    """`closed`, `half_open` (it answers again and gets more and more mail) or `open` (away)."""
    stuck_senders: int = 0
    """Senders whose messages have had no answer for a minute, or are in doubt since."""
    endings: Mapping[str, int] = field(default_factory=dict)
    """How messages ended, as far as the limit is concerned: numbers by ending."""
    last_error: str = ""
    queued_messages: int = 0
    """In the spool, to be delivered to it, whoever takes that mail now."""
    saturation: float = 0.0
    """How full it is, or the fullest of what all backends share: 0 to 1."""
    fallback: str = ""
    """The backend that takes its mail now, as it is away for long; empty: it does itself."""
    fallback_since_wall: float = 0.0
    away_seconds: float = 0.0
    """How long it has been away, if it has a fallback."""
    learning: LimitPicture | None = None
    """What an adaptive limit sees of the backend; None: the limit is fixed."""
    extensions: tuple[str, ...] = ()
    """What it offered in its last reply to EHLO, perhaps before it went away."""


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
    kept_back: str = ""
    """Why new mail of it is spooled at once: `diverted` or `override`; empty: it is not."""
    load: float | None = None
    """Share of the backend's capacity that its rank and better ones ask for; None: not known."""
    headroom: float = 1.0
    """Share that they may have."""
    saturation: float | None = None
    """How near its rank is to not fitting, 0 to 1; None: not known."""
    drain_seconds: float | None = 0.0
    """Until its spooled mail is delivered; None: not known, or the backlog does not shrink."""
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
class OverrideSnapshot:
    """What an operator has decided against the rules, for a time: `mailshed.control.overrides`."""

    id: int
    kind: str
    traffic_class: str = ""
    """Empty for a level."""
    value: int = 0
    """The level, or the slots."""
    user: str
    reason: str
    since_wall: float
    until_wall: float
    left_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SurgeSnapshot:
    """How much mail of one class comes, against the usual: `mailshed.control.surges`."""

    traffic_class: str
    network: str = ""
    """The part that comes from this network; empty for the whole class."""
    messages: int = 0
    """Of the last half hour."""
    ratio: float | None = None
    """Of them to what is usual at this time of the week; None while nothing is known."""
    is_alarm: bool = False
    is_crisis: bool = False
    """There is an alarm, or has been in the last days."""
    alarm_seconds: float = 0.0
    """How long there has been an alarm."""
    unexpected_work_seconds_total: float = 0.0
    """Slot-seconds of what came beyond the expected while there was an alarm, since the start; of
    whole classes."""


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
    is_stressed: bool = False
    """Whether sessions are scarce, so that strangers have less time."""
    listeners: tuple[str, ...] = ()
    """What is listened on, for people: `smtp 10.0.0.5:25`."""
    backends: tuple[BackendSnapshot, ...] = ()
    classes: tuple[ClassSnapshot, ...] = ()
    """By rank, 0 first."""
    spool: SpoolSnapshot = SpoolSnapshot()
    content_memory: Usage = Usage()
    content_disk: Usage = Usage()
    cached_recipients: Usage = Usage()
    remembered_logins: Usage = Usage()
    held_mailboxes: Usage = Usage()
    retry_tokens: Usage = Usage()
    pressure: float = 0.0
    """On the service as a whole, 0 to 1."""
    shed_level: int = 0
    """In force: derived, or forced by an operator."""
    derived_level: int = 0
    """What it would be by itself."""
    slow_replies: Usage = Usage()
    """Sessions whose reply to MAIL is late on purpose."""
    slow_replies_total: int = 0
    spool_fill: float = 0.0
    """The fullest measure of the spool, 1 being its limit."""
    quota_keys: Usage = Usage()
    retry_clients: Usage = Usage()
    tls_handshakes: Usage | None = None
    """Under way; None without TLS."""
    logins_failing: str = ""
    """Why nobody can say whether passwords are right; empty: somebody can, as far as is known."""
    logins_failing_seconds: float = 0.0
    """For so long that has been so."""
    certificate_ends_wall: float | None = None
    """When the certificate that clients are shown ends; None without TLS."""
    overrides: tuple[OverrideSnapshot, ...] = ()
    """In force, in the order in which they were asked for."""
    surges: tuple[SurgeSnapshot, ...] = ()
    """Whole classes first; empty if surges are not watched."""
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
        return binding(self.saturation)

    @property
    def service_saturation(self) -> float:
        """How full that is, 0 to 1."""
        name = self.binding
        return 0.0 if name is None else min(1.0, self.saturation[name])

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
