"""Failure reports: the message that tells a sender who did not get their mail, and why.

The form is RFC 3464 (delivery status notification) in RFC 6522 (multipart/report): a text for the
person, fields for the program, and the header section of the original, so that sender and program
recognise it. Whether a report may be sent at all is decided in `retry`; never about a message whose
reverse-path is null (RFC 5321, 4.5.5), so two servers cannot bounce reports at each other for ever.

Everything that came from outside (replies, addresses, parameters, the original's header) is hostile
until shown otherwise: field values are printable ASCII of bounded length, the header section is
quoted-printable unless it is plain, and the boundary occurs in none of the parts.

Parameters of the client's DSN extension (RFC 3461) that we honour: NOTIFY, ORCPT, ENVID. RET=FULL
is answered with the header only, which RFC 3461, 4.3 allows; the whole message stays with whoever
sent it.
"""

import re
import textwrap
from binascii import b2a_qp
from collections.abc import Sequence
from dataclasses import dataclass

from mailshed.mail.trace import date_time
from mailshed.terms import QueueId

HEADER_OCTETS_MAX = 50_000
"""Most of the original's header section that a report carries; Postfix's bounce_size_limit."""
# RFC 5322, 2.1.1 allows 998 octets a line; field name and fold need some.
VALUE_OCTETS_MAX = 900
LINE_WIDTH = 76

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_XTEXT_CODE = re.compile(rb"\+([0-9A-F]{2})")
_PLAIN = re.compile(rb"(?:[\t\x20-\x7e]{0,998}\r\n)*")
_REPLY = re.compile(r"[245][0-9]{2}(?:[ -]|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPolicy:
    """Who reports, and for how long a report is tried.

    `postmaster` is a mail address; `lifetime` is in seconds.
    """

    hostname: str
    postmaster: str
    lifetime: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRecipient:
    """One forward-path that failed for good.

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
    """The message that failed. `header` is the start of its content, in wire form.

    Only the header section of it is used, so more may be passed, and less.
    """

    queue_id: QueueId
    reverse_path: bytes
    parameters: tuple[bytes, ...] = ()
    received_wall: float
    header: bytes


def wants_failure_report(recipient_parameters: Sequence[bytes]) -> bool:
    """Whether NOTIFY (RFC 3461, 4.1) lets us report a failure; by default it does."""
    notify = _parameter(recipient_parameters, b"NOTIFY")
    return notify is None or b"FAILURE" in notify.upper().split(b",")


def failure_report(
    original: Original,
    failed: Sequence[FailedRecipient],
    *,
    policy: ReportPolicy,
    report_id: QueueId,
    wall: float,
    remote_mta: str = "",
) -> bytes:
    """Write the report about `failed` (at least one), in wire form without the final dot.

    `report_id` is the report's own queue id and makes its Message-ID; `wall` is now; `remote_mta`
    is the backend's host name, if known.
    """
    assert original.reverse_path, "never a report about a message from the null reverse-path"
    assert failed, "a report is about someone"
    parts = [
        _part("text/plain; charset=us-ascii", "Notification", _text(original, failed, policy)),
        _part(
            "message/delivery-status",
            "Delivery report",
            _status(original, failed, policy, remote_mta),
        ),
    ]
    header = _header_section(original.header)
    if header:
        parts.append(_header_part(header))
    boundary = _boundary(report_id, parts)
    delimiter = b"--" + boundary
    body = b"".join(delimiter + b"\r\n" + part for part in parts)
    preamble = b"This is a delivery report in MIME format (RFC 3464).\r\n\r\n"
    head = _report_header(original, policy, report_id, wall, boundary)
    return _stuff_dots(head + preamble + body + delimiter + b"--\r\n")


def _report_header(
    original: Original, policy: ReportPolicy, report_id: QueueId, wall: float, boundary: bytes
) -> bytes:
    return _lines(
        f"From: Mail Delivery System <{policy.postmaster}>",
        f"To: <{_ascii(original.reverse_path)}>",
        "Subject: Undelivered Mail Returned to Sender",
        f"Date: {date_time(int(wall))}",
        f"Message-ID: <{report_id}@{policy.hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary.decode()}"',
        "",
    )


def _text(original: Original, failed: Sequence[FailedRecipient], policy: ReportPolicy) -> bytes:
    """The part for people: who, what, why, what to do."""
    date = date_time(int(original.received_wall))
    blocks = [
        _wrap(f"This is the mail system at {policy.hostname}."),
        _wrap(
            f"Your message of {date} could not be delivered to the recipients below. It will not"
            " be tried again."
        ),
        *(_explanation(recipient) for recipient in failed),
        _wrap(
            f"What you can do: {_advice(failed)} If it is urgent, reach the recipient in another"
            " way, for example by telephone. If you need help, forward this report to"
            f" {policy.postmaster} and name the queue id {original.queue_id}."
        ),
    ]
    return _lines(*"\n\n".join("\n".join(block) for block in blocks).split("\n"))


def _advice(failed: Sequence[FailedRecipient]) -> str:
    if all(recipient.is_expired for recipient in failed):
        return "the address may well be right; send the message again later."
    return "check the address and send the message again."


def _explanation(recipient: FailedRecipient) -> list[str]:
    said = _clean(recipient.reply)
    if recipient.is_expired:
        why = "It was tried for too long without success."
        if said:
            why += f" The last attempt ended with: {said}"
    else:
        why = f"The mail server refused it: {said}"
    return [f"<{_ascii(recipient.address)}>", *_wrap(why, indent="    ")]


def _status(
    original: Original,
    failed: Sequence[FailedRecipient],
    policy: ReportPolicy,
    remote_mta: str,
) -> bytes:
    """The part for programs: fields about the message, then a block for each recipient."""
    fields = [f"Reporting-MTA: dns; {policy.hostname}"]
    if (envelope_id := _parameter(original.parameters, b"ENVID")) is not None:
        fields.append(f"Original-Envelope-Id: {_from_xtext(envelope_id)}")
    fields += [
        f"X-Mailshed-Queue-Id: {original.queue_id}",
        f"Arrival-Date: {date_time(int(original.received_wall))}",
    ]
    for recipient in failed:
        fields.append("")
        if (orcpt := _parameter(recipient.parameters, b"ORCPT")) is not None:
            kind, _, address = orcpt.partition(b";")
            fields.append(f"Original-Recipient: {_from_xtext(kind)}; {_from_xtext(address)}")
        fields += [
            f"Final-Recipient: rfc822; {_ascii(recipient.address)}",
            "Action: failed",
            f"Status: {recipient.status}",
        ]
        if remote_mta and recipient.is_from_backend:
            fields.append(f"Remote-MTA: dns; {_clean(remote_mta)}")
        # RFC 3464, 2.3.6: 'smtp' is for what a server said; our own words have a type of our own.
        kind_of_code = "smtp" if recipient.is_from_backend else "x-mailshed"
        said = _clean(recipient.reply) or "delivery time expired"
        fields += _fold(f"Diagnostic-Code: {kind_of_code}; {said}")
    return _lines(*fields)


def _header_part(header: bytes) -> bytes:
    """The original's header section, armoured unless it is plain ASCII in short lines."""
    if _PLAIN.fullmatch(header):
        return _part("text/rfc822-headers", "Undelivered message header", header)
    encoded = b"".join(_quoted_printable(line) for line in header.split(b"\r\n")[:-1])
    return _part("text/rfc822-headers", "Undelivered message header", encoded, "quoted-printable")


def _quoted_printable(line: bytes) -> bytes:
    # Not in text mode, so a bare CR or LF is encoded too; the LF that remain are soft breaks.
    return b2a_qp(line, istext=False).replace(b"\n", b"\r\n") + b"\r\n"


def _header_section(content: bytes) -> bytes:
    """Header lines at the start of `content`, undotted, whole lines, at most the bound."""
    if not content or content.startswith(b"\r\n"):
        return b""
    end = content.find(b"\r\n\r\n")
    section = content[: end + 2] if end >= 0 else content
    if len(section) > HEADER_OCTETS_MAX:
        last_line_end = section.rfind(b"\r\n", 0, HEADER_OCTETS_MAX)
        section = section[: last_line_end if last_line_end >= 0 else HEADER_OCTETS_MAX]
    if not section.endswith(b"\r\n"):
        section += b"\r\n"
    return section.removeprefix(b".").replace(b"\r\n.", b"\r\n")


def _part(content_type: str, description: str, body: bytes, encoding: str = "7bit") -> bytes:
    return (
        _lines(
            f"Content-Type: {content_type}",
            f"Content-Description: {description}",
            f"Content-Transfer-Encoding: {encoding}",
            "",
        )
        + body
        + b"\r\n"
    )


def _boundary(report_id: QueueId, parts: Sequence[bytes]) -> bytes:
    """A delimiter that occurs in none of the parts."""
    attempt = 0
    while True:
        boundary = f"=_{report_id}.{attempt}".encode()
        if not any(boundary in part for part in parts):
            return boundary
        attempt += 1


def _parameter(parameters: Sequence[bytes], keyword: bytes) -> bytes | None:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.upper() == keyword:
            return value
    return None


def _from_xtext(value: bytes) -> str:
    """Decode xtext (RFC 3461, 4); what it may have hidden is made visible, and harmless."""
    return _clean(_XTEXT_CODE.sub(lambda code: bytes((int(code[1], 16),)), value).decode("latin-1"))


def _ascii(address: bytes) -> str:
    return _clean(address.decode("latin-1"))


def _clean(text: str) -> str:
    return _UNPRINTABLE.sub("?", text)[:VALUE_OCTETS_MAX]


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        LINE_WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _fold(field: str) -> list[str]:
    """A header field on as many lines as it needs, without breaking words (RFC 5322, 2.2.3)."""
    return textwrap.wrap(
        field, LINE_WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def _lines(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _stuff_dots(content: bytes) -> bytes:
    """RFC 5321, 4.5.2. Our own first line does not begin with a dot."""
    return content.replace(b"\r\n.", b"\r\n..")
