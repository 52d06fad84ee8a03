"""A report: who did not get a message, or not yet, or has got it, and why.

There are four kinds, all of RFC 3464 (delivery status notification): *failed*, which is the end of
the matter; *delayed*, which asks nothing of the reader but patience; and, only if the sender wants
to hear of success, *relayed* and *delivered*. Each says it twice, once for people (`wording`) and
once for programs (`fields`), and brings back some of the original (`returned`); here they become
one message. Whether a report may be sent at all is decided in `notify`; never about a message whose
reverse-path is null (RFC 5321, 4.5.5), so two servers cannot report to each other for ever.

It goes from the null reverse-path, without DSN parameters of its own (RFC 3461, 6.1), and says that
a machine has written it (RFC 3834).

Pure.
"""

from mailshed.drain.dsn import of_mail
from mailshed.drain.fields import fields
from mailshed.drain.matter import Matter, ReportPolicy
from mailshed.drain.mime import clean_bytes, multipart_report
from mailshed.drain.returned import returned
from mailshed.drain.wording import SUBJECTS, text
from mailshed.mail.parameters import Ret
from mailshed.mail.trace import date_time
from mailshed.terms import QueueId, ReportKind


def write_report(matter: Matter, report_id: QueueId) -> bytes:
    """Write the report, in wire form without the final dot.

    `report_id` is the report's own queue id and makes its Message-ID.
    """
    original, is_utf8 = matter.original, matter.is_utf8
    assert original.reverse_path, "never a report about a message from the null reverse-path"
    assert matter.recipients, "a report is about someone"
    is_full = matter.kind is ReportKind.FAILED and of_mail(original.parameters).ret is Ret.FULL
    return multipart_report(
        head=head(
            original.reverse_path, SUBJECTS[matter.kind], matter.policy, report_id, matter.wall
        ),
        text=text(matter),
        status=fields(matter),
        returned=returned(original.content, original.size, is_full=is_full, is_utf8=is_utf8),
        seed=report_id,
        is_utf8=is_utf8,
    )


def head(
    addressee: bytes, subject: str, policy: ReportPolicy, report_id: QueueId, wall: float
) -> list[str]:
    """The header fields of what we write to a sender, but for those of MIME."""
    return [
        f"From: Mail Delivery System <{policy.postmaster}>",
        f"To: <{clean_bytes(addressee, is_utf8=True)}>",
        f"Subject: {subject}",
        f"Date: {date_time(int(wall))}",
        f"Message-ID: <{report_id}@{policy.hostname}>",
        "Auto-Submitted: auto-replied",
    ]


def parameters_for(addressee: bytes, content: bytes) -> tuple[bytes, ...]:
    """The parameters of MAIL that such a message needs on its way."""
    needed = []
    if not content.isascii():
        needed.append(b"BODY=8BITMIME")
    if not addressee.isascii():
        needed.append(b"SMTPUTF8")
    return tuple(needed)
