"""What became of every message: the books of a run, by stream.

Counted in recipients, each is in one place at any time:

    offered = with its sender + in hand + spooled + delivered + bounced + refused

Moves change two places at once, so the sum holds by construction as long as every move names the
place that the message really comes from, which `move` checks. `audit` counts anew from the messages
themselves.

*Work* is in seconds of one of the mail server's servers. `Fluid` is the mail server that never
idles while there is work and has no queue but its own: what it has done by now is the most that
anybody can have done, and when it is empty is the earliest that anybody can be.
"""

from collections import Counter
from collections.abc import Iterable

from mailshed.simulation.histogram import Histogram
from mailshed.simulation.invariants import Violated
from mailshed.simulation.mail import FINAL, Mail, Place
from mailshed.simulation.scenario import Stream
from mailshed.terms import TrafficClass

SENDERS_MAX = 10_000
"""Senders of a stream that are told apart."""


class Account:
    """The books of one stream, in recipients unless they say otherwise."""

    __slots__ = (
        "adopted",
        "by_sender",
        "deferred",
        "drained_at",
        "duplicates",
        "errors",
        "gave_up",
        "in_doubt",
        "lost",
        "messages",
        "offered",
        "places",
        "relayed",
        "sent_again",
        "sojourn",
        "spooled",
        "stream",
        "traffic_class",
        "wait",
        "waited",
        "work_done",
        "work_offered",
    )

    def __init__(self, stream: Stream, traffic_class: TrafficClass) -> None:
        self.stream = stream
        self.traffic_class = traffic_class
        self.messages = 0
        self.offered = 0
        self.places = [0] * len(Place)
        self.sojourn = Histogram()
        """From the first arrival to the mail server's 250."""
        self.wait = Histogram()
        """From the latest arrival to the slot with which it was delivered."""
        self.relayed = 0
        """Messages handed over while their client waited."""
        self.waited = 0
        """Messages whose client waited for a slot."""
        self.spooled = 0
        """Messages spooled, adopted ones aside."""
        self.adopted = 0
        """Messages."""
        self.deferred = 0
        """Replies 4xx."""
        self.errors = 0
        """Replies 4xx that a user saw."""
        self.lost = 0
        """Messages that a device forgot after a 4xx."""
        self.gave_up = 0
        """Messages whose client left without a reply, after our final dot."""
        self.in_doubt = 0
        """Transactions that ended in doubt."""
        self.sent_again = 0
        """Messages sent though an earlier final dot was never answered."""
        self.duplicates = 0
        """Second copies that the mail server took."""
        self.work_offered = 0.0
        self.work_done = 0.0
        self.by_sender: Counter[bytes] = Counter()
        """Messages delivered."""
        self.drained_at: float | None = None
        """When the last message left the spool."""


class Fluid:
    """The ideal mail server. `update` is to be called a few times a second."""

    def __init__(self) -> None:
        self.offered = 0.0
        self.done = 0.0
        self.peak = 0.0
        self.peak_at = 0.0
        self.empty_at: float | None = 0.0
        """When it was empty for the first time after its peak."""
        self._updated = 0.0

    @property
    def backlog(self) -> float:
        """Work that is left."""
        return self.offered - self.done

    def update(self, time: float, capacity: float) -> None:
        """Let time pass until `time`, at this capacity."""
        seconds, self._updated = time - self._updated, time
        left = self.backlog
        self.done += min(left, capacity * seconds)
        if left > self.peak:
            self.peak, self.peak_at, self.empty_at = left, time, None
        elif self.empty_at is None and left <= capacity * seconds:
            self.empty_at = time


class Ledger:
    """The books of all streams."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self.accounts = tuple(accounts)
        self.fluid = Fluid()
        self.open: dict[Mail, None] = {}
        """Messages that have not come to their end."""
        self.spool_messages = 0
        self.spool_octets = 0
        self._spooled = Counter[str]()
        """Messages by class."""

    def arrived(self, mail: Mail, work: float) -> None:
        """A message is sent to us for the first time."""
        account = mail.account
        account.messages += 1
        account.offered += mail.left
        account.places[mail.place] += mail.left
        account.work_offered += work
        self.fluid.offered += work
        self.open[mail] = None

    def move(self, mail: Mail, place: Place) -> None:
        """All that is left of a message goes somewhere else."""
        if place is mail.place:
            return
        self.end(mail, mail.left, place)

    def end(self, mail: Mail, recipients: int, place: Place) -> None:
        """Some of its recipients go somewhere else, the others stay unless that is all."""
        places = mail.account.places
        places[mail.place] -= recipients
        places[place] += recipients
        if places[mail.place] < 0:
            raise Violated(f"more recipients left {mail.place.name} than there were")
        if place in FINAL:
            mail.left -= recipients
            if mail.left == 0:
                mail.place = place
                if self.open.pop(mail, mail) is mail:
                    raise Violated(f"a message of {mail.account.stream.name} ends that is not open")
        else:
            assert recipients == mail.left, "only ends are for single recipients"
            mail.place = place

    def enters_spool(self, mail: Mail) -> None:
        """A copy is on our disk."""
        self.spool_messages += 1
        self.spool_octets += mail.letter.size
        self._spooled[mail.traffic_class.name] += 1

    def leaves_spool(self, mail: Mail, time: float) -> None:
        """It has gone from there."""
        self.spool_messages -= 1
        self.spool_octets -= mail.letter.size
        left = self._spooled
        left[mail.traffic_class.name] -= 1
        mail.account.drained_at = time

    def spooled(self, name: str) -> int:
        """Messages of a class in the spool."""
        return self._spooled[name]

    def total(self, place: Place) -> int:
        """Recipients in a place."""
        return sum(account.places[place] for account in self.accounts)

    def audit(self) -> None:
        """Count anew, from the messages themselves."""
        found = {account.stream.name: [0] * len(Place) for account in self.accounts}
        spooled = 0
        for mail in self.open:
            if mail.left <= 0 or mail.place in FINAL:
                raise Violated(f"a message that has ended counts as {mail.place.name}")
            found[mail.account.stream.name][mail.place] += mail.left
            spooled += mail.record is not None
        if spooled != self.spool_messages:
            raise Violated(f"the spool counts {self.spool_messages} messages and has {spooled}")
        for account in self.accounts:
            if sum(account.places) != account.offered:
                raise Violated(
                    f"{account.stream.name}: {account.offered} offered, {account.places}"
                )
            for place, count in enumerate(found[account.stream.name]):
                if place not in FINAL and account.places[place] != count:
                    raise Violated(
                        f"{account.stream.name}: {account.places[place]} count as "
                        f"{Place(place).name}, {count} are"
                    )
