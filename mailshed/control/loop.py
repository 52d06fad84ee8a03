"""What happens by the clock: the picture of the service, the health of the spool, the watchdog.

Every `SNAPSHOT_SECONDS` a tick measures its own lateness, swaps in a new snapshot for the
operations thread, and notices what has changed since the last one: a backend that went away or came
back, a spool that fell sick or is full. As often, and apart from it, the limit sees that time
passes. The systemd watchdog is fed first, so it sees the event
loop and nothing else: not a tick that fails, not a disk that hangs.

A sick spool is asked to recover about once a second, beside the ticks, because that reads the whole
of it; meanwhile mail is relayed as long as the backend takes it (relay-only mode) and promises on
behalf of the spool are not made.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from mailshed.clock import Clock
from mailshed.control.signals.event_loop import EventLoopLag
from mailshed.errors import SpoolError
from mailshed.maillog import MailLog
from mailshed.metrics import SNAPSHOT_SECONDS, Metrics, Snapshot, SnapshotHolder

LAG_WORTH_A_LINE = 1.0
RECOVERY_PAUSE = 1.0
STEER_SECONDS = 0.25
STATUS_PAUSE = 5.0
# A spool at its limit has room for a moment after each delivery; that is not the end of it.
ROOM_PROOF = 10.0


class WatchedSpool(Protocol):
    """What the loop needs of the spool."""

    def unhealthy_reason(self) -> str | None:
        """Why the spool makes no promises, or None."""
        ...

    async def recover(self) -> None:
        """Verify the spool and take it into service again. Raises SpoolError if it is not well."""
        ...


class ControlLoop:
    """The periodic tasks of one service."""

    def __init__(
        self,
        *,
        take_snapshot: Callable[[EventLoopLag], Awaitable[Snapshot]],
        steer: Callable[[], None],
        holder: SnapshotHolder,
        spool: WatchedSpool,
        metrics: Metrics,
        maillog: MailLog,
        clock: Clock,
        feed_watchdog: Callable[[], object],
        show_status: Callable[[str], object],
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._take_snapshot = take_snapshot
        self._steer = steer
        self._holder = holder
        self._spool = spool
        self._metrics = metrics
        self._log = maillog
        self._clock = clock
        self._feed_watchdog = feed_watchdog
        self._show_status = show_status
        self._on_failure = on_failure
        self._lag = EventLoopLag(SNAPSHOT_SECONDS)
        self._away_since: dict[str, float] = {}
        self._restoring_since: dict[str, float] = {}
        """Backends that answer again and do not have all mail yet: since when they were away."""
        self._sick_since: float | None = None
        self._full_since: float | None = None
        self._room_since: float | None = None
        self._next_status = 0.0

    async def run(self) -> None:
        """Tick, and look after the spool, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat("control loop", self.tick, SNAPSHOT_SECONDS))
            group.create_task(self._repeat("limit", self.steer, STEER_SECONDS))
            group.create_task(self._repeat("spool recovery", self.recover, RECOVERY_PAUSE))

    async def _repeat(self, name: str, step: Callable[[], Awaitable[None]], pause: float) -> None:
        """Run `step` for ever; one that fails is reported, once, and the next one comes."""
        failure = ""
        while True:
            try:
                await step()
                failure = ""
            except Exception as error:  # noqa: BLE001 - the service outlives its instruments
                if repr(error) != failure:
                    self._on_failure(name, error)
                failure = repr(error)
            await asyncio.sleep(pause)

    async def tick(self) -> None:
        """Do the work of one period."""
        now = self._clock.monotonic()
        lag = self._lag.tick(now)
        self._feed_watchdog()  # first: what follows may fail, and the loop is alive all the same
        self._metrics.loop_lag(lag)
        if lag > LAG_WORTH_A_LINE:
            self._log.watch(lag_seconds=lag)
        try:
            await self._look(now)
        finally:
            self._lag.rest(self._clock.monotonic())

    async def steer(self) -> None:
        """Let the limit, and all that follows from it, see that time passes.

        Apart from the picture, so that a fault in one does not stop the other. While this fails,
        the limit stays as it was last.
        """
        self._steer()

    async def _look(self, now: float) -> None:
        self._note_spool()
        snapshot = await self._take_snapshot(self._lag)
        self._holder.swap(snapshot)
        self._note_backends(snapshot, now)
        self._note_room(snapshot, now)
        if now >= self._next_status:
            self._next_status = now + STATUS_PAUSE
            self._show_status(summary(snapshot))

    async def recover(self) -> None:
        """Try once to take a sick spool into service again."""
        if self._spool.unhealthy_reason() is None:
            return
        self._note_spool()
        with suppress(SpoolError):  # it says why by itself, in unhealthy_reason
            await self._spool.recover()
        self._note_spool()

    def _note_spool(self) -> None:
        """Log that the spool has fallen sick, or is well again."""
        now, reason = self._clock.monotonic(), self._spool.unhealthy_reason()
        if reason is not None and self._sick_since is None:
            self._sick_since = now
            self._log.spool_sick(detail=reason)
        elif reason is None and self._sick_since is not None:
            self._log.spool_recovered(sick_seconds=now - self._sick_since)
            self._sick_since = None

    def _note_backends(self, snapshot: Snapshot, now: float) -> None:
        for backend in snapshot.backends:
            since = self._away_since.get(backend.name)
            if not backend.is_up and since is None:
                self._away_since[backend.name] = now
                self._log.backend_away(
                    backend.name,
                    detail=backend.last_error,
                    next_probe_seconds=backend.next_probe_seconds,
                )
            elif backend.is_up and since is not None:
                self._restoring_since[backend.name] = self._away_since.pop(backend.name)
                self._log.backend_back(backend.name, away_seconds=now - since)
            if backend.breaker == "closed" and backend.name in self._restoring_since:
                since = self._restoring_since.pop(backend.name)
                self._log.backend_restored(backend.name, seconds=now - since)

    def _note_room(self, snapshot: Snapshot, now: float) -> None:
        """Log that the spool is full, or has had room for a while."""
        if not snapshot.spool.is_healthy:
            return  # its figures are those of before
        if reason := snapshot.spool.full_reason:
            self._room_since = None
            if self._full_since is None:
                self._full_since = now
                self._log.spool_full(detail=reason)
        elif self._full_since is not None:
            if self._room_since is None:
                self._room_since = now
            if now - self._room_since >= ROOM_PROOF:
                self._log.spool_has_room(full_seconds=self._room_since - self._full_since)
                self._full_since = self._room_since = None


def summary(snapshot: Snapshot) -> str:
    """One line for `systemctl status`."""
    queued = snapshot.spool.messages
    parts = [f"{queued} queued"]
    parts += [
        f"{backend.name} {backend.in_flight}/{backend.limit}"
        if backend.is_up
        else f"{backend.name} AWAY"
        for backend in snapshot.backends
    ]
    if not snapshot.spool.is_healthy:
        parts.append("SPOOL SICK, relaying only")
    elif snapshot.spool.full_reason:
        parts.append(f"SPOOL FULL: {snapshot.spool.full_reason}")
    return ", ".join(parts)
