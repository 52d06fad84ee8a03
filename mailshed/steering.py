"""Lets the stations see that time passes, tells them how hard pressed the service is, and says so.

The control loop calls `tick` four times a second. The saturation comes from the picture that was
taken a tick ago, which has all of it in one place; a quarter of a second is nothing beside the
seconds over which the pressure is averaged. Of several backends each is told of what all share and
of itself, so that one which is away puts no pressure on the mail of the others.

Here fallbacks begin and end, too (`control.fallback`); the drain is told, which has mail waiting.

While observing nothing is acted on, so nothing is logged of shedding either: what would be done is
in the metrics, message by message. Routes and fallbacks are no shedding: they work all the same.
"""

from collections.abc import Callable

from mailshed.clock import Clock
from mailshed.control.fallback import FallbackChange
from mailshed.maillog import MailLog
from mailshed.metrics import Snapshot, SnapshotHolder
from mailshed.relay.destination import Destination, Destinations
from mailshed.terms import ShedLevel


def _nobody(_: str) -> None:
    """Nobody has mail waiting."""


class Steering:
    """The hand on all gates.

    `has_due_mail` says whether the spool holds mail that may go out through a backend;
    `on_fallback` is told of which backend the mail goes another way from now on.
    """

    def __init__(
        self,
        *,
        destinations: Destinations,
        holder: SnapshotHolder,
        maillog: MailLog,
        clock: Clock,
        has_due_mail: Callable[[Destination], bool],
        on_fallback: Callable[[str], None] = _nobody,
    ) -> None:
        self._destinations = destinations
        self._holder = holder
        self._log = maillog
        self._clock = clock
        self._has_due_mail = has_due_mail
        self._on_fallback = on_fallback
        self._level = ShedLevel.NORMAL

    def tick(self) -> None:
        """Do the work of one period."""
        snapshot, now = self._holder.current, self._clock.monotonic()
        for destination in self._destinations:
            gate = destination.gate
            gate.tick(has_spooled=self._has_due_mail(destination))
            if snapshot is not None:
                full, is_away = self._saturation(snapshot, destination), not gate.is_up
                if self._destinations.taker(destination.name) is not destination:
                    full, is_away = 0.0, False  # nothing waits for it: another takes its mail
                gate.station.shedding.note_saturation(full, now, is_away=is_away)
        for change in self._destinations.tick(now):
            self._tell(change)
            self._on_fallback(change.backend)
        if not self._destinations.default.gate.is_observing:
            self._tell_what_is_shed()

    def _saturation(self, snapshot: Snapshot, destination: Destination) -> float:
        """How full the backend is, or what all backends share."""
        if self._destinations.is_single:
            return snapshot.service_saturation
        found = (each.saturation for each in snapshot.backends if each.name == destination.name)
        return next(found, 0.0)

    def _tell(self, change: FallbackChange) -> None:
        if change.has_begun:
            self._log.fallback_began(
                change.backend, fallback=change.fallback, away_seconds=change.seconds
            )
            return
        self._log.fallback_ended(
            change.backend,
            fallback=change.fallback,
            cause="back" if change.is_back else "fallback_away",
            seconds=change.seconds,
        )

    def _tell_what_is_shed(self) -> None:
        """Classes that begin or cease to divert, and the level: the highest of all backends."""
        is_single = self._destinations.is_single
        for destination in self._destinations:
            backend = None if is_single else destination.name
            for traffic_class, is_diverting, cause in destination.gate.station.diverted:
                if is_diverting:
                    self._log.divert_begun(traffic_class.name, cause, backend=backend)
                else:
                    self._log.divert_ended(traffic_class.name, backend=backend)
        level = max(each.gate.station.shedding.level for each in self._destinations)
        if level is not self._level:
            self._log.shed_level(self._level, level)
            self._level = level
