"""Mailboxes that take no mail at the moment, because they are full or busy: each is held by itself.

A full mailbox is nobody else's trouble: it says nothing about the backend, nor about the other
recipients of the same message. But a thousand messages for it are a thousand attempts that cannot
succeed. So one such answer holds the mailbox, and with it all mail to it, with a growing pause;
then two messages at a time may try, and the first that gets through frees it.

The answers that count are those about one mailbox: an enhanced status 4.2.x (RFC 3463, 3.3), or the
432 of Exchange (too many deliveries to one mailbox at a time), to RCPT or, where there was only one
recipient or each has its own answer (LMTP), to the mail data. A bare 450 or 452 may mean the server
as a whole, and does not count.

Urgent mail (rank 0) has pauses of its own, much shorter: newsletters that met a full mailbox must
not keep a laboratory's result from it.

Pure: `now` is monotonic seconds, chance a number in [0, 1). Bounded: of too many mailboxes those
are forgotten that failed longest ago, and then simply tried again.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from mailshed.drain.retry import next_delay
from mailshed.mail.delivery import Bounced, Deferred, Delivered, DeliveryResult
from mailshed.spool.store import SpoolRecipient
from mailshed.terms import Stage

MAILBOXES_MAX = 10_000
"""Mailboxes that are remembered."""
IN_FLIGHT_MAX = 2
"""Messages in flight to a mailbox that has failed, once its pause is over."""
PAUSES = (30.0, 900.0)
URGENT_PAUSES = (2.0, 60.0)
"""Shortest and longest pause, in seconds."""
LONGEST_WAIT = 2 * PAUSES[1]
"""Seconds that mail for a held mailbox waits at most: the pause, and its place in the row."""
SPACING = 1.0
"""Seconds between those who wait for the same mailbox, so that they do not come back as one."""

# A message whose pause is that of its mailbox comes when that ends, give or take the rounding.
_ROUNDING = 0.01

_Key = tuple[bytes, bool]
_STAGES_OF_MANY = frozenset({Stage.RCPT})
_STAGES_OF_ONE = frozenset({Stage.RCPT, Stage.DATA, Stage.DOT})


@dataclass(eq=False, slots=True)
class _Mailbox:
    """One mailbox that has failed and not been freed."""

    pause: float
    until: float
    in_flight: int = 0
    waiting: int = 0
    """Messages that were sent away since the pause began."""


class Trial:
    """One attempt, and which mailboxes that have failed before it is a trial of."""

    def __init__(self, mailboxes: Sequence[_Mailbox]) -> None:
        self._mailboxes = mailboxes
        for mailbox in mailboxes:
            mailbox.in_flight += 1

    def end(self) -> None:
        """The attempt is over."""
        for mailbox in self._mailboxes:
            mailbox.in_flight -= 1
        self._mailboxes = ()


class Mailboxes:
    """The mailboxes of one backend that have failed. `is_urgent` says whether the mail is."""

    def __init__(self) -> None:
        self._failed: OrderedDict[_Key, _Mailbox] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failed)

    def held(self, now: float) -> int:
        """How many mailboxes are held now."""
        return sum(mailbox.until - now > _ROUNDING for mailbox in self._failed.values())

    def ready(
        self, recipients: Sequence[SpoolRecipient], now: float, *, is_urgent: bool
    ) -> tuple[SpoolRecipient, ...]:
        """Those of `recipients` who may be tried now."""
        if not self._failed:
            return tuple(recipients)
        return tuple(each for each in recipients if self._wait(each, now, is_urgent) <= 0.0)

    def send_away(
        self, recipients: Sequence[SpoolRecipient], now: float, *, is_urgent: bool
    ) -> float:
        """Seconds after which mail to `recipients`, none of whom may be tried, comes back.

        Whoever is sent away later comes back later.
        """
        first = min(recipients, key=lambda each: self._wait(each, now, is_urgent))
        wait = self._wait(first, now, is_urgent)
        mailbox = self._failed.get(_key(first, is_urgent))
        if mailbox is None:
            return wait
        spread = mailbox.waiting * SPACING % _pauses(is_urgent)[1]
        mailbox.waiting += 1
        return wait + spread

    def begin(self, recipients: Sequence[SpoolRecipient], *, is_urgent: bool) -> Trial:
        """Mail to `recipients` is handed over now."""
        found = (self._failed.get(_key(each, is_urgent)) for each in recipients)
        return Trial([mailbox for mailbox in found if mailbox is not None])

    def learn(
        self,
        recipients: Sequence[SpoolRecipient],
        results: Sequence[DeliveryResult],
        now: float,
        random_unit: float,
        *,
        is_urgent: bool,
        is_each: bool = False,
    ) -> None:
        """An attempt has ended with `results`, one for each of `recipients`.

        `is_each`: the mail data was answered for each of them.
        """
        for recipient, result in zip(recipients, results, strict=True):
            if isinstance(result, Delivered | Bounced):
                for urgency in (False, True):
                    self._failed.pop(_key(recipient, urgency), None)
            elif is_full(result, is_only=is_each or len(results) == 1):
                self._hold(_key(recipient, is_urgent), now, random_unit)

    def pause(
        self, recipients: Sequence[SpoolRecipient], now: float, *, is_urgent: bool
    ) -> float | None:
        """Seconds until the first of `recipients` is free, if all are held; else None."""
        untils = [
            mailbox.until - now
            for each in recipients
            if (mailbox := self._failed.get(_key(each, is_urgent))) is not None
        ]
        if not untils or len(untils) < len(recipients) or min(untils) <= _ROUNDING:
            return None  # a hold that is over says nothing about what kept them this time
        return min(untils)

    def _wait(self, recipient: SpoolRecipient, now: float, is_urgent: bool) -> float:
        mailbox = self._failed.get(_key(recipient, is_urgent))
        if mailbox is None:
            return 0.0
        wait = mailbox.until - now
        if wait > _ROUNDING:
            return wait
        # Two trials are enough to tell.
        return _pauses(is_urgent)[0] if mailbox.in_flight >= IN_FLIGHT_MAX else 0.0

    def _hold(self, key: _Key, now: float, random_unit: float) -> None:
        shortest, longest = _pauses(key[1])
        mailbox = self._failed.get(key)
        if mailbox is None:
            mailbox = self._failed[key] = _Mailbox(pause=shortest, until=now)
        elif mailbox.until - now > _ROUNDING:
            return  # it was on its way when the other failed
        elif now > mailbox.until + longest:
            mailbox.pause = shortest  # that was another time
        pause = next_delay(mailbox.pause, random_unit, minimum=shortest, maximum=longest)
        mailbox.pause, mailbox.until, mailbox.waiting = pause, now + pause, 0
        self._failed.move_to_end(key)
        if len(self._failed) > MAILBOXES_MAX:
            self._failed.popitem(last=False)


def is_full(result: DeliveryResult, *, is_only: bool) -> bool:
    """Whether this is about one mailbox; `is_only`: no reply was about another one, too."""
    stages = _STAGES_OF_ONE if is_only else _STAGES_OF_MANY
    match result:
        case Deferred(stage, reply) if reply is not None and stage in stages:
            return reply.code == 432 or reply.enhanced_status.startswith("4.2.")
        case _:
            return False


def _key(recipient: SpoolRecipient, is_urgent: bool) -> _Key:
    # Servers differ in what case means to them; for a pause it does not matter.
    return recipient.address.lower(), is_urgent


def _pauses(is_urgent: bool) -> tuple[float, float]:
    return URGENT_PAUSES if is_urgent else PAUSES
