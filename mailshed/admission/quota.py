"""Who sends more than its quota: the generic cell rate algorithm, for senders, networks, classes.

The generic cell rate algorithm (ITU-T I.371) remembers one instant per key: when its bucket will be
empty if nothing more comes. A message moves that on by its recipients over the rate; one that would
move it further than the burst into the future exceeds the quota, and moves nothing. So a sender at
twice its rate has every other message within the quota. A key that nobody knows has its full burst,
and an empty bucket takes a message of any number of recipients.

Each key has two such buckets. What exceeds the *soft* one gives way to other senders of its class;
what exceeds the *hard* one as well is not relayed. Both only while the backend is under pressure,
which is not judged here: with room for all, nobody is slowed down. Mail of rank 0 is measured, for
an alarm, and never held back.

Three layers have quotas of their own, and the worst finding counts: the sender, the client's
network (/24, /64), the class. A class in a surge has one more, in messages, which follows from what
is usual (`control.surges`). A sender is the user that has authenticated, else the reverse-path. A
stranger can write any sender, so a sender is known together with
the network it writes from, unless the client is trusted; so is the null sender, which is everybody.

At most `entries_max` keys are remembered, the latest ones. Pure: `now` is monotonic seconds.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from enum import Enum
from typing import NamedTuple

from mailshed.config.policy import Quota, QuotaPolicy
from mailshed.mail.envelope import Client
from mailshed.terms import TrafficClass

SURGE_BURST = 60.0
"""Seconds' worth of a surge's quota that may come at once: as much as is counted together."""
IPV4_HOST_BITS = 8
"""What a site is, as far as addresses go: a /24, or a /64 of IPv6."""
IPV6_HOST_BITS = 64


class Level(Enum):
    """How far a quota is exceeded. Label of a metric."""

    SOFT = "soft"
    HARD = "hard"


class Layer(Enum):
    """Whose quota it is. Label of a metric."""

    SENDER = "sender"
    NETWORK = "network"
    CLASS = "class"
    SURGE = "surge"


class Excess(NamedTuple):
    """A quota that a message exceeds."""

    layer: Layer
    level: Level


class Sending(NamedTuple):
    """Who sends what: all that quotas go by. `sender` is the reverse-path without brackets."""

    client: Client
    sender: bytes
    traffic_class: TrafficClass
    recipients: int = 1


class _Share(NamedTuple):
    """A quota that a message counts for, whose, and what the message costs.

    `burst` seconds' worth of it may come at once.
    """

    layer: Layer
    quota: Quota
    key: Hashable
    cost: int
    burst: float


class Quotas:
    """What all senders, networks and classes have used of their quotas."""

    def __init__(self) -> None:
        self.surges: Mapping[str, Quota] = {}
        """By the name of a class in a surge, in messages a second."""
        # For each key, until when its soft and its hard bucket are in use.
        self._used_until: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._used_until)

    def charge(self, policy: QuotaPolicy, sending: Sending, now: float) -> Excess | None:
        """Charge a message to all its quotas; return the one that it exceeds, the worst if several.

        One that exceeds a hard quota is not charged to those of the further layers.
        """
        found: Excess | None = None
        for layer, quota, key, cost, burst in self._shares(policy, sending):
            used = self._used_until.get(key, (now, now))
            level, self._used_until[key] = _use(quota, used, cost, burst, now)
            self._used_until.move_to_end(key)
            while len(self._used_until) > policy.entries_max:
                self._used_until.popitem(last=False)
            if level is Level.HARD:
                return Excess(layer, level)
            if level is not None and found is None:
                found = Excess(layer, level)
        return found

    def look(self, policy: QuotaPolicy, sending: Sending, now: float) -> Excess | None:
        """What `charge` would return now, without charging."""
        found: Excess | None = None
        for layer, quota, key, cost, burst in self._shares(policy, sending):
            used = self._used_until.get(key, (now, now))
            level, _ = _use(quota, used, cost, burst, now)
            if level is Level.HARD:
                return Excess(layer, level)
            if level is not None and found is None:
                found = Excess(layer, level)
        return found

    def is_any_exhausted(
        self, policy: QuotaPolicy, client: Client, sender: bytes, now: float
    ) -> bool:
        """Whether the sender, its network or some class is over its hard quota."""
        used_until, burst = self._used_until, policy.burst
        whose: list[tuple[Quota | None, Hashable, float]] = [
            (policy.per_sender, ("s", sender_key(client, sender)), burst),
            (policy.per_network, ("n", network_of(client)), burst),
            *((quota, ("c", name), burst) for name, quota in policy.per_class.items()),
            *((quota, ("u", name), SURGE_BURST) for name, quota in self.surges.items()),
        ]
        return any(
            quota is not None
            and (used := used_until.get(key)) is not None
            and _use(quota, used, 1, seconds, now)[0] is Level.HARD
            for quota, key, seconds in whose
        )

    def _shares(self, policy: QuotaPolicy, sending: Sending) -> list[_Share]:
        """The quotas that a message counts for, each with the key of whoever it is the quota of."""
        client, sender, traffic_class, recipients = sending
        name, burst = traffic_class.name, policy.burst
        found: list[_Share] = []
        if (quota := policy.per_sender) is not None:
            key = ("s", sender_key(client, sender))
            found.append(_Share(Layer.SENDER, quota, key, recipients, burst))
        if (quota := policy.per_network) is not None:
            found.append(_Share(Layer.NETWORK, quota, ("n", network_of(client)), recipients, burst))
        if policy.per_class and (quota := policy.per_class.get(name)) is not None:
            found.append(_Share(Layer.CLASS, quota, ("c", name), recipients, burst))
        if self.surges and (quota := self.surges.get(name)) is not None:
            found.append(_Share(Layer.SURGE, quota, ("u", name), 1, SURGE_BURST))
        return found


def _use(
    quota: Quota, used_until: tuple[float, float], cost: int, burst: float, now: float
) -> tuple[Level | None, tuple[float, float]]:
    """What a message exceeds, and until when the soft and the hard bucket are in use after it."""
    soft, hard = used_until
    latest = now + burst
    soft_next = max(soft, now) + cost / quota.soft if quota.soft else now
    hard_next = max(hard, now) + cost / quota.hard if quota.hard else now
    # A bucket that is empty takes a message of any number of recipients.
    if hard_next > latest and hard > now:
        return Level.HARD, used_until
    if soft_next > latest and soft > now:
        return Level.SOFT, (soft, hard_next)
    return None, (soft_next, hard_next)


def sender_key(client: Client, sender: bytes) -> Hashable:
    """What a sender is known by: the user if there is one, else the reverse-path."""
    if client.user:
        return "user", client.user
    return sender if client.is_trusted and sender else (network_of(client), sender)


def network_of(client: Client) -> Hashable:
    """The client's network, as far as a site is one: /24, or /64 of IPv6."""
    if client.address.version == 4:
        return 4, client.address_number >> IPV4_HOST_BITS
    return 6, client.address_number >> IPV6_HOST_BITS
