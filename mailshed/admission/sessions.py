"""Who may open one more SMTP session: caps for all, for one address, one network, and one minute.

Connections are cheap for whoever opens them and not for us, so how many there may be is bounded
before there is a session (Postfix has `smtpd_client_connection_count_limit` for it, and anvil(8)).

- *Total*: `sessions_max`; the last of them are for clients that may always send (`RESERVED_SHARE`).
- *Address*: a stranger may have `sessions_per_address`, a trusted client or one of a clinical
  network `sessions_per_trusted_address`: a hospital's relay opens many, and a printer that runs
  wild must not take them all.
- *Network* (/24, or /64 of IPv6): strangers only.
- *Rate*: a stranger's address may connect `connection_rate_max` times a minute, all of them at once
  if it likes; the same generic cell rate algorithm as `admission.quota` has.

A proxy whose header is awaited, or that has not said XCLIENT, is bounded by the total alone, since
all its clients would share its address. When it has said whose connection it is, that client is
judged in its place.

Only what is open is in the tables, but for the rates, of which the latest `RATES_MAX` are kept.
Pure: `now` is monotonic seconds.
"""

from collections import Counter, OrderedDict
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeVar

from mailshed.admission.quota import IPV4_HOST_BITS, IPV6_HOST_BITS
from mailshed.config.policy import SessionLimits

# A share of all sessions that only clients of clinical networks may use, so that whoever opens
# connections without end cannot keep them out. Of the default limit it is 250, far more than such
# a network has systems that send, and the others do not miss it.
RESERVED_SHARE = 0.05

RATES_MAX = 10_000
"""Addresses whose rate is remembered; 200 octets each. Who connects often is seldom forgotten."""

RATE_WINDOW = 60.0
"""Seconds that a rate is for; as many connections as it allows in them may come at once."""

NOTES_MAX = 200
"""Addresses of which a refusal is remembered as told; of more, one line a minute for them all."""

NOTE_SECONDS = 60.0
"""For so long further refusals of an address are counted and not told one by one."""


K = TypeVar("K")


class Standing(Enum):
    """What is known of a client before it has said anything."""

    STRANGER = "stranger"
    TRUSTED = "trusted"  # in `trusted_networks`
    CLINICAL = "clinical"  # in a network whose mail is clinical
    PROXY = "proxy"  # in `trusted_proxies`, and has not said whose connection it passes on


class Cap(Enum):
    """Which cap keeps a connection out. Label of a metric, field of the log."""

    TOTAL = "total"
    ADDRESS = "address"
    NETWORK = "network"
    RATE = "rate"


class Visitor(NamedTuple):
    """Who connects, as far as caps go by it; kept with the session, and taken back at its end."""

    address: IPv4Address | IPv6Address
    standing: Standing

    @property
    def may_use_reserve(self) -> bool:
        """A proxy's connection may turn out to be one of a clinical network."""
        return self.standing in (Standing.CLINICAL, Standing.PROXY)


def session_reserve(sessions_max: int) -> int:
    """How many of so many sessions are held in reserve: one at least, unless there is only one."""
    return min(max(1, int(sessions_max * RESERVED_SHARE)), sessions_max - 1)


class OpenSessions:
    """How many sessions each address and network has open, and how often addresses connect."""

    def __init__(self) -> None:
        self.total = 0
        self._of_address: Counter[IPv4Address | IPv6Address] = Counter()
        self._of_network: Counter[tuple[int, int]] = Counter()
        # Until when the bucket of an address is in use; the latest last.
        self._used_until: OrderedDict[IPv4Address | IPv6Address, float] = OrderedDict()

    def enter(self, visitor: Visitor, limits: SessionLimits, now: float) -> Cap | None:
        """Count one more session of `visitor`, or say which cap forbids it; then nothing counts."""
        if (cap := self._exceeded(visitor, limits, now)) is not None:
            return cap
        self.total += 1
        if visitor.standing is not Standing.PROXY:
            self._of_address[visitor.address] += 1
        if visitor.standing is Standing.STRANGER:
            self._of_network[_network(visitor.address)] += 1
        return None

    def leave(self, visitor: Visitor) -> None:
        """Forget a session that was let in as `visitor`."""
        self.total -= 1
        if visitor.standing is not Standing.PROXY:
            _take_one(self._of_address, visitor.address)
        if visitor.standing is Standing.STRANGER:
            _take_one(self._of_network, _network(visitor.address))

    def _exceeded(self, visitor: Visitor, limits: SessionLimits, now: float) -> Cap | None:
        is_stranger = visitor.standing is Standing.STRANGER
        if visitor.standing is not Standing.PROXY:
            per_address = (
                limits.sessions_per_address if is_stranger else limits.sessions_per_trusted_address
            )
            if self._of_address[visitor.address] >= per_address:
                return Cap.ADDRESS
        if is_stranger and (
            self._of_network[_network(visitor.address)] >= limits.sessions_per_network
        ):
            return Cap.NETWORK
        room = limits.sessions_max - self.total
        if room <= 0 or (
            room <= session_reserve(limits.sessions_max) and not visitor.may_use_reserve
        ):
            return Cap.TOTAL
        if is_stranger and self._is_too_often(visitor.address, limits.connection_rate_max, now):
            return Cap.RATE
        return None

    def _is_too_often(self, address: IPv4Address | IPv6Address, rate: int, now: float) -> bool:
        """Charge a connection to the rate of its address, unless that is used up."""
        if not rate:
            return False
        until = max(self._used_until.get(address, now), now) + RATE_WINDOW / rate
        if until > now + RATE_WINDOW:
            return True
        self._used_until[address] = until
        self._used_until.move_to_end(address)
        while len(self._used_until) > RATES_MAX:
            self._used_until.popitem(last=False)
        return False


def _take_one(counts: Counter[K], key: K) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def _network(address: IPv4Address | IPv6Address) -> tuple[int, int]:
    """The client's network, as `admission.quota` has it."""
    bits = IPV4_HOST_BITS if address.version == 4 else IPV6_HOST_BITS
    return address.version, int(address) >> bits


class Refused(NamedTuple):
    """Refusals to be told together: `address` None stands for many addresses."""

    address: str | None
    cause: str
    times: int
    is_first: bool
    """The one that was just noted; else so many of the last minute."""


class Refusals:
    """Which refusals are told: the first of an address at once, and then their number each minute.

    A flood must not become a flood of lines, and its beginning, its end and its size must be there.
    """

    def __init__(self) -> None:
        # When the first was told, and how many have come since; the oldest first.
        self._noted: OrderedDict[tuple[str | None, str], tuple[float, int]] = OrderedDict()

    def note(self, address: str, cause: str, now: float) -> list[Refused]:
        """Note one refusal; what is to be told now, perhaps nothing, perhaps of others too."""
        told = self.due(now)
        key: tuple[str | None, str] = (address, cause)
        if key not in self._noted and len(self._noted) >= NOTES_MAX:
            key = (None, cause)
        since, count = self._noted.get(key, (now, -1))
        self._noted[key] = (since, count + 1)
        if count < 0:
            told.append(Refused(*key, 1, is_first=True))
        return told

    def due(self, now: float) -> list[Refused]:
        """What has been counted for a minute, and is told now."""
        told = []
        while self._noted:
            key, (since, count) = next(iter(self._noted.items()))
            if now < since + NOTE_SECONDS:
                break
            del self._noted[key]
            if count:
                told.append(Refused(*key, count, is_first=False))
        return told
