"""Whether a mailbox exists: what is known, for how long, and what RCPT is answered because of it.

What we acknowledge should be deliverable, and the backend alone knows its mailboxes. What it said
of an address is remembered here: that it takes it for a day, that it does not know it for some
minutes, so that a new mailbox need not wait long. An answer whose time is up is asked for again,
but an old yes still counts while nobody can be asked.

Three more tables keep this honest. A domain whose backend takes any address (it takes a random one)
is not asked about for an hour. A stranger who names unknown mailboxes one after the other is
reading our directory: beyond `unknown_max` of them in a window he hears each answer late, beyond
twice as many his session ends. All tables are bounded and forget what was not used for longest.

Local parts are compared as they are written (RFC 5321, 2.4), since a server may tell `Bob` from
`bob`. Only a refusal that is about the recipient's mailbox counts as unknown: enhanced status
5.1.x, but for 5.1.7 and 5.1.8, which blame the sender (RFC 3463, 3.2), or a bare 550, 551 or 553.
Any other 5xx (mailbox full, sender not allowed to write to a group) is for the delivery to tell.

Pure: `now` is monotonic seconds. An entry of the cache takes about 200 octets, a no 500.
"""

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from mailshed.admission.decision import Defer, Reject
from mailshed.config.policy import VerificationPolicy
from mailshed.mail import reply
from mailshed.mail.delivery import Bounced, Delivered, DeliveryResult
from mailshed.mail.reply import Reply
from mailshed.terms import Reason, Stage

UNSURE_SECONDS = 30.0
"""How long an address that got a 4xx, or silence, is not asked about again."""

CATCH_ALL_SECONDS = 3600.0
"""How long it is believed that a domain takes every address, or does not."""
CATCH_ALL_RETRY_SECONDS = 60.0
"""After how long a domain is tried again if the trial brought no answer."""
DOMAINS_MAX = 1000
"""Domains of ours that are remembered: a few, unless `.name` takes in whatever a client writes."""

CLIENTS_MAX = 10_000
"""Clients whose unknown recipients are counted: 3 MB, and more than harvest at the same time."""
SLOW_SECONDS = 1.0
"""How late a client that named too many unknown recipients is answered; Postfix's error sleep."""

_STATUS_OF_SENDER = frozenset({"5.1.7", "5.1.8"})
_CODES_OF_MAILBOX = frozenset({550, 551, 553})


@dataclass(frozen=True, slots=True)
class Known:
    """The backend takes mail for it.

    `is_taken` False: it refused, but not for want of the mailbox. `is_fresh` False: it said so
    longer ago than an answer counts.
    """

    is_taken: bool = True
    is_fresh: bool = True


@dataclass(frozen=True, slots=True)
class Unknown:
    """There is no such mailbox; `reply` is the 5xx that says so."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Unsure:
    """The backend said 4xx, or nothing (`reply` None, see `detail`)."""

    reply: Reply | None
    detail: str = ""


Finding = Known | Unknown | Unsure

KNOWN = Known()
_STALE = Known(is_fresh=False)
_REFUSED_OTHERWISE = Known(is_taken=False)
ANY_ADDRESS = Known(is_taken=False)
"""Of a domain whose backend takes every address: there is nothing against it, and no more."""


def finding_of(answer: Reply) -> Finding:
    """What a backend's answer to RCPT says of the mailbox."""
    if answer.is_success:
        return KNOWN
    if answer.is_transient:
        return Unsure(answer)
    status = answer.enhanced_status
    is_bare = status == "5.0.0"  # none, or one that says nothing
    if status.startswith("5.1.") or (is_bare and answer.code in _CODES_OF_MAILBOX):
        return _REFUSED_OTHERWISE if status in _STATUS_OF_SENDER else Unknown(answer)
    return _REFUSED_OTHERWISE


def lesson_of(result: DeliveryResult) -> Known | Unknown | None:
    """What the end of a delivery teaches about its recipient; None: nothing."""
    match result:
        case Delivered():
            return KNOWN
        case Bounced(Stage.RCPT, answer):
            found = finding_of(answer)
            return found if isinstance(found, Unknown) else None
        case _:
            return None


def key_of(path: bytes) -> bytes:
    """The address as tables know it: the domain in lower case, the local part as it is."""
    local, at, domain = path.rpartition(b"@")
    return local + at + domain.lower()


def unverified(found: Finding | None, *, is_privileged: bool) -> Defer | None:
    """What RCPT is answered when nobody can say now; `found` is what is known all the same.

    Privileged clients (trusted or clinical) are believed. Others come back: a stranger's message
    that turned out to be undeliverable could not be reported to anyone.
    """
    if is_privileged or isinstance(found, Known):
        return None
    said = found.reply if isinstance(found, Unsure) else None
    return Defer(Reason.UNVERIFIED_RECIPIENT, said or reply.UNVERIFIED_RECIPIENT)


