"""What a report says: who did not get a message, or not yet, and why.

There are two kinds, and both are RFC 3464 (delivery status notification): *failed*, which is the
end of the matter, and *delayed*, which asks nothing of the reader but patience. Each says it twice,
once for people and once for programs; `mime` puts the parts together. Whether a report may be sent
at all is decided in `notify`; never about a message whose reverse-path is null (RFC 5321, 4.5.5),
so two servers cannot report to each other for ever.

Parameters of the client's DSN extension (RFC 3461) that we honour: NOTIFY, ORCPT, ENVID. RET=FULL
is answered with the header only, which RFC 3461, 4.3 allows; the whole message stays with whoever
sent it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mailshed.drain.mime import clean, clean_bytes, fold, multipart_report, wrap
from mailshed.mail.trace import date_time
from mailshed.terms import QueueId

_XTEXT_CODE = re.compile(rb"\+([0-9A-F]{2})")
_REPLY = re.compile(r"[245][0-9]{2}(?:[ -]|$)")


class ReportKind(Enum):
    """What a report tells; the value is the Action field of RFC 3464, 2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"


_SUBJECTS = {
    ReportKind.FAILED: "Undelivered Mail Returned to Sender",
    ReportKind.DELAYED: "Delayed Mail (still being tried, nothing to do)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPolicy:
    """Who reports, and for how long a report is tried.

    `postmaster` is a mail address; `lifetime` is in seconds.
    """

    hostname: str
    postmaster: str
    lifetime: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRecipient:
    """One forward-path that a report is about.

    `reply` is the backend's last reply or, if there was none, our own words (`is_from_backend`
    tells); `status` is the enhanced status code of RFC 3463.
    """

    address: bytes
    parameters: tuple[bytes, ...] = ()
    status: str
    reply: str
    is_expired: bool = False

    @property
    def is_from_backend(self) -> bool:
        """Whether `reply` is an SMTP reply, which our own words never look like."""
        return _REPLY.match(self.reply) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The message that a report is about. `header` is the start of its content, in wire form.

    Only the header section of it is used, so more may be passed, and less.
    """

    queue_id: QueueId
    reverse_path: bytes
    parameters: tuple[bytes, ...] = ()
    received_wall: float
    expires_wall: float
    """Until when it is tried."""
    header: bytes


def write_report(
    kind: ReportKind,
    original: Original,
    recipients: Sequence[ReportedRecipient],
    *,
    policy: ReportPolicy,
    report_id: QueueId,
    wall: float,
    remote_mta: str = "",
) -> bytes:
    """Write the report about `recipients` (at least one), in wire form without the final dot.

    `report_id` is the report's own queue id and makes its Message-ID; `wall` is now; `remote_mta`
    is the backend's host name, if known.
    """
    assert original.reverse_path, "never a report about a message from the null reverse-path"
    assert recipients, "a report is about someone"
    write_text = _failure_text if kind is ReportKind.FAILED else _delay_text
    blocks = [wrap(f"This is the mail system at {policy.hostname}.")]
    blocks += write_text(original, recipients, policy)
    return multipart_report(
        head=[
            f"From: Mail Delivery System <{policy.postmaster}>",
            f"To: <{clean_bytes(original.reverse_path)}>",
            f"Subject: {_SUBJECTS[kind]}",
            f"Date: {date_time(int(wall))}",
            f"Message-ID: <{report_id}@{policy.hostname}>",
            "Auto-Submitted: auto-replied",
        ],
        text="\n\n".join("\n".join(block) for block in blocks).split("\n"),
        status=_status(kind, original, recipients, policy, remote_mta),
        content=original.header,
        seed=report_id,
    )


def parameter(parameters: Sequence[bytes], keyword: bytes) -> bytes | None:
    """The value of an ESMTP parameter, None if it is not there."""
    for each in parameters:
        name, _, value = each.partition(b"=")
        if name.upper() == keyword:
            return value
    return None


# For people.


def _failure_text(
    original: Original, failed: Sequence[ReportedRecipient], policy: ReportPolicy
) -> list[list[str]]:
    """Who, what, why, what to do."""
    return [
        wrap(
            f"Your message of {date_time(int(original.received_wall))} could not be delivered to"
            " the recipients below. It will not be tried again."
        ),
        *(_explanation(recipient, _why_failed(recipient)) for recipient in failed),
        wrap(
            f"What you can do: {_advice(failed)} If it is urgent, reach the recipient in another"
            f" way, for example by telephone. {_help(original, policy)}"
        ),
    ]


def _delay_text(
    original: Original, delayed: Sequence[ReportedRecipient], policy: ReportPolicy
) -> list[list[str]]:
    """Who waits, until when, and that nothing is to be done."""
    until = date_time(int(original.expires_wall))
    return [
        wrap(
            f"Your message of {date_time(int(original.received_wall))} has not been delivered yet"
            " to the recipients below. THIS IS A WARNING ONLY: the message is safe, and you do not"
            " need to send it again."
        ),
        wrap(
            f"It is being tried again and again until {until}. If it could not be delivered by"
            " then, you will be told."
        ),
        *(_explanation(recipient, _why_delayed(recipient)) for recipient in delayed),
        wrap(
            "If it is urgent, reach the recipient in another way, for example by telephone."
            f" {_help(original, policy)}"
        ),
    ]


def _explanation(recipient: ReportedRecipient, why: str) -> list[str]:
    return [f"<{clean_bytes(recipient.address)}>", *wrap(why, indent="    ")]


def _why_failed(recipient: ReportedRecipient) -> str:
    said = clean(recipient.reply)
    if not recipient.is_expired:
        return f"The mail server refused it: {said}"
    why = "It was tried for too long without success."
    return f"{why} The last attempt ended with: {said}" if said else why


def _why_delayed(recipient: ReportedRecipient) -> str:
    said = clean(recipient.reply)
    if recipient.is_from_backend:
        return f"The mail server does not take it yet: {said}"
    return f"It is still waiting: {said}"


def _advice(failed: Sequence[ReportedRecipient]) -> str:
    if all(recipient.is_expired for recipient in failed):
        return "the address may well be right; send the message again later."
    return "check the address and send the message again."


def _help(original: Original, policy: ReportPolicy) -> str:
    return (
        f"If you need help, forward this report to {policy.postmaster} and name the queue id"
        f" {original.queue_id}."
    )


# For programs.


def _status(
    kind: ReportKind,
    original: Original,
    recipients: Sequence[ReportedRecipient],
    policy: ReportPolicy,
    remote_mta: str,
) -> list[str]:
    """Fields about the message, then a block for each recipient."""
    fields = [f"Reporting-MTA: dns; {policy.hostname}"]
    if (envelope_id := parameter(original.parameters, b"ENVID")) is not None:
        fields.append(f"Original-Envelope-Id: {_from_xtext(envelope_id)}")
    fields += [
        f"X-Mailshed-Queue-Id: {original.queue_id}",
        f"Arrival-Date: {date_time(int(original.received_wall))}",
    ]
    for recipient in recipients:
        fields.append("")
        if (orcpt := parameter(recipient.parameters, b"ORCPT")) is not None:
            type_, _, address = orcpt.partition(b";")
            fields.append(f"Original-Recipient: {_from_xtext(type_)}; {_from_xtext(address)}")
        fields += [
            f"Final-Recipient: rfc822; {clean_bytes(recipient.address)}",
            f"Action: {kind.value}",
            f"Status: {recipient.status}",
        ]
        if remote_mta and recipient.is_from_backend:
            fields.append(f"Remote-MTA: dns; {clean(remote_mta)}")
        # RFC 3464, 2.3.6: 'smtp' is for what a server said; our own words have a type of our own.
        type_of_code = "smtp" if recipient.is_from_backend else "x-mailshed"
        said = clean(recipient.reply) or "delivery time expired"
        fields += fold(f"Diagnostic-Code: {type_of_code}; {said}")
        if kind is ReportKind.DELAYED:
            fields.append(f"Will-Retry-Until: {date_time(int(original.expires_wall))}")
    return fields


def _from_xtext(value: bytes) -> str:
    """Decode xtext (RFC 3461, 4); what it may have hidden is made visible, and harmless."""
    return clean_bytes(_XTEXT_CODE.sub(lambda code: bytes((int(code[1], 16),)), value))
