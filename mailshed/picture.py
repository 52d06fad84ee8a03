"""Makes the snapshot: reads each part of the running service once and puts it side by side.

The spool is the one part that can fail to answer. What it held when it last could say is shown
then, with the reason why it is sick: who looks at such a service needs the rest of the picture.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from mailshed import __version__
from mailshed.clock import Clock
from mailshed.config.policy import ClassificationPolicy
from mailshed.control.saturation import LOOP_LAG_FULL, Level, saturation
from mailshed.control.signals.event_loop import EventLoopLag
from mailshed.errors import SpoolError
from mailshed.mail.content import Budget, ContentStore
from mailshed.metrics import (
    BackendSnapshot,
    ClassSnapshot,
    QueueSnapshot,
    Snapshot,
    SpoolSnapshot,
    Usage,
)
from mailshed.relay.backend import Backend
from mailshed.relay.gate import Gate
from mailshed.spool.store import SpoolStore, SpoolTotals

# A snapshot does not wait for a slow disk longer than this (seconds).
TOTALS_PATIENCE = 0.5


@dataclass(slots=True)
class Status:
    """What only the composition root knows: written there, read here."""

    hostname: str
    target: str
    config_hash: str
    config_loaded_wall: float
    started_wall: float
    sessions_max: int
    listeners: tuple[str, ...] = ()
    reload_ok: bool = True
    is_stopping: bool = False
    tasks_failed: int = 0
    totals: SpoolTotals = field(default_factory=SpoolTotals)
    """The spool's totals when it was last asked with success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Painter:
    """Takes pictures of one service."""

    status: Status
    gate: Gate
    backend: Backend
    spool: SpoolStore
    contents: ContentStore
    classification: Callable[[], ClassificationPolicy]
    sessions: Callable[[], int]
    lines_dropped: Callable[[], int]
    message_totals: Callable[[str], tuple[int, int, int]]
    """Of one class: messages relayed, spooled, and delivered from the spool, since the start."""
    clock: Clock

    async def take(self, lag: EventLoopLag) -> Snapshot:
        """Make a snapshot of this instant."""
        status, wall = self.status, self.clock.wall()
        totals = await self._totals()
        backend = self._backend()
        return Snapshot(
            made_at=self.clock.monotonic(),
            wall=wall,
            hostname=status.hostname,
            version=__version__,
            started_wall=status.started_wall,
            config_hash=status.config_hash,
            config_loaded_wall=status.config_loaded_wall,
            reload_ok=status.reload_ok,
            is_stopping=status.is_stopping,
            sessions=Usage(used=self.sessions(), limit=status.sessions_max),
            listeners=status.listeners,
            backends=(backend,),
            classes=self._classes(totals, wall),
            spool=self._spool(totals),
            content_memory=_usage(self.contents.memory),
            content_disk=_usage(self.contents.disk),
            loop_lag_seconds=lag.recent_max,
            tasks_failed_total=status.tasks_failed,
            log_lines_dropped_total=self.lines_dropped(),
            saturation=self._saturation(backend, totals, lag),
        )

    async def _totals(self) -> SpoolTotals:
        """The spool's totals, or the last known ones while it is sick or slow to answer."""
        with suppress(SpoolError, TimeoutError):
            async with asyncio.timeout(TOTALS_PATIENCE):
                self.status.totals = await self.spool.totals()
        return self.status.totals

    def _backend(self) -> BackendSnapshot:
        gate, connections = self.gate, self.backend.connections()
        return BackendSnapshot(
            name=self.backend.name,
            target=self.status.target,
            is_up=gate.is_up,
            in_flight=gate.in_flight,
            limit=gate.limit,
            waiting=gate.waiting,
            connections_busy=connections.busy,
            connections_idle=connections.idle,
            connections_opened_total=connections.opened_total,
            connections_failed_total=connections.failed_total,
            next_probe_seconds=gate.next_probe,
            last_error=gate.last_error,
        )

    def _classes(self, totals: SpoolTotals, wall: float) -> tuple[ClassSnapshot, ...]:
        made = []
        for each in self.classification().classes:
            queued = [part for part in totals.by_class if part.traffic_class == each.name]
            oldest = min((part.oldest_wall for part in queued if part.messages), default=wall)
            relayed, spooled, delivered = self.message_totals(each.name)
            made.append(
                ClassSnapshot(
                    name=each.name,
                    rank=each.rank,
                    objective_seconds=each.objective,
                    waiting=self.gate.waiting_of(each),
                    in_flight=self.gate.in_flight_of(each),
                    relayed_total=relayed,
                    spooled_total=spooled,
                    delivered_total=delivered,
                    queued_messages=sum(part.messages for part in queued),
                    queued_octets=sum(part.octets for part in queued),
                    oldest_age_seconds=max(0.0, wall - oldest),
                )
            )
        return tuple(sorted(made, key=lambda made_class: made_class.rank))

    def _spool(self, totals: SpoolTotals) -> SpoolSnapshot:
        reason = self.spool.unhealthy_reason()
        return SpoolSnapshot(
            is_healthy=reason is None,
            sick_reason=reason or "",
            queues=tuple(
                QueueSnapshot(
                    traffic_class=each.traffic_class,
                    state=each.state.value,
                    messages=each.messages,
                    recipients=each.recipients,
                    octets=each.octets,
                )
                for each in totals.by_class
            ),
            ledger=totals.ledger,
            octets=totals.octets,
            octets_max=totals.octets_max,
            messages=totals.messages,
            messages_max=totals.messages_max,
            disk_free=totals.disk_free,
            disk_reserve=totals.disk_reserve,
        )

    def _saturation(
        self, backend: BackendSnapshot, totals: SpoolTotals, lag: EventLoopLag
    ) -> dict[str, float]:
        contents = self.contents
        levels = {
            "backend_slots": Level(backend.in_flight, backend.limit),
            "sessions": Level(self.sessions(), self.status.sessions_max),
            "spool_bytes": Level(totals.octets, totals.octets_max),
            "spool_messages": Level(totals.messages, totals.messages_max),
            "content_memory": Level(contents.memory.used, contents.memory.limit),
            "content_disk": Level(contents.disk.used, contents.disk.limit),
            "event_loop": Level(lag.recent_max, LOOP_LAG_FULL),
        }
        return saturation(levels, is_backend_away=not backend.is_up)


def _usage(budget: Budget) -> Usage:
    return Usage(used=budget.used, limit=budget.limit)
