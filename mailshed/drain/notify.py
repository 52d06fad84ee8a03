"""Who is told what about a message, and the report as a message of its own.

Told are trusted senders, never nobody and never about mail of our own or another's report (a report
to a forged sender would be spam, one about a report could go on for ever), and only about
recipients for whom the sender wants it (NOTIFY, RFC 3461, 4.1). A delay is not reported unasked to
a program (Auto-Submitted, RFC 3834, 2): nobody reads it. One report speaks of all recipients that
fared alike in one moment.

A success is told by whoever is the last to know: by the backend, if it offers DSN and was given the
parameters (RFC 3461, 5.2.1), else by us, as *relayed* (5.2.2) or, where the backend is the mailbox
itself, as *delivered* (5.2.3).

A report about a spooled message enters the spool in the transaction that records its cause, so
there is neither an ending without its report nor a report without its ending. Where its addressee
has had enough reports (`report_limit`), the ending is that of mail whose sender is not told.

Pure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from mailshed.drain.dsn import deadline, wants_delay, wants_failure, wants_success
from mailshed.drain.matter import Matter, Original, ReportedRecipient, ReportPolicy
from mailshed.drain.report import parameters_for, write_report
from mailshed.drain.report_limit import Untold
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    TransactionResult,
)
from mailshed.mail.header import HeaderView
from mailshed.spool.store import Report, SpoolRecipient, SpoolRecord
from mailshed.terms import Ending, QueueId, Reason, ReportKind, Stage

# What the backend said last, as it is kept with a recipient: a 4xx, and its enhanced status code.
_DEFERRAL = re.compile(r"4[0-9]{2}(?:[ -](4\.[0-9]{1,3}\.[0-9]{1,3})(?![^ ]))?")
# RFC 3463, 3.5: no answer from host, bad connection, mail system congestion, delivery time expired.
NO_ANSWER_STATUS, BROKEN_STATUS, CONGESTED_STATUS = "4.4.1", "4.4.2", "4.4.5"
LATE_STATUS = "4.4.7"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContext:
    """What a report needs that the record does not have.

    `report_id` is a fresh queue id, used if a report is due, and `success_id` another one, for the
    report of a success. `content` is the start of the message's content, in wire form. `remote_mta`
    is the backend's host name, or empty. `is_limited`: its sender has had enough reports for now.
    `backend` is the name of the one that serves the sender.
    """

    policy: ReportPolicy
    report_id: QueueId
    success_id: QueueId
    content: bytes
    remote_mta: str = ""
    is_limited: bool = False
    backend: str = ""


def may_report(record: SpoolRecord) -> bool:
    """Whether anyone may be told about this message: not strangers (backscatter), not nobody."""
    return bool(record.reverse_path) and record.is_trusted and not record.is_generated


def is_told_of_failure(
    record: SpoolRecord, recipient: SpoolRecipient, context: ReportContext
) -> bool:
    """Whether the failure of `recipient` will be in a report."""
    return (
        not context.is_limited
        and wants_failure(recipient.parameters)
        and may_report(record)
        and not _is_report(context.content)
    )


def success_kind(result: TransactionResult) -> ReportKind | None:
    """What we have to tell of a success; None if the backend tells it."""
    if b"NOTIFY" in result.passed_on:
        return None
    return ReportKind.DELIVERED if result.is_final else ReportKind.RELAYED


def failure_report(
    record: SpoolRecord, failed: Sequence[ReportedRecipient], context: ReportContext, wall: float
) -> Report | None:
    """The report about all of `failed` who are to be told of; None if there is nobody to tell."""
    told = [each for each in failed if wants_failure(each.parameters)]
    all_expired = all(each.is_expired for each in told)
    reason = Reason.EXPIRED if all_expired else Reason.BACKEND_REFUSED
    return _report(ReportKind.FAILED, record, told, context, wall=wall, reason=reason)


def delay_report(
    record: SpoolRecord, context: ReportContext, wall: float, *, is_backend_away: bool
) -> Report | None:
    """The report that the recipients of `record` still wait; None if there is nobody to tell."""
    is_unasked = not _is_from_program(context.content)
    by = deadline(record.parameters, record.received_wall)
    told = [
        _delayed(recipient, is_backend_away=is_backend_away, is_late=by is not None and by <= wall)
        for recipient in record.recipients
        if wants_delay(recipient.parameters, is_unasked=is_unasked)
    ]
    return _report(ReportKind.DELAYED, record, told, context, wall=wall, reason=record.reason)


def success_report(
    record: SpoolRecord, result: TransactionResult, context: ReportContext, wall: float
) -> Report | None:
    """The report about those whom the backend took; None if there is nobody to tell, or to us.

    `result` has one result for each recipient of `record`.
    """
    kind = success_kind(result)
    if kind is None:
        return None
    told = [
        _successful(recipient, fared, context, wall)
        for recipient, fared in zip(record.recipients, result.recipients, strict=True)
        if isinstance(fared, Delivered) and wants_success(recipient.parameters)
    ]
    return _report(kind, record, told, context, wall=wall, reason=Reason.ROOM)


def untold(
    record: SpoolRecord,
    endings: Mapping[int, Ending],
    result: TransactionResult | None,
    context: ReportContext,
) -> list[Untold]:
    """What the reports that `context.is_limited` has prevented would have said.

    `endings` are those of `record`; `result` is None if it ended without an attempt.
    """
    if not context.is_limited or not may_report(record) or _is_report(context.content):
        return []
    last = [each.last_reply for each in record.recipients]
    said = last if result is None else [words_of(each) for each in result.recipients]
    success = None if result is None else success_kind(result)
    lines = []
    for recipient, words in zip(record.recipients, said, strict=True):
        kind: ReportKind | None = None
        match endings.get(recipient.index):
            case Ending.DELIVERED if wants_success(recipient.parameters):
                kind = success
            case Ending.BOUNCED | Ending.REFUSED | Ending.EXPIRED:
                kind = ReportKind.FAILED if wants_failure(recipient.parameters) else None
            case _:
                pass
        if kind is not None:
            lines.append(Untold(kind, record.queue_id, recipient.address, words))
    return lines


def words_of(fared: DeliveryResult) -> str:
    """What is kept with the recipient: the reply, or our own words, which begin with a stage."""
    match fared:
        case Delivered(reply) | Bounced(_, reply):
            return reply.text
        case Deferred(_, reply, _) if reply is not None:
            return reply.text
        case Deferred(stage, _, detail):
            return f"{stage.value}: {detail or 'no reply'}"
        case InDoubt(detail):
            return f"{Stage.DOT.value}: in doubt: {detail}"
        case other:
            assert_never(other)


def _delayed(
    recipient: SpoolRecipient, *, is_backend_away: bool, is_late: bool
) -> ReportedRecipient:
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
        address=recipient.address,
        parameters=recipient.parameters,
        status=LATE_STATUS if is_late else status,
        reply=reply,
    )


def _successful(
    recipient: SpoolRecipient, fared: Delivered, context: ReportContext, wall: float
) -> ReportedRecipient:
    answer = fared.reply
    return ReportedRecipient(
        address=recipient.address,
        parameters=recipient.parameters,
        status=answer.enhanced_status,
        # Without a server there is nobody whose reply it could be.
        reply=answer.text if context.remote_mta else "",
        attempted_wall=wall,
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
    if not told or context.is_limited or not may_report(record) or _is_report(context.content):
        return None
    is_success = kind in (ReportKind.RELAYED, ReportKind.DELIVERED)
    report_id = context.success_id if is_success else context.report_id
    matter = Matter(
        kind=kind,
        original=Original(
            queue_id=record.queue_id,
            reverse_path=record.reverse_path,
            parameters=record.parameters,
            received_wall=record.received_wall,
            expires_wall=record.expires_wall,
            deadline_wall=deadline(record.parameters, record.received_wall),
            content=context.content,
            size=record.size,
        ),
        recipients=tuple(told),
        policy=context.policy,
        wall=wall,
        remote_mta=context.remote_mta,
    )
    content = write_report(matter, report_id)
    return generated(
        record.reverse_path,
        report_id,
        content,
        kind=kind,
        # As urgent as what it is about.
        traffic_class=record.traffic_class,
        rank=record.rank,
        policy=context.policy,
        wall=wall,
        reason=reason,
        backend=context.backend,
    )


def generated(
    addressee: bytes,
    report_id: QueueId,
    content: bytes,
    *,
    kind: ReportKind,
    traffic_class: str,
    rank: int,
    policy: ReportPolicy,
    wall: float,
    reason: Reason,
    backend: str = "",
) -> Report:
    """A message of our own to a sender, whom the named backend serves."""
    return Report(
        kind=kind,
        record=SpoolRecord(
            queue_id=report_id,
            traffic_class=traffic_class,
            rank=rank,
            reverse_path=b"",
            parameters=parameters_for(addressee, content),
            recipients=(SpoolRecipient(index=0, address=addressee),),
            size=len(content),
            received_wall=wall,
            expires_wall=wall + policy.lifetime,
            next_attempt_wall=wall,
            reason=reason,
            client_address="local",
            is_trusted=False,
            is_generated=True,
            backend=backend,
        ),
        content=content,
    )


def _is_report(content: bytes) -> bool:
    """Whether this is a report itself, from a server that does not use the null reverse-path."""
    values = HeaderView(content).values_of(b"content-type")
    return any(value.lower().startswith("multipart/report") for value in values)


def _is_from_program(content: bytes) -> bool:
    """Whether a program says that it has sent this (RFC 3834, 5)."""
    values = HeaderView(content).values_of(b"auto-submitted")
    return any(value.partition(";")[0].strip().lower() != "no" for value in values)
