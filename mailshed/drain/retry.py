"""After an attempt: who is done, who is tried again and when, and who must be told.

The input is what the backend said about each recipient, the output is one `Settlement` that the
spool writes in one transaction, with the failure report that it causes. Nothing here knows the
time or chance; both are passed in.

Backoff is decorrelated jitter (Brooker, "Exponential Backoff And Jitter", 2015): the next delay is
uniform between the minimum and three times the previous one. The record stores how many attempts
there were rather than the last delay, so the bound that grows is `minimum * 3**attempts`, cut at
the maximum. The cut is applied to the bound, not to the delay, so that messages which failed
together do not come back together once they have reached the maximum.

An attempt that never got to a dialog (no connection, no EHLO) says nothing about the message: it
does not count and does not make the next delay grow. How often an absent backend is asked is the
breaker's business.

What a message needs and the backend does not offer (SMTPUTF8) it may offer tomorrow, after an
update or a change of its settings: it is tried for `UNSUPPORTED_PATIENCE`, then returned.

Doubt: if the backend did not answer our final dot, the message may have been delivered. It is tried
again, since a duplicate is better than a loss; the second time it is held for an operator, since a
message that makes a backend hang must not do so for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from mailshed.drain.dsn import deadline, is_returned_at_deadline
from mailshed.drain.matter import (
    DEADLINE_STATUS,
    EXPIRED_STATUS,
    UNSUPPORTED_STATUS,
    ReportedRecipient,
)
from mailshed.drain.notify import (
    ReportContext,
    failure_report,
    is_told_of_failure,
    success_report,
    words_of,
)
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    NoReply,
    TransactionResult,
)
from mailshed.spool.store import Report, Settlement, SpoolRecipient, SpoolRecord
from mailshed.terms import Ending, SpoolState, Stage

GROWTH = 3.0
"""Factor by which the bound of the delay grows with each attempt."""
UNSUPPORTED_PATIENCE = 86400.0
"""Seconds for which a message waits for what the backend does not offer."""

# Beyond this many attempts the bound has long been cut, and a power might overflow.
_ATTEMPTS_THAT_GROW = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to try again: delays in seconds, and after how many doubtful endings not to."""

    delay_min: float
    delay_max: float
    in_doubt_max: int = 2


def previous_delay(attempts: int, *, minimum: float, maximum: float) -> float:
    """The bound of the delay that `attempts` counted attempts have led to; the stateless memory."""
    return min(maximum, minimum * GROWTH ** min(attempts, _ATTEMPTS_THAT_GROW))


def next_delay(previous: float, random_unit: float, *, minimum: float, maximum: float) -> float:
    """Seconds until the next attempt, in [minimum, min(maximum, 3 * previous)].

    `random_unit` is uniform in [0, 1).
    """
    bound = max(minimum, min(maximum, GROWTH * previous))
    return minimum + random_unit * (bound - minimum)


def settle_attempt(
    record: SpoolRecord,
    result: TransactionResult,
    *,
    wall: float,
    left: float,
    random_unit: float,
    retry: RetryPolicy,
    report: ReportContext,
    pause: float | None = None,
) -> Settlement:
    """Say what one attempt changed. `result` has one for each recipient of `record`, in order.

    `left` is how many seconds the message may still live: a recipient that is deferred after its
    time is up has had its last attempt. `pause` takes the place of the delay that would grow with
    the attempts.
    """
    endings: dict[int, Ending] = {}
    deferred: dict[int, str] = {}
    failed: list[ReportedRecipient] = []
    results = result.recipients
    # What has waited for an extension long enough, by the age that `left` goes by too.
    patience = UNSUPPORTED_PATIENCE - (record.expires_wall - record.received_wall - left)
    for recipient, fared in zip(record.recipients, results, strict=True):
        match fared:
            case Delivered():
                endings[recipient.index] = Ending.DELIVERED
            case Bounced(_, reply):
                endings[recipient.index] = _ending_of_failure(record, recipient, report)
                failed.append(_failed(recipient, reply.enhanced_status, reply.text, wall))
            case Deferred(_, _, detail, NoReply.UNSUPPORTED) if patience <= 0 or left <= 0:
                endings[recipient.index] = _ending_of_failure(record, recipient, report)
                failed.append(_failed(recipient, UNSUPPORTED_STATUS, detail, wall))
            case Deferred() if left <= 0:
                endings[recipient.index] = Ending.EXPIRED
                failed.append(_expired(record, recipient, words_of(fared), wall))
            case Deferred() | InDoubt():
                deferred[recipient.index] = words_of(fared)
            case other:
                assert_never(other)
    is_doubtful = any(isinstance(fared, InDoubt) for fared in results)
    in_doubt = record.in_doubt + is_doubtful
    is_held = is_doubtful and in_doubt >= retry.in_doubt_max
    was_dialog = not _was_no_dialog(results)
    if pause is None:
        pause = retry_delay(record.attempts if was_dialog else 0, random_unit, retry)
    if any(is_unsupported(fared) for fared in results):
        left = min(left, patience)
    return Settlement(
        queue_id=record.queue_id,
        endings=endings,
        deferred=deferred,
        state=SpoolState.HOLD if is_held else SpoolState.DEFERRED,
        attempts=record.attempts + was_dialog,
        # What may have arrived has its rest even if its time is up: at once, it would come twice.
        next_attempt_wall=wall + (pause if is_doubtful else _in_its_time(pause, left)),
        in_doubt=in_doubt,
        reports=_reports(
            failure_report(record, failed, report, wall),
            success_report(record, result, report, wall),
        ),
    )


