"""Surges of all mail that is watched: each traffic class, and each class from each named network.

`count` is called for every message and only counts; once a minute `tick` hands the counts to one
detector (`surge`) for each key. The keys come from the configuration and never from a client: with
the networks that `classification.networks` names, and `OTHER` for the rest, there are at most
`KEYS_MAX`, of some 25 KiB each. Where that is not enough, the last networks count as `OTHER`.

An alarm alone throttles nobody. A class above rank 0 that has one gets a hard quota of `factor`
times what is expected of it, in messages, since messages are what is counted, and hard quotas bite
only under pressure. Alarms of networks tell where a surge comes from, and have no effect.

Time is safe to be wrong. Minutes are counted on the monotonic clock. When the place in the week
jumps, since the clock was set or summer time began, the hour in progress ends with what it has, and
no alarm begins for `DOUBT_SECONDS`. When nobody has ticked for long, what was counted is dropped.

Pure: `now` is monotonic seconds, `minute` the minute of the local week.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mailshed.control.surge import Surge
from mailshed.control.usual import WEEK_MINUTES
from mailshed.errors import StateError
from mailshed.terms import TrafficClass

OTHER = "other"
"""The network of clients that are in none with a name."""
KEYS_MAX = 256
TICK_SECONDS = 60.0
GAP_SECONDS = 300.0
"""After a longer pause than that nobody knows when the messages came."""
STEP_MINUTES = 2.0
"""A larger difference between the clocks is no rounding."""
DOUBT_SECONDS = 1800.0

_VERSION = 1


class SurgeKey(NamedTuple):
    """What is watched: a class, or as much of it as comes from one network."""

    traffic_class: str
    network: str = ""
    """Empty for the whole class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurgeState:
    """One key after the last minute."""

    key: SurgeKey
    messages: int
    """Of the last half hour."""
    ratio: float | None
    """Of them to the usual number for this time of the week; None while nothing is known."""
    expected: float
    """Messages a minute."""
    alarm_seconds: float
    """How long there has been an alarm; 0 without one."""
    is_crisis: bool
    """There is one, or has been in the last days: it can be adopted."""

    @property
    def is_alarm(self) -> bool:
        """Whether there is a surge."""
        return self.alarm_seconds > 0


class SurgeChange(NamedTuple):
    """An alarm that has begun or ended with the last minute."""

    key: SurgeKey
    is_alarm: bool
    state: SurgeState
    seconds: float
    """How long it lasted; 0 if it has begun."""


@dataclass(slots=True)
class _Count:
    messages: int = 0
    octets: int = 0
    recipients: int = 0


