"""Makes the snapshot: reads each part of the running service once and puts it side by side.

The spool is the one part that can fail to answer. What it held when it last could say is shown
then, with the reason why it is sick: who looks at such a service needs the rest of the picture.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace

from mailshed import __version__
from mailshed.admission.entrance import Entrance
from mailshed.admission.learned import CLIENTS_MAX
from mailshed.backend_picture import BackendPainter, View, fullest_level, own_loads, worst
from mailshed.clock import Clock
from mailshed.config.policy import ClassificationPolicy
from mailshed.control.limit_picture import LimitPicture
from mailshed.control.saturation import LOOP_LAG_FULL, Level, disk_level, saturation
from mailshed.control.signals.event_loop import EventLoopLag
from mailshed.control.signals.process import ProcessUsage
from mailshed.errors import SpoolError
from mailshed.mail.content import Budget, ContentStore
from mailshed.metrics import (
    ClassSnapshot,
    History,
    OverrideSnapshot,
    Snapshot,
    SurgeSnapshot,
    Totals,
    Usage,
)
from mailshed.outlook import DUE
from mailshed.relay.destination import Destinations
from mailshed.spool.store import ClassTotals, SpoolStore, SpoolTotals
from mailshed.spool_picture import fill_of, spool_snapshot
from mailshed.terms import TrafficClass

# A snapshot does not wait for a slow disk longer than this (seconds).
TOTALS_PATIENCE = 0.5


@dataclass(slots=True)
class Status:
    """What only the composition root knows: written there, read here."""

    hostname: str
    config_hash: str
    config_loaded_wall: float
    started_wall: float
    sessions_max: int
    quota_keys_max: int = 0
    listeners: tuple[str, ...] = ()
    reload_ok: bool = True
    is_stopping: bool = False
    tasks_failed: int = 0
    totals: SpoolTotals = field(default_factory=SpoolTotals)
    """The spool's totals when it was last asked with success."""
    spool_fill: float = 0.0
    """How full the spool was then, by its fullest measure."""

    def has_due_mail(
        self, held: Collection[str] = (), backends: Collection[str] | None = None
    ) -> bool:
        """Whether the spool held mail that is to be delivered now; not of the classes `held`.

        If `backends` are named: mail for one of these.
        """
        totals = self.totals if backends is None else self.totals.of(backends)
        return any(
            part.messages
            for part in totals.by_class
            if part.state in DUE and part.traffic_class not in held
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Painter:
    """Takes pictures of one service."""

    status: Status
    destinations: Destinations
    entrance: Entrance
    spool: SpoolStore
    contents: ContentStore
    classification: Callable[[], ClassificationPolicy]
    sessions: Callable[[], int]
    lines_dropped: Callable[[], int]
    message_totals: Callable[[str], Totals]
    """Of one class, since the start."""
    process: Callable[[float], ProcessUsage]
    """What the process uses; takes the monotonic time."""
    clock: Clock
    is_stressed: Callable[[], bool] = lambda: False
    cached_recipients: Callable[[], Usage] = Usage
    remembered_logins: Callable[[], Usage] = Usage
    logins_failing: Callable[[], tuple[str, float]] = lambda: ("", 0.0)
    """Why nobody can log in, and for how many seconds; an empty text if they can."""
    limit_picture: Callable[[str], LimitPicture | None] = lambda _: None
    """Of one backend; None if its limit is fixed."""
    extensions: Callable[[str], tuple[str, ...]] = lambda _: ()
    """What one backend offers."""
    overrides: Callable[[], tuple[OverrideSnapshot, ...]] = tuple
    held_mailboxes: Callable[[], Usage] = Usage
    retry_tokens: Callable[[], Usage] = Usage
    surges: Callable[[], tuple[SurgeSnapshot, ...]] = tuple
    slow_replies: Callable[[], tuple[Usage, int]] = lambda: (Usage(), 0)
    """How many there are now, of so many, and since the start."""
    tls: Callable[[], tuple[Usage, float] | None] = lambda: None
    """Handshakes that are under way, and when the certificate ends; None without TLS."""
    history: History = field(default_factory=History)

    async def take(self, lag: EventLoopLag) -> Snapshot:
        """Make a snapshot of this instant."""
        status, wall = self.status, self.clock.wall()
        totals = await self._totals()
        now = self.clock.monotonic()
        process = self.process(now)
        backends = BackendPainter(
            destinations=self.destinations,
            limit_picture=self.limit_picture,
            extensions=self.extensions,
        )
        views = backends.views(totals)
        loads = own_loads(views, self.classification().classes, now, wall)
        ratios = self._saturation(totals, lag, process)
        sheddings = [each.gate.station.shedding for each in self.destinations]
        slow_replies, slow_replies_total = self.slow_replies()
        tls = self.tls()
        logins_failing, failing_seconds = self.logins_failing()
        return Snapshot(
            made_at=now,
            wall=wall,
            hostname=status.hostname,
            version=__version__,
            started_wall=status.started_wall,
            config_hash=status.config_hash,
            config_loaded_wall=status.config_loaded_wall,
            reload_ok=status.reload_ok,
            is_observing=self.destinations.default.gate.is_observing,
            is_stopping=status.is_stopping,
            sessions=Usage(used=self.sessions(), limit=status.sessions_max),
            is_stressed=self.is_stressed(),
            listeners=status.listeners,
            backends=backends.snapshots(views, totals, ratios, loads, now=now, wall=wall),
            classes=self._classes(backends, views, totals, now, wall),
            spool=spool_snapshot(totals, self.spool.unhealthy_reason()),
            content_memory=_usage(self.contents.memory),
            content_disk=_usage(self.contents.disk),
            cached_recipients=self.cached_recipients(),
            remembered_logins=self.remembered_logins(),
            logins_failing=logins_failing,
            logins_failing_seconds=failing_seconds,
            held_mailboxes=self.held_mailboxes(),
            retry_tokens=self.retry_tokens(),
            surges=self.surges(),
            pressure=max(each.pressure.value for each in sheddings),
            shed_level=max(each.level for each in sheddings),
            derived_level=max(each.derived_level for each in sheddings),
            slow_replies=slow_replies,
            slow_replies_total=slow_replies_total,
            spool_fill=status.spool_fill,
            overrides=self.overrides(),
            tls_handshakes=tls[0] if tls is not None else None,
            certificate_ends_wall=tls[1] if tls is not None else None,
            quota_keys=Usage(used=len(self.entrance.quotas), limit=status.quota_keys_max),
            retry_clients=Usage(used=len(self.entrance.retries), limit=CLIENTS_MAX),
            files=Usage(used=process.files, limit=process.files_max),
            memory=Usage(used=process.memory, limit=process.memory_max),
            loop_lag_seconds=lag.recent_max,
            tasks_failed_total=status.tasks_failed,
            log_lines_dropped_total=self.lines_dropped(),
            saturation=ratios | worst(loads),
        )

    async def _totals(self) -> SpoolTotals:
        """The spool's totals, or the last known ones while it is sick or slow to answer."""
        with suppress(SpoolError, TimeoutError):
            async with asyncio.timeout(TOTALS_PATIENCE):
                self.status.totals = await self.spool.totals()
                self.status.spool_fill = fill_of(self.status.totals)
        return self.status.totals

    def _classes(
        self,
        backends: BackendPainter,
        views: list[View],
        totals: SpoolTotals,
        now: float,
        wall: float,
    ) -> tuple[ClassSnapshot, ...]:
        """The configured ones, and the lost ones that the spool still has mail of."""
        policy = self.classification()
        queued: dict[str, list[ClassTotals]] = {each.name: [] for each in policy.classes}
        for part in totals.by_class:
            if part.messages:
                queued.setdefault(part.traffic_class, []).append(part)
        counts = {name: self.message_totals(name) for name in queued}
        recent = self.history.note(
            now, counts, {name: _messages(parts) for name, parts in queued.items()}
        )
        configured = {each.name: each for each in policy.classes}
        made = [
            replace(
                self._class(
                    backends,
                    configured.get(name) or replace(policy.default, name=name),
                    parts,
                    wall,
                ),
                relayed_total=counts[name].relayed,
                spooled_total=counts[name].spooled,
                delivered_total=counts[name].drained,
                recent=recent[name],
                is_configured=name in configured,
            )
            for name, parts in queued.items()
        ]
        made.sort(key=lambda made_class: made_class.rank)
        return tuple(backends.with_load(made, views, now))

    def _class(
        self,
        backends: BackendPainter,
        traffic_class: TrafficClass,
        queued: list[ClassTotals],
        wall: float,
    ) -> ClassSnapshot:
        oldest = min((part.oldest_wall for part in queued if part.state in DUE), default=wall)
        made = ClassSnapshot(
            name=traffic_class.name,
            rank=traffic_class.rank,
            objective_seconds=traffic_class.objective,
            queued_messages=_messages(queued),
            queued_octets=sum(part.octets for part in queued),
            oldest_age_seconds=max(0.0, wall - oldest),
        )
        return backends.with_slots(made, traffic_class)

    def _saturation(
        self, totals: SpoolTotals, lag: EventLoopLag, process: ProcessUsage
    ) -> dict[str, float]:
        contents, gates = self.contents, [each.gate for each in self.destinations]
        levels = {  # of equals the first binds: without room in the spool nothing is caught
            "spool_bytes": Level(totals.octets, totals.octets_max),
            "spool_messages": Level(totals.messages, totals.messages_max),
            "spool_disk": disk_level(free=totals.disk_free, reserve=totals.disk_reserve),
            "backend_slots": fullest_level(Level(each.in_flight, each.limit) for each in gates),
            "sessions": Level(self.sessions(), self.status.sessions_max),
            "content_memory": Level(contents.memory.used, contents.memory.limit),
            "content_disk": Level(contents.disk.used, contents.disk.limit),
            "event_loop": Level(lag.recent_high, LOOP_LAG_FULL),
            "live_waiting": fullest_level(
                Level(each.live_waiting, each.live_waiting_limit) for each in gates
            ),
            "files": Level(process.files, process.files_max),
            "memory": Level(process.memory, process.memory_max),
        }
        return saturation(levels, is_backend_away=not all(each.is_up for each in gates))


def _messages(parts: list[ClassTotals]) -> int:
    return sum(part.messages for part in parts)


def _usage(budget: Budget) -> Usage:
    return Usage(used=budget.used, limit=budget.limit)
