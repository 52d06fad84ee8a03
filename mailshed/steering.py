"""Lets the station see that time passes, tells it how hard pressed the service is, and says so.

The control loop calls `tick` four times a second. The saturation comes from the picture that was
taken a tick ago, which has all of it in one place; a quarter of a second is nothing beside the
seconds over which the pressure is averaged.

While observing nothing is acted on, so nothing is logged either: what would be done is in the
metrics, message by message.
"""

from collections.abc import Callable

from mailshed.clock import Clock
from mailshed.maillog import MailLog
from mailshed.metrics import SnapshotHolder
from mailshed.relay.gate import Gate
from mailshed.terms import ShedLevel


class Steering:
    """The hand on one gate. `has_due_mail`: whether the spool holds mail that may go out."""

    def __init__(
        self,
        *,
        gate: Gate,
        holder: SnapshotHolder,
        maillog: MailLog,
        clock: Clock,
        has_due_mail: Callable[[], bool],
    ) -> None:
        self._gate = gate
        self._holder = holder
        self._log = maillog
        self._clock = clock
        self._has_due_mail = has_due_mail
        self._level = ShedLevel.NORMAL

    def tick(self) -> None:
        """Do the work of one period."""
        gate, snapshot = self._gate, self._holder.current
        gate.tick(has_spooled=self._has_due_mail())
        shedding = gate.station.shedding
        if snapshot is not None:
            full, now = snapshot.service_saturation, self._clock.monotonic()
            shedding.note_saturation(full, now, is_away=not gate.is_up)
        if gate.is_observing:
            return
        for traffic_class, is_diverting, cause in gate.station.diverted:
            if is_diverting:
                self._log.divert_begun(traffic_class.name, cause)
            else:
                self._log.divert_ended(traffic_class.name)
        if shedding.level is not self._level:
            self._log.shed_level(self._level, shedding.level)
            self._level = shedding.level
