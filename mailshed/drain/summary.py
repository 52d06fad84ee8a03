"""One message in place of many reports: what a sender was not told one by one.

It is no delivery status notification, which speaks of one message (RFC 3464, 2), but a text with a
line for each recipient, as many as `report_limit` keeps. Like a report it goes from the null
reverse-path and says that a machine has written it.

Pure.
"""

from mailshed.drain.addresses import for_people
from mailshed.drain.matter import ReportPolicy
from mailshed.drain.mime import clean, plain_text, wrap
from mailshed.drain.report import head
from mailshed.drain.report_limit import Summary, Untold
from mailshed.terms import QueueId, ReportKind

SUBJECT = "Undelivered Mail: summary"
WORDS_MAX = 200
"""Characters of a reply in a line."""

_BECAME = {
    ReportKind.FAILED: "not delivered",
    ReportKind.DELAYED: "delayed",
    ReportKind.RELAYED: "handed over",
    ReportKind.DELIVERED: "delivered",
}


def write_summary(summary: Summary, policy: ReportPolicy, report_id: QueueId, wall: float) -> bytes:
    """Write the summary, in wire form without the final dot."""
    is_utf8 = not summary.addressee.isascii()
    blocks = [
        wrap(f"This is the mail system at {policy.hostname}."),
        wrap(
            f"So much of your mail ended in a short time that you have not been sent a report about"
            f" each: {summary.total} more recipients, by the queue ids of your messages."
        ),
        *(_line(each, is_utf8=is_utf8) for each in summary.lines),
    ]
    if summary.more:
        blocks.append(wrap(f"And {summary.more} more, which are in the log of {policy.hostname}."))
    blocks.append(
        wrap(
            "What was not delivered will not be tried again. If you have not sent this mail, tell"
            f" {policy.postmaster}: somebody uses your address."
        )
    )
    return plain_text(
        head=head(summary.addressee, SUBJECT, policy, report_id, wall),
        text="\n\n".join("\n".join(block) for block in blocks).split("\n"),
        is_utf8=is_utf8,
    )


def _line(untold: Untold, *, is_utf8: bool) -> list[str]:
    recipient = for_people(untold.recipient, is_utf8=is_utf8)
    said = clean(untold.words)[:WORDS_MAX] or "no reply"
    what = f"{untold.queue_id}: {_BECAME[untold.kind]}: {said}"
    return [f"<{recipient}>", *wrap(what, indent="    ")]