class RecipientCache:
    """What is known of single addresses. Least recently used ones make room."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        # A yes is the bare instant until which it is fresh: most entries are one, and small.
        self._entries: OrderedDict[bytes, float | tuple[float, Unknown | Unsure]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries_max(self) -> int:
        """Most addresses that are remembered."""
        return self._entries_max

    def resize(self, entries_max: int) -> None:
        """Change the bound; what does not fit any more is forgotten."""
        self._entries_max = entries_max
        while len(self._entries) > entries_max:
            self._entries.popitem(last=False)

    def look_up(self, key: bytes, now: float) -> Finding | None:
        """What is known; None if nothing is, or no longer. An old yes is not `is_fresh`."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if isinstance(entry, float):
            self._entries.move_to_end(key)
            return KNOWN if now < entry else _STALE
        until, found = entry
        if now < until:
            self._entries.move_to_end(key)
            return found
        del self._entries[key]
        return None

    def is_known_until(self, key: bytes, instant: float) -> bool:
        """Whether it is a yes that is still fresh at `instant`."""
        entry = self._entries.get(key)
        return isinstance(entry, float) and entry > instant

    def remember(self, key: bytes, found: Finding, now: float, policy: VerificationPolicy) -> None:
        """Note what was found, for as long as the policy says."""
        match found:
            case Known(is_taken=True):
                self._entries[key] = now + policy.positive_ttl
            case Known():
                self._entries[key] = now + policy.negative_ttl
            case Unknown():
                self._entries[key] = (now + policy.negative_ttl, found)
            case Unsure():
                if isinstance(self._entries.get(key), float):
                    return  # an old yes is worth more than no answer
                self._entries[key] = (now + UNSURE_SECONDS, found)
        self._entries.move_to_end(key)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)


@dataclass(slots=True)
class _Domain:
    accepts_all: bool = False
    next_trial: float = 0.0


class CatchAlls:
    """Which of our domains have a backend that takes every address."""

    def __init__(self) -> None:
        self._domains: OrderedDict[str, _Domain] = OrderedDict()

    def __len__(self) -> int:
        return len(self._domains)

    def accepts_all(self, domain: str) -> bool:
        """Whether it took a random address when it was last tried."""
        known = self._domains.get(domain)
        return known is not None and known.accepts_all

    def begin(self, domain: str, now: float) -> bool:
        """Say whether a random address is to be tried now; it is then not due for a while."""
        known = self._domains.setdefault(domain, _Domain())
        self._domains.move_to_end(domain)
        if len(self._domains) > DOMAINS_MAX:
            self._domains.popitem(last=False)
        if now < known.next_trial:
            return False
        known.next_trial = now + CATCH_ALL_RETRY_SECONDS
        return True

    def conclude(self, domain: str, found: Finding, now: float) -> bool:
        """Note what became of the random address; say whether that is news.

        Silence, a 4xx and a refusal for another reason leave things as they are.
        """
        known = self._domains.get(domain)
        if known is None or isinstance(found, Unsure) or found == _REFUSED_OTHERWISE:
            return False
        was, known.accepts_all = known.accepts_all, isinstance(found, Known)
        known.next_trial = now + CATCH_ALL_SECONDS
        return was != known.accepts_all


class Pace(Enum):
    """How a refusal of an unknown recipient is to be delivered."""

    AT_ONCE = "at_once"
    SLOWLY = "slowly"  # SLOW_SECONDS late
    LAST = "last"  # with a 421, and the session is over


class UnknownBudget:
    """Unknown recipients that clients have named lately, by address (IPv6: by its /64).

    A window begins with the first of them and ends by itself; an address that waits it out starts
    anew.
    """

    def __init__(self) -> None:
        self._counts: OrderedDict[int, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def spend(
        self, client: IPv4Address | IPv6Address, now: float, policy: VerificationPolicy
    ) -> Pace:
        """Count one more unknown recipient of `client`."""
        key = _network(client)
        began, count = self._counts.get(key, (now, 0))
        if now >= began + policy.unknown_window:
            began, count = now, 0
        count += 1
        self._counts[key] = (began, count)
        self._counts.move_to_end(key)
        if len(self._counts) > CLIENTS_MAX:
            self._counts.popitem(last=False)
        if count > 2 * policy.unknown_max:
            return Pace.LAST
        return Pace.SLOWLY if count > policy.unknown_max else Pace.AT_ONCE


def refusal(unknown: Unknown, pace: Pace) -> Reject | Defer:
    """What RCPT to an unknown mailbox is answered."""
    if pace is Pace.LAST:
        return Defer(Reason.UNKNOWN_RECIPIENT, reply.TOO_MANY_UNKNOWN)
    return Reject(Reason.UNKNOWN_RECIPIENT, unknown.reply)


def _network(client: IPv4Address | IPv6Address) -> int:
    """A number that is the client's own: hosts change their IPv6 addresses within a /64 at will."""
    return int(client) if client.version == 4 else -1 - (int(client) >> 64)
