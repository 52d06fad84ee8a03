"""Who is told what about a message, and the report as a message of its own.

Told are trusted senders, never nobody and never about mail of our own (a report to a forged sender
would be spam, one about a report could go on for ever), and only about recipients for whom the
sender wants it (NOTIFY, RFC 3461, 4.1). One report speaks of all recipients that fared alike in one
moment.

A report enters the spool in the transaction that records its cause, so there is neither an ending
without its report nor a report without its ending.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mailshed.drain.report import (
    Original,
    ReportedRecipient,
    ReportKind,
    ReportPolicy,
    parameter,
    write_report,
)
from mailshed.spool.store import Report, SpoolRecipient, SpoolRecord
from mailshed.terms import QueueId, Reason

# What the backend said last, as it is kept with a recipient: a 4xx, and its enhanced status code.
_DEFERRAL = re.compile(r"4[0-9]{2}(?:[ -](4\.[0-9]{1,3}\.[0-9]{1,3})(?![^ ]))?")
# RFC 3463, 3.5: no answer from host, bad connection, mail system congestion.
NO_ANSWER_STATUS, BROKEN_STATUS, CONGESTED_STATUS = "4.4.1", "4.4.2", "4.4.5"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContext:
    """What a report needs that the record does not have.

    `report_id` is a fresh queue id, used if a report is due. `header` is the start of the message's
    content, in wire form. `remote_mta` is the backend's host name, or empty.
    """

    policy: ReportPolicy
    report_id: QueueId
    header: bytes
    remote_mta: str = ""


def may_report(record: SpoolRecord) -> bool:
    """Whether anyone may be told about this message: not strangers (backscatter), not nobody."""
    return bool(record.reverse_path) and record.is_trusted and not record.is_generated


def wants_failure_report(recipient_parameters: Sequence[bytes]) -> bool:
    """Whether NOTIFY lets us report a failure; by default it does."""
    return _wants(recipient_parameters, b"FAILURE")


def wants_delay_report(recipient_parameters: Sequence[bytes]) -> bool:
    """Whether NOTIFY lets us report a delay; by default it does (RFC 3461, 4.1)."""
    return _wants(recipient_parameters, b"DELAY")


def failure_report(
    record: SpoolRecord, failed: Sequence[ReportedRecipient], context: ReportContext, wall: float
) -> Report | None:
    """The report about all of `failed` who are to be told of; None if there is nobody to tell."""
    told = [each for each in failed if wants_failure_report(each.parameters)]
    all_expired = all(each.is_expired for each in told)
    reason = Reason.EXPIRED if all_expired else Reason.BACKEND_REFUSED
    return _report(ReportKind.FAILED, record, told, context, wall=wall, reason=reason)


def delay_report(
    record: SpoolRecord, context: ReportContext, wall: float, *, is_backend_away: bool
) -> Report | None:
    """The report that the recipients of `record` still wait; None if there is nobody to tell."""
    told = [
        _delayed(recipient, is_backend_away=is_backend_away)
        for recipient in record.recipients
        if wants_delay_report(recipient.parameters)
    ]
    return _report(ReportKind.DELAYED, record, told, context, wall=wall, reason=record.reason)


def _wants(recipient_parameters: Sequence[bytes], event: bytes) -> bool:
    notify = parameter(recipient_parameters, b"NOTIFY")
    return notify is None or event in notify.upper().split(b",")


def _delayed(recipient: SpoolRecipient, *, is_backend_away: bool) -> ReportedRecipient:
    """Why a recipient still waits, by what the backend last said, or else by what we know now."""
    said = _DEFERRAL.match(recipient.last_reply)
    if said is not None:
        status, reply = said[1] or "4.0.0", recipient.last_reply
    elif is_backend_away:
        status, reply = NO_ANSWER_STATUS, "the mail server cannot be reached"
    elif recipient.last_reply:  # our own words about a dialog that broke off
        status, reply = BROKEN_STATUS, recipient.last_reply
    else:
        status, reply = CONGESTED_STATUS, "the mail server is busy with other mail"
    return ReportedRecipient(
        address=recipient.address, parameters=recipient.parameters, status=status, reply=reply
    )


def _report(
    kind: ReportKind,
    record: SpoolRecord,
    told: Sequence[ReportedRecipient],
    context: ReportContext,
    *,
    wall: float,
    reason: Reason,
) -> Report | None:
    if not told or not may_report(record):
        return None
    original = Original(
        queue_id=record.queue_id,
        reverse_path=record.reverse_path,
        parameters=record.parameters,
        received_wall=record.received_wall,
        expires_wall=record.expires_wall,
        header=context.header,
    )
    content = write_report(
        kind,
        original,
        told,
        policy=context.policy,
        report_id=context.report_id,
        wall=wall,
        remote_mta=context.remote_mta,
    )
    return Report(
        record=SpoolRecord(
            queue_id=context.report_id,
            # As urgent as what it is about.
            traffic_class=record.traffic_class,
            rank=record.rank,
            reverse_path=b"",
            recipients=(SpoolRecipient(index=0, address=record.reverse_path),),
            size=len(content),
            received_wall=wall,
            expires_wall=wall + context.policy.lifetime,
            next_attempt_wall=wall,
            reason=reason,
            client_address="local",
            is_trusted=False,
            is_generated=True,
        ),
        content=content,
    )