class Surges:
    """All detectors of one service."""

    def __init__(self, classes: Sequence[TrafficClass], networks: Sequence[str]) -> None:
        self.states: Mapping[SurgeKey, SurgeState] = {}
        """All keys after the last minute, the classes first."""
        self.unexpected_work: dict[str, float] = {}
        """By class, the slot-seconds of what alarms had more than expected, since the start."""
        self._surges: dict[SurgeKey, Surge] = {}
        self._watched: tuple[SurgeKey, ...] = ()
        self._counts: dict[tuple[str, str], _Count] = {}
        self._ranks: dict[str, int] = {}
        self._last: tuple[float, int] | None = None
        self._doubtful_until = float("-inf")
        self.networks: tuple[str, ...] = ()
        """Those that are told apart."""
        self.configure(classes, networks)

    def configure(self, classes: Sequence[TrafficClass], networks: Sequence[str]) -> None:
        """Watch these classes and named networks from now on.

        What was learned of others stays while there is room, since they may come back.
        """
        names = [each.name for each in classes][:KEYS_MAX]
        room = KEYS_MAX // len(names) - 2  # the whole class, and `OTHER`
        named = [each for each in networks if each != OTHER]
        self.networks = tuple(named[: max(0, room)])
        parts = (*self.networks, OTHER) if named and room >= 0 else ()
        self._ranks = {each.name: each.rank for each in classes}
        self._watched = tuple(SurgeKey(name, network) for network in ("", *parts) for name in names)
        known = self._surges
        gone = [key for key in known if key not in set(self._watched)]
        self._surges = {key: known.get(key) or Surge() for key in self._watched}
        for key in gone[: KEYS_MAX - len(self._surges)]:
            self._surges[key] = known[key]
        self._counts = {
            (name, part): self._counts.get((name, part), _Count())
            for name in names
            for part in (parts or (OTHER,))
        }
        self.unexpected_work = {name: self.unexpected_work.get(name, 0.0) for name in names}
        self._look()

    def count(self, traffic_class: str, network: str, size: int, recipients: int) -> None:
        """Count a message; a `network` that is not told apart is `OTHER`."""
        counts = self._counts
        count = counts.get((traffic_class, network)) or counts.get((traffic_class, OTHER))
        if count is not None:
            count.messages += 1
            count.octets += size
            count.recipients += recipients

    def tick(
        self,
        now: float,
        minute: int,
        seconds_of: Callable[[int, int], float | None] = lambda _size, _recipients: None,
    ) -> list[SurgeChange]:
        """Let time pass; call it every few seconds. Returns the alarms that began or ended.

        `seconds_of` says how long the unloaded backend needs for a message of some octets and
        recipients; None if that is not known.
        """
        if self._last is None:
            self._last = now, minute
        then, before = self._last
        passed = now - then
        if passed < TICK_SECONDS:
            return []
        self._last = now, minute
        if passed > GAP_SECONDS:
            self._take_counts()
            self._step(now)
            return []
        if _distance(before + passed / 60, minute) > STEP_MINUTES:
            self._step(now)
        return self._note(now, before, passed / 60, seconds_of)

    def quotas(self, factor: float) -> dict[str, float]:
        """Messages a second of `factor` times what is expected, by name of the class in a surge."""
        return {
            key.traffic_class: factor * state.expected / 60
            for key, state in self.states.items()
            if state.is_alarm and not key.network and self._ranks[key.traffic_class] > 0
        }

    def adopt(self, traffic_class: str) -> dict[SurgeKey, float]:
        """Take the level of a class's crisis, and of its networks', as usual from now on.

        Returns how many times the usual each was; empty if there was nothing to adopt.
        """
        adopted = {
            key: surge.adopt()
            for key, surge in self._surges.items()
            if key.traffic_class == traffic_class and surge.is_crisis
        }
        self._look()
        return adopted

    def _note(
        self,
        now: float,
        minute: int,
        minutes: float,
        seconds_of: Callable[[int, int], float | None],
    ) -> list[SurgeChange]:
        counts = self._take_counts()
        before = {key: self._surges[key].alarm_minutes for key in self._watched}
        for key in self._watched:
            count, surge = counts[key], self._surges[key]
            excess = surge.note(
                count.messages, minute, minutes, is_doubtful=now < self._doubtful_until
            )
            if surge.is_alarm and not key.network and count.messages:
                each = seconds_of(
                    count.octets // count.messages, -(-count.recipients // count.messages)
                )
                self.unexpected_work[key.traffic_class] += excess * (each or 0.0)
        self._look()
        return [
            SurgeChange(key, state.is_alarm, state, 0.0 if state.is_alarm else before[key] * 60)
            for key, state in self.states.items()
            if state.is_alarm != (before[key] > 0)
        ]

    def _take_counts(self) -> dict[SurgeKey, _Count]:
        """The counts since the last tick by key; counting begins anew."""
        taken = {key: _Count() for key in self._watched}
        for (name, network), count in self._counts.items():
            for key in (SurgeKey(name), SurgeKey(name, network)):
                if (total := taken.get(key)) is not None:
                    total.messages += count.messages
                    total.octets += count.octets
                    total.recipients += count.recipients
            count.messages = count.octets = count.recipients = 0
        return taken

    def _step(self, now: float) -> None:
        """The place in the week has jumped."""
        self._doubtful_until = now + DOUBT_SECONDS
        for key in self._watched:
            self._surges[key].close_hour()

    def _look(self) -> None:
        self.states = {key: _state(key, self._surges[key]) for key in self._watched}

    # Keeping.

    def document(self) -> dict[str, object]:
        """What was learned, for `mailshed.statefile`."""
        return {
            "version": _VERSION,
            "surges": [
                {"class": key.traffic_class, "network": key.network, **surge.document()}
                for key, surge in self._surges.items()
            ],
        }

    def restore(self, document: Mapping[str, object]) -> None:
        """Take up what was learned before. Raises StateError, and changes nothing, if it is bad."""
        listed = document.get("surges")
        if document.get("version") != _VERSION or not isinstance(listed, list):
            raise StateError(f"expected version {_VERSION} and a list of surges")
        found: dict[SurgeKey, Surge] = {}
        for each in listed[:KEYS_MAX]:
            surge = Surge.restored(each)
            name, network = each.get("class"), each.get("network")
            if not isinstance(name, str) or not isinstance(network, str):
                raise StateError("expected the names of a class and of a network")
            found[SurgeKey(name, network)] = surge
        watched = {key: found.get(key, self._surges[key]) for key in self._watched}
        others = [key for key in found if key not in watched]
        self._surges = watched | {key: found[key] for key in others[: KEYS_MAX - len(watched)]}
        self._look()


def _state(key: SurgeKey, surge: Surge) -> SurgeState:
    return SurgeState(
        key=key,
        messages=surge.messages,
        ratio=surge.ratio,
        expected=surge.expected,
        alarm_seconds=surge.alarm_minutes * 60,
        is_crisis=surge.is_crisis,
    )


def _distance(one: float, other: float) -> float:
    """Minutes between two places in the week, the shorter way round."""
    apart = abs(one - other) % WEEK_MINUTES
    return min(apart, WEEK_MINUTES - apart)