def postpone(record: SpoolRecord, *, wall: float, left: float, pause: float) -> Settlement:
    """Let a message wait without an attempt, for `pause` seconds; nothing else changes."""
    is_new = all(each.state is SpoolState.QUEUED for each in record.recipients)
    return Settlement(
        queue_id=record.queue_id,
        deferred={each.index: each.last_reply for each in record.recipients},
        state=SpoolState.QUEUED if is_new else SpoolState.DEFERRED,
        attempts=record.attempts,
        next_attempt_wall=wall + _in_its_time(pause, left),
        in_doubt=record.in_doubt,
    )


def retry_delay(attempts: int, random_unit: float, retry: RetryPolicy) -> float:
    """Seconds until the next attempt after so many that counted."""
    minimum, maximum = retry.delay_min, retry.delay_max
    previous = previous_delay(attempts, minimum=minimum, maximum=maximum)
    return next_delay(previous, random_unit, minimum=minimum, maximum=maximum)


def is_unsupported(fared: DeliveryResult) -> bool:
    """Whether the backend was not given it, since it does not offer what the message needs."""
    return isinstance(fared, Deferred) and fared.no_reply is NoReply.UNSUPPORTED


def _in_its_time(pause: float, left: float) -> float:
    """The last attempt is at the end of the message's time, not at some point after it."""
    return min(pause, max(0.0, left))


def expire(record: SpoolRecord, *, wall: float, report: ReportContext) -> Settlement:
    """Give up on all recipients of `record`, whose time is up without a further attempt."""
    failed = [_expired(record, recipient, recipient.last_reply) for recipient in record.recipients]
    return Settlement(
        queue_id=record.queue_id,
        endings={recipient.index: Ending.EXPIRED for recipient in record.recipients},
        attempts=record.attempts,
        next_attempt_wall=record.next_attempt_wall,
        in_doubt=record.in_doubt,
        reports=_reports(failure_report(record, failed, report, wall)),
    )


def _ending_of_failure(
    record: SpoolRecord, recipient: SpoolRecipient, report: ReportContext
) -> Ending:
    return Ending.BOUNCED if is_told_of_failure(record, recipient, report) else Ending.REFUSED


def _was_no_dialog(results: Sequence[DeliveryResult]) -> bool:
    """Whether the backend was not even told of a message."""
    return all(
        isinstance(result, Deferred) and result.stage in {Stage.CONNECT, Stage.EHLO}
        for result in results
    )


def _failed(recipient: SpoolRecipient, status: str, reply: str, wall: float) -> ReportedRecipient:
    return ReportedRecipient(
        address=recipient.address,
        parameters=recipient.parameters,
        status=status,
        reply=reply,
        attempted_wall=wall,
    )


def _expired(
    record: SpoolRecord, recipient: SpoolRecipient, reply: str, wall: float | None = None
) -> ReportedRecipient:
    """`wall` is when it was tried last; None if nobody knows."""
    by = deadline(record.parameters, record.received_wall)
    is_at_deadline = (
        by is not None
        and by < record.expires_wall + 1.0
        and is_returned_at_deadline(record.parameters)
    )
    return ReportedRecipient(
        address=recipient.address,
        parameters=recipient.parameters,
        status=DEADLINE_STATUS if is_at_deadline else EXPIRED_STATUS,
        reply=reply,
        is_expired=True,
        attempted_wall=wall,
    )


def _reports(*made: Report | None) -> tuple[Report, ...]:
    """At most one of a kind, about all who fared so in this attempt and wanted it told."""
    return tuple(each for each in made if each is not None)
