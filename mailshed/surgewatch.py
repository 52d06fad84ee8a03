"""The surge watch: what is unusual at this hour of the week, learned, told and kept.

The shell around `control.surges`. It counts each message as it is classified, with the name of the
network that its client is in; says every few seconds which minute of the local week it is, holidays
counted as Sundays; writes a line in the log when a surge begins or ends; gives the quotas of surges
to the entrance; and keeps what was learned, as it takes weeks to learn, in the spool's folder.

Saved is every `SAVE_SECONDS` and at a stop, in a thread. What a crash costs is as much of the
learning. A file that cannot be read is a line in the log and a new beginning. Switched off, it
counts nothing and forgets nothing.

All of it belongs to the main loop.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from mailshed.clock import Clock
from mailshed.config.policy import Quota, SurgePolicy
from mailshed.control.surges import OTHER, SurgeChange, SurgeKey, Surges, SurgeState
from mailshed.errors import RequestError, StateError
from mailshed.mail.envelope import Client
from mailshed.mail.network_names import NetworkNames
from mailshed.maillog import MailLog
from mailshed.metrics import SurgeSnapshot
from mailshed.statefile import Document, StateFile

FILE_NAME = "surge"
LOOK_SECONDS = 5.0
SAVE_SECONDS = 300.0
_SUNDAY = 6


class SurgeWatch:
    """The surges of one service.

    `on_quotas` is told every few seconds what surges allow, by class, in messages a second.
    `seconds_of` says how long the unloaded backend needs for a message of some octets and
    recipients, None while that is not known.
    """

    def __init__(
        self,
        policy: SurgePolicy,
        *,
        file: StateFile,
        on_quotas: Callable[[Mapping[str, Quota]], None],
        seconds_of: Callable[[int, int], float | None],
        maillog: MailLog,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._file = file
        self._on_quotas = on_quotas
        self._seconds_of = seconds_of
        self._log = maillog
        self._clock = clock
        self._on_failure = on_failure
        self._surges = Surges(policy.classes, tuple(policy.networks))
        self._is_loaded = False
        self._unsaved = ""
        """Why what was learned is not saved."""
        self._writing = threading.Lock()
        self._asked = self._written = 0
        self._save_at = 0.0
        # They change once a minute and are asked for four times a second.
        self._shown: tuple[SurgeSnapshot, ...] = ()
        self._shown_states: Mapping[SurgeKey, SurgeState] | None = None
        self._put(policy)

    @property
    def policy(self) -> SurgePolicy:
        """What is watched; may be replaced at any time."""
        return self._policy

    @policy.setter
    def policy(self, policy: SurgePolicy) -> None:
        self._surges.configure(policy.classes, tuple(policy.networks))
        self._put(policy)
        self._tell_quotas()

    def _put(self, policy: SurgePolicy) -> None:
        self._policy = policy
        told_apart = {name: policy.networks[name] for name in self._surges.networks}
        self._names = NetworkNames(told_apart)
        self._zone: tzinfo | None = ZoneInfo(policy.time_zone) if policy.time_zone else None

    def note(self, client: Client, traffic_class: str, size: int, recipients: int) -> None:
        """Count a message that has its class."""
        if self._policy.is_enabled:
            network = self._names.name_of(client.address.version, client.address_number)
            self._surges.count(traffic_class, network or OTHER, size, recipients)

    async def load(self) -> None:
        """Take up what was learned before; to be called before anything is counted."""
        try:
            document = await asyncio.to_thread(self._file.load)
            if document is not None:
                self._surges.restore(document)
        except StateError as error:
            self._log.surges_lost(detail=str(error))
        self._is_loaded = True

    async def run(self) -> None:
        """Look every few seconds, and save every few minutes, until cancelled."""
        failure = ""
        self._save_at = self._clock.monotonic() + SAVE_SECONDS
        while True:
            try:
                self.look()
                failure = ""
            except Exception as error:  # noqa: BLE001 - mail goes on, and the next look comes
                if repr(error) != failure:
                    self._on_failure("surge watch", error)
                failure = repr(error)
            if self._clock.monotonic() >= self._save_at:
                await self._try_to_save()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Let time pass."""
        if not self._policy.is_enabled:
            return
        minute = minute_of_week(self._clock.wall(), self._zone, self._policy.holidays)
        changes = self._surges.tick(self._clock.monotonic(), minute, self._seconds_of)
        for change in changes:
            self._tell(change)
        self._tell_quotas()

    async def save(self) -> None:
        """Keep what was learned. Raises StateError if that fails; another time comes."""
        if not self._is_loaded:
            return  # or a start that failed would replace weeks by nothing
        self._save_at = self._clock.monotonic() + SAVE_SECONDS
        self._asked += 1
        await asyncio.to_thread(self._write, self._surges.document(), self._asked)

    def _write(self, document: Document, number: int) -> None:
        """In a thread; one that was given up may still be at it when the next one comes."""
        with self._writing:
            if number > self._written:
                self._file.save(document)
                self._written = number

    async def close(self) -> None:
        """Save a last time; a failure is told."""
        await self._try_to_save()

    async def _try_to_save(self) -> None:
        """Save, or tell why that is not possible, once."""
        try:
            await self.save()
        except StateError as error:
            if str(error) != self._unsaved:
                self._log.surges_unsaved(detail=str(error))
            self._unsaved = str(error)
        except Exception as error:  # noqa: BLE001 - neither mail nor the stop may end with it
            if repr(error) != self._unsaved:
                self._on_failure("surge watch", error)
            self._unsaved = repr(error)
        else:
            self._unsaved = ""

    async def adopt(self, traffic_class: str, user: str, reason: str) -> dict[str, float]:
        """Take the surge of a class, and of its networks, as usual from now on.

        Returns by network ("" for the whole class) how many times the usual that is. Raises
        RequestError if there is none, and StateError if it could not be saved.
        """
        if traffic_class not in {each.name for each in self._policy.classes}:
            raise RequestError(f"class: {traffic_class} is not configured")
        adopted = self._surges.adopt(traffic_class)
        if not adopted:
            raise RequestError(
                f"class: {traffic_class} has had no surge in the last days, so there is nothing to"
                " adopt; `mailshed surge list` shows which have"
            )
        self._tell_quotas()
        for key, factor in adopted.items():
            self._log.surge_adopted(*key, factor=factor, by=user, reason=reason)
        await self.save()
        return {key.network: factor for key, factor in adopted.items()}

    def snapshots(self) -> tuple[SurgeSnapshot, ...]:
        """How much of what is usual each class and network sends, for people and machines."""
        if not self._policy.is_enabled:
            return ()
        states, work = self._surges.states, self._surges.unexpected_work
        if states is self._shown_states:
            return self._shown
        self._shown_states = states
        self._shown = tuple(
            SurgeSnapshot(
                traffic_class=key.traffic_class,
                network=key.network,
                messages=state.messages,
                ratio=state.ratio,
                is_alarm=state.is_alarm,
                is_crisis=state.is_crisis,
                alarm_seconds=state.alarm_seconds,
                unexpected_work_seconds_total=0.0 if key.network else work[key.traffic_class],
            )
            for key, state in states.items()
        )
        return self._shown

    def _tell_quotas(self) -> None:
        policy, rates = self._policy, dict[str, float]()
        if policy.is_enabled and policy.quota is not None:
            rates = self._surges.quotas(policy.quota)
        self._on_quotas({name: Quota(hard=rate) for name, rate in rates.items()})

    def _tell(self, change: SurgeChange) -> None:
        key, state = change.key, change.state
        if change.is_alarm:
            expected = state.expected
            self._log.surge_began(
                *key, ratio=state.ratio, messages=state.messages, expected=expected
            )
        else:
            self._log.surge_ended(*key, ratio=state.ratio, seconds=change.seconds)


def minute_of_week(wall: float, zone: tzinfo | None, holidays: frozenset[str]) -> int:
    """The minute of the local week, from Monday 0:00, at Unix time `wall`.

    `zone` None is the system's; a day that is among `holidays` is a Sunday.
    """
    local = datetime.fromtimestamp(wall, UTC).astimezone(zone)
    day = local.date().isoformat()
    is_holiday = day in holidays or day[5:] in holidays
    weekday = _SUNDAY if is_holiday else local.weekday()
    return (weekday * 24 + local.hour) * 60 + local.minute
