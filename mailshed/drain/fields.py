"""What a report says to programs: the fields of RFC 3464, 2.2 and 2.3.

Fields about the message, then a block for each recipient. What the sender named its mail by comes
back decoded (ENVID, ORCPT: RFC 3461, 6.3), and is not there if it named nothing. Diagnostic-Code is
of type `smtp` only for what a server has said, and only then there is a Remote-MTA; our own words
have a type of our own (RFC 3464, 2.3.6).

Pure.
"""

from mailshed.drain.addresses import final_recipient, original_recipient
from mailshed.drain.dsn import of_mail
from mailshed.drain.matter import Matter, ReportedRecipient
from mailshed.drain.mime import clean, fold
from mailshed.mail.trace import date_time
from mailshed.terms import ReportKind

_NOTHING_SAID = {
    ReportKind.FAILED: "delivery time expired",
    ReportKind.DELAYED: "still waiting",
    ReportKind.RELAYED: "handed over",
    ReportKind.DELIVERED: "stored in the mailbox",
}


def fields(matter: Matter) -> list[str]:
    """The lines of the part for programs."""
    original = matter.original
    lines = [f"Reporting-MTA: dns; {matter.policy.hostname}"]
    if (envelope_id := of_mail(original.parameters).envid) is not None:
        lines.append(f"Original-Envelope-Id: {clean(envelope_id)}")
    lines += [
        f"X-Mailshed-Queue-Id: {original.queue_id}",
        f"Arrival-Date: {date_time(int(original.received_wall))}",
    ]
    if original.deadline_wall is not None:
        lines.append(f"Deliver-By-Date: {date_time(int(original.deadline_wall))}")
    for recipient in matter.recipients:
        lines += ["", *_about(matter, recipient)]
    return lines


def _about(matter: Matter, recipient: ReportedRecipient) -> list[str]:
    lines = []
    named = original_recipient(recipient.parameters, is_utf8=matter.is_utf8)
    if named is not None:
        lines.append(f"Original-Recipient: {named}")
    lines += [
        f"Final-Recipient: {final_recipient(recipient.address, is_utf8=matter.is_utf8)}",
        f"Action: {matter.kind.value}",
        f"Status: {recipient.status}",
    ]
    if matter.remote_mta and recipient.is_from_backend:
        lines.append(f"Remote-MTA: dns; {clean(matter.remote_mta)}")
    type_of_code = "smtp" if recipient.is_from_backend else "x-mailshed"
    said = clean(recipient.reply) or _NOTHING_SAID[matter.kind]
    lines += fold(f"Diagnostic-Code: {type_of_code}; {said}")
    if recipient.attempted_wall is not None:
        lines.append(f"Last-Attempt-Date: {date_time(int(recipient.attempted_wall))}")
    if matter.kind is ReportKind.DELAYED:
        lines.append(f"Will-Retry-Until: {date_time(int(matter.original.expires_wall))}")
    return lines
