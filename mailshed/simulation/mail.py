"""One message in a run, and one transaction about it.

A message is the same object from its first arrival to its end, whoever has it: its client, we, the
spool, the mail server. `Place` says who, and the ledger counts by it. A transaction (`Job`) is what
the mail server has of it; a server that we have given up on may still have one, a *stray*, and
deliver it after all.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING

from mailshed.control.limit import SlotEnding
from mailshed.drain.restraint import Permit
from mailshed.mail.delivery import DeliveryResult, StageTimes
from mailshed.simulation.arrivals import Letter
from mailshed.spool.store import SpoolRecord
from mailshed.terms import TrafficClass
from mailshed.work import Slot, Work

if TYPE_CHECKING:
    from mailshed.simulation.clients import Sender
    from mailshed.simulation.ledger import Account


class Place(IntEnum):
    """Who has a message's recipients: the terms of the conservation law."""

    SENDER = 0  # told 4xx, to come again
    HAND = 1  # with us or the mail server, while its client waits
    SPOOL = 2  # on our disk, also while we try
    DELIVERED = 3
    BOUNCED = 4  # refused for good, expired: the sender is told
    REFUSED = 5  # told 4xx by us, and the client does not come again


FINAL = (Place.DELIVERED, Place.BOUNCED, Place.REFUSED)


@dataclass(eq=False, slots=True)
class Mail:
    """A message. `left` recipients have not come to their end yet."""

    account: "Account"
    client: "Sender"
    traffic_class: TrafficClass
    letter: Letter
    left: int
    arrived: float
    """When it was sent to us first (monotonic)."""
    arrived_wall: float
    place: Place = Place.SENDER
    came: float = 0.0
    """When it was sent to us most recently."""
    tries: int = 0
    """How often its client was told 4xx."""
    work: Work | None = None
    job: "Job | None" = None
    record: SpoolRecord | None = None
    """As the spool has it; None if it does not."""
    permit: Permit | None = None
    is_live: bool = True
    """A client waits for it."""
    is_held: bool = False
    """Put aside for an operator."""
    unanswered: int = 0
    """Final dots of ours that were never answered."""
    in_doubt: int = 0
    """How many endings in doubt it has had."""
    copies: int = 0
    """To how many recipients the mail server has delivered it, counting each time."""


@dataclass(eq=False, slots=True)
class Job:
    """A transaction with the mail server."""

    mail: Mail
    slot: Slot
    size: int
    mailboxes: tuple[int, ...]
    """Of its recipients."""
    noise: float
    is_partial_ok: bool
    """Whether some recipients may be served without the others."""
    started: float
    tried: SpoolRecord | None = None
    """The record of a spooled message, with those recipients who are tried."""
    work: float = 0.0
    """What it is for the mail server, in seconds of one of its servers."""
    demand: float = 0.0
    """Seconds of work that are left, by the last account of the server."""
    finish: float = inf
    """When it will be done, as things stand; also the sign by which an event is known to count."""
    delay: float = 0.0
    """Seconds by which MAIL was answered late."""
    dot_at: float = inf
    """When our final dot goes out, as things stand."""
    is_stray: bool = False
    """We have closed the connection, and do not know."""
    is_orphan: bool = False
    """Its client has given up, and sends it again or not; we still wait for the answer."""
    is_gone: bool = False
    """Broken off before our final dot: the server knows of nothing any more."""
    full: tuple[int, ...] = ()
    """Which of the recipients, by their places, have a full mailbox."""

    @property
    def recipients(self) -> int:
        """How many."""
        return len(self.mailboxes)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a transaction ended."""

    ending: SlotEnding
    results: tuple[DeliveryResult, ...]
    times: StageTimes = field(default_factory=StageTimes)
    is_away: bool = False
    """There was no dialog at all."""
