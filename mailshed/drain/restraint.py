"""What is due and not tried all the same, because the attempt would only do harm.

Two things hold a message back: all its mailboxes are held (`mailboxes`), or it is a retry and there
is no token for it (`budget`). It is then postponed: its next attempt is written to be later,
without counting an attempt. That is one write in place of an attempt and a write; and it gets the
message out of the way, since the spool shows those first that have been due for longest, and what
stayed due untried would hide all others.

Asked twice: before a message is taken in hand for a slot, and when it has its slot, since the world
may have changed meanwhile. Then a message of which some mailboxes are held goes to the others.

Pure: `now` is monotonic seconds, chance a number in [0, 1).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from mailshed.drain.budget import RetryBudget
from mailshed.drain.mailboxes import Mailboxes, Trial, is_full
from mailshed.drain.retry import RetryPolicy, retry_delay
from mailshed.mail.delivery import Bounced, Deferred, Delivered, InDoubt, TransactionResult
from mailshed.metrics.labels import PostponedLabel
from mailshed.spool.store import SpoolRecord
from mailshed.terms import Reason

# Messages that were spooled after a dialog that failed; MIXED_RECIPIENTS was only ever begun.
_FAILED_LIVE = frozenset({Reason.BACKEND_DEFERRED, Reason.IN_DOUBT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """Not now: to be looked at again after so many seconds."""

    seconds: float
    cause: PostponedLabel
    """`mailbox`: all its mailboxes are held; `retry_budget`: there are too many retries."""


@dataclass(eq=False, slots=True, kw_only=True)
class Permit:
    """One message may be tried; ends with `Restraint.end` or `Restraint.drop`."""

    record: SpoolRecord
    is_free: bool = False
    """Whether nothing holds it back."""
    has_token: bool = False
    trial: Trial | None = None

    @property
    def is_urgent(self) -> bool:
        """Whether it is of the best rank: no budget, and short pauses."""
        return self.record.rank == 0

    @property
    def needs_token(self) -> bool:
        """Whether it is a retry that the budget has to pay."""
        return is_retry(self.record) and not self.is_urgent and not self.is_free


class Restraint:
    """What holds mail for one backend back. `retry` is the policy of the pauses in force."""

    def __init__(self, retry: Callable[[], RetryPolicy]) -> None:
        self._retry = retry
        self.budget = RetryBudget()
        self.mailboxes = Mailboxes()

    def admit(
        self, record: SpoolRecord, now: float, random_unit: float, *, is_free: bool
    ) -> Permit | Postponed:
        """Say whether a due message may wait for a slot.

        `is_free`: nothing holds it back, since it is its last attempt or an operator's wish.
        """
        permit = Permit(record=record, is_free=is_free)
        if is_free:
            return permit
        if not self.mailboxes.ready(record.recipients, now, is_urgent=permit.is_urgent):
            return self._send_away(permit, now)
        if permit.needs_token and self.budget.tokens(now) < 1:
            return self._wait_for_token(permit, random_unit)
        return permit

    def begin(self, permit: Permit, now: float, random_unit: float) -> SpoolRecord | Postponed:
        """Say who of the message may be tried, now that it has a slot; it is then under way."""
        recipients, is_urgent = permit.record.recipients, permit.is_urgent
        ready = recipients
        if not permit.is_free:
            ready = self.mailboxes.ready(recipients, now, is_urgent=is_urgent)
        if not ready:
            return self._send_away(permit, now)
        if permit.needs_token:
            if not self.budget.reserve(now):
                return self._wait_for_token(permit, random_unit)
            permit.has_token = True
        permit.trial = self.mailboxes.begin(ready, is_urgent=is_urgent)
        return permit.record if ready == recipients else replace(permit.record, recipients=ready)

    def drop(self, permit: Permit, now: float) -> None:
        """The message is not tried after all, or no longer."""
        if permit.trial is not None:
            permit.trial.end()
            permit.trial = None
        if permit.has_token:
            permit.has_token = False
            self.budget.give_back(now)

    def end(
        self,
        permit: Permit,
        record: SpoolRecord,
        result: TransactionResult,
        now: float,
        random_unit: float,
    ) -> float | None:
        """The attempt with the recipients of `record` has ended.

        Returns after how many seconds those who are left may be tried, if the mailboxes say so.
        """
        is_urgent = permit.is_urgent
        if not result.is_backend_away:
            self.budget.deposit(now)
            if _is_failure(result):
                permit.has_token = False  # spent
        self.drop(permit, now)
        self.mailboxes.learn(
            record.recipients,
            result.recipients,
            now,
            random_unit,
            is_urgent=is_urgent,
            is_each=result.is_each,
        )
        if any(isinstance(how, InDoubt) for how in result.recipients):
            return None  # it may have arrived: that is worth a rest, whoever's mailbox is full
        fared = zip(record.recipients, result.recipients, strict=True)
        left = [who for who, how in fared if isinstance(how, Deferred)]
        return self.mailboxes.pause(left, now, is_urgent=is_urgent) if left else None

    def _wait_for_token(self, permit: Permit, random_unit: float) -> Postponed:
        """The pause it would have if it had been tried, and had failed."""
        seconds = retry_delay(permit.record.attempts, random_unit, self._retry())
        return Postponed(seconds=seconds, cause="retry_budget")

    def _send_away(self, permit: Permit, now: float) -> Postponed:
        recipients, is_urgent = permit.record.recipients, permit.is_urgent
        seconds = self.mailboxes.send_away(recipients, now, is_urgent=is_urgent)
        return Postponed(seconds=seconds, cause="mailbox")


def is_retry(record: SpoolRecord) -> bool:
    """Whether the backend has failed this message before."""
    return record.attempts > 0 or record.reason in _FAILED_LIVE


def _is_failure(result: TransactionResult) -> bool:
    """Whether the attempt was for nothing, and not for the sake of a mailbox."""
    is_only = result.is_each or len(result.recipients) == 1
    return not any(
        isinstance(each, Delivered | Bounced) or is_full(each, is_only=is_only)
        for each in result.recipients
    )
