"""Small values that every part of mailshed shares: the vocabulary below the layers.

Closed sets are enums here, so that a decision, its log field and its metric label are the same
word and cannot drift apart. Traffic classes are not an enum: a site names its own, so a
`TrafficClass` is a value made from the configuration.

Units: all durations and instants are seconds (float). `now` is monotonic wherever a parameter has
that name; instants that must outlive the process are wall-clock (Unix epoch) and say `wall`.
Sizes are bytes in wire form (RFC 5321, 4.5.2: CRLF line endings, dot-stuffed).
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NewType

QueueId = NewType("QueueId", str)


class ClientKind(Enum):
    """What a client does with a 4xx reply; it decides how long we may keep it waiting."""

    MTA = "mta"  # keeps the message in a queue and tries again
    USER_AGENT = "user_agent"  # shows the user an error and forgets
    DEVICE = "device"  # drops the message, often silently


class Stage(Enum):
    """Stages of the SMTP dialog with a backend, in order; `DOT` is the reply to the final dot."""

    CONNECT = "connect"
    EHLO = "ehlo"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"
    QUIT = "quit"


class Reason(Enum):
    """Why a message was relayed, kept, deferred or refused. Field of logs, label of metrics."""

    ROOM = "room"  # the backend had a free slot
    SATURATED = "saturated"  # no slot came free within the class's wait
    DIVERTED = "diverted"  # more of its class and better ones comes than the backend takes
    OVERRIDE = "override"  # an operator keeps its class back
    BACKEND_AWAY = "backend_away"  # the backend cannot be reached
    BACKEND_DEFERRED = "backend_deferred"  # the backend said 4xx
    BACKEND_REFUSED = "backend_refused"  # the backend said 5xx
    MIXED_RECIPIENTS = "mixed_recipients"  # the backend took some recipients and not others
    SEVERAL_ROUTES = "several_routes"  # its recipients are served by different backends
    PER_RECIPIENT = "per_recipient"  # the backend answers for each recipient, the client hears one
    UNSUPPORTED = "unsupported"  # the backend does not offer what the message needs (SMTPUTF8)
    IN_DOUBT = "in_doubt"  # the backend did not answer the final dot
    ADOPTED = "adopted"  # the backend is still at the final dot, and the client cannot wait
    SHUTDOWN = "shutdown"  # the service is stopping
    SPOOL_FULL = "spool_full"  # a spool limit or the disk reserve is reached
    SPOOL_SICK = "spool_sick"  # the spool cannot commit
    SPOOL_FILLING = "spool_filling"  # the spool is too full for this class, and the sender can wait
    OVER_QUOTA = "over_quota"  # more than a hard quota allows while the backend is under pressure
    RELAY_DENIED = "relay_denied"  # a stranger asked us to relay to a stranger
    UNKNOWN_RECIPIENT = "unknown_recipient"  # the backend does not know the mailbox
    UNVERIFIED_RECIPIENT = "unverified_recipient"  # nobody can say now whether it exists
    LOOP = "loop"  # the message has been here, or nearly everywhere
    CONTENT = "content"  # bare CR, LF or NUL in the mail data
    TOO_LARGE = "too_large"  # over the message size limit
    NO_MEMORY = "no_memory"  # the budget for mail data in transit is used up
    EXPIRED = "expired"  # older than the spool's lifetime
    INTERNAL = "internal"  # our own fault


class SpoolState(Enum):
    """State of a spooled recipient, in Postfix's words; 'active' is in memory only."""

    QUEUED = "queued"  # not tried yet
    DEFERRED = "deferred"  # tried, and due again at its next attempt
    HOLD = "hold"  # waits for an operator
    CORRUPT = "corrupt"  # the stored mail data failed its checksum


class QueueAction(Enum):
    """What an operator may do to a spooled message."""

    HOLD = "hold"  # not to be tried until it is released
    RELEASE = "release"  # no longer held, and due now
    RETRY = "retry"  # due now, whatever its pause
    DELETE = "delete"  # gone for good, nobody is told


class Ending(Enum):
    """How a recipient left the spool: the terms of the conservation law.

    accepted + generated = delivered + bounced + refused + expired + removed + still spooled,
    counted in recipients.
    """

    DELIVERED = "delivered"  # the backend said 2xx
    BOUNCED = "bounced"  # failed for good; a report went to the sender
    REFUSED = "refused"  # failed for good; nobody could be told (null or untrusted sender)
    EXPIRED = "expired"  # not delivered within the spool's lifetime
    REMOVED = "removed"  # an operator deleted it


class ReportKind(Enum):
    """What a report of ours tells a sender; the value is the Action field of RFC 3464, 2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"  # handed over to a server that tells the sender nothing
    DELIVERED = "delivered"  # in the mailbox


class ShedLevel(IntEnum):
    """How much is shed, in one word for people; they may force it too. Rank 0 is never shed.

    Which class waits from which level on is in the configuration (`TrafficClass.waits_at_level`);
    the names are those of the shipped classes.
    """

    NORMAL = 0  # nothing is shed
    SLOW_BULK = 1  # mail servers that send bulk mail get slow replies
    BULK_WAITS = 2  # bulk mail is spooled at once
    WORK_WAITS = 3  # so is mail of telework and of applications
    MOST_WAITS = 4  # so is all mail but that of clinical and continuity classes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficClass:
    """One class of mail and what it is promised.

    `rank` orders classes, 0 first; classes may share a rank. Rank 0 is never shed.
    `threshold` is the share of the in-flight limit (0..1] above which the class may not start.
    `guarantee` is the share [0..1] that it may have whatever the others hold.
    `weight` is its part, relative to the others', of what is left when several classes wait.
    `wait_max_*` bounds, in seconds, how long a client waits for a slot before its mail is spooled.
    `objective` is the delay in seconds, from arrival to the backend's 250, promised for the class.
    `report_after` is the delay in seconds after which a waiting message's sender is told once that
    it is late; None: never.
    `defer_fill` is how full the spool (0..1] may be before mail servers keep this class themselves
    (4xx) instead of having it spooled; None: whatever it holds.
    `defers_over_quota` says that they also keep what exceeds a hard quota, under pressure.
    `wait_target` is the wait in seconds that is normal: if for some time nobody of the class has
    waited less, waits end early; None: they never do.
    `waits_at_level` is the shed level, if forced, from which on new mail of the class is spooled at
    once; None: at none.
    """

    name: str
    rank: int
    threshold: float
    wait_max_mta: float
    wait_max_user_agent: float
    objective: float
    report_after: float | None = None
    guarantee: float = 0.0
    weight: float = 1.0
    defer_fill: float | None = None
    defers_over_quota: bool = False
    wait_target: float | None = None
    waits_at_level: int | None = None

    def wait_max(self, client_kind: ClientKind) -> float:
        """Seconds this class may wait for a slot on behalf of a client of `client_kind`."""
        if client_kind is ClientKind.MTA:
            return self.wait_max_mta
        return self.wait_max_user_agent
