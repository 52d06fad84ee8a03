"""What a report says to people: who, what became of it, why, and what to do.

Plain sentences for somebody who does not know what a mail server is and has a patient in front of
him: first whether there is anything to do. The same for programs is in `fields`.

Pure.
"""

from collections.abc import Callable, Sequence

from mailshed.drain.addresses import for_people
from mailshed.drain.matter import (
    DEADLINE_STATUS,
    UNSUPPORTED_STATUS,
    Matter,
    ReportedRecipient,
)
from mailshed.drain.mime import clean, wrap
from mailshed.mail.trace import date_time
from mailshed.terms import ReportKind

SUBJECTS = {
    ReportKind.FAILED: "Undelivered Mail Returned to Sender",
    ReportKind.DELAYED: "Delayed Mail (still being tried, nothing to do)",
    ReportKind.RELAYED: "Mail Handed Over (nothing to do)",
    ReportKind.DELIVERED: "Mail Delivered (nothing to do)",
}

_URGENT = "If it is urgent, reach the recipient in another way, for example by telephone."


def text(matter: Matter) -> list[str]:
    """The lines of the part for people."""
    blocks = [wrap(f"This is the mail system at {matter.policy.hostname}.")]
    match matter.kind:
        case ReportKind.FAILED:
            blocks += _failure(matter)
        case ReportKind.DELAYED:
            blocks += _delay(matter)
        case ReportKind.RELAYED | ReportKind.DELIVERED:
            blocks += _success(matter)
    return "\n\n".join("\n".join(block) for block in blocks).split("\n")


def _failure(matter: Matter) -> list[list[str]]:
    """Who, what, why, what to do."""
    return [
        wrap(
            f"Your message of {_arrival(matter)} could not be delivered to the recipients below."
            " It will not be tried again."
        ),
        *_recipients(matter, _why_failed),
        wrap(f"What you can do: {_advice(matter.recipients)} {_URGENT} {_help(matter)}"),
    ]


def _delay(matter: Matter) -> list[list[str]]:
    """Who waits, until when, and that nothing is to be done."""
    original = matter.original
    until = date_time(int(original.expires_wall))
    late = ""
    if original.deadline_wall is not None and original.deadline_wall <= matter.wall:
        late = f" You wanted it delivered by {date_time(int(original.deadline_wall))}."
    return [
        wrap(
            f"Your message of {_arrival(matter)} has not been delivered yet to the recipients"
            f" below.{late} THIS IS A WARNING ONLY: the message is safe, and you do not need to"
            " send it again."
        ),
        wrap(
            f"It is being tried again and again until {until}. If it could not be delivered by"
            " then, you will be told."
        ),
        *_recipients(matter, _why_delayed),
        wrap(f"{_URGENT} {_help(matter)}"),
    ]


def _success(matter: Matter) -> list[list[str]]:
    """What a success means, and what it does not."""
    if matter.kind is ReportKind.DELIVERED:
        said = "has been delivered to the mailboxes of the recipients below."
        note = "You are told because you asked for it. There is nothing to do."
    else:
        said = "was handed over to the mail server of the recipients below, which has accepted it."
        note = (
            "You are told because you asked for it. That server does not report when mail reaches"
            " a mailbox, so this is the last news of a success; if it cannot deliver the message,"
            " it will tell you."
        )
    return [
        wrap(f"Your message of {_arrival(matter)} {said}"),
        *([f"<{_path(matter, each)}>"] for each in matter.recipients),
        wrap(f"{note} {_help(matter)}"),
    ]


def _recipients(matter: Matter, why: Callable[[ReportedRecipient], str]) -> list[list[str]]:
    return [
        [f"<{_path(matter, each)}>", *wrap(why(each), indent="    ")] for each in matter.recipients
    ]


def _path(matter: Matter, recipient: ReportedRecipient) -> str:
    return for_people(recipient.address, is_utf8=matter.is_utf8)


def _why_failed(recipient: ReportedRecipient) -> str:
    said = clean(recipient.reply)
    if recipient.is_expired:
        why = "It was tried for too long without success."
        if recipient.status == DEADLINE_STATUS:
            why = "It could not be delivered within the time that you asked for (DELIVERBY)."
        return f"{why} The last attempt ended with: {said}" if said else why
    if recipient.is_from_backend:
        return f"The mail server refused it: {said}"
    return f"It cannot be delivered: {said}"


def _why_delayed(recipient: ReportedRecipient) -> str:
    said = clean(recipient.reply)
    if recipient.is_from_backend:
        return f"The mail server does not take it yet: {said}"
    return f"It is still waiting: {said}"


def _advice(failed: Sequence[ReportedRecipient]) -> str:
    if all(recipient.is_expired for recipient in failed):
        return "the address may well be right; send the message again later."
    if all(recipient.status == UNSUPPORTED_STATUS for recipient in failed):
        return (
            "use addresses without accents and other special letters, your own included, and send"
            " the message again."
        )
    return "check the address and send the message again."


def _arrival(matter: Matter) -> str:
    return date_time(int(matter.original.received_wall))


def _help(matter: Matter) -> str:
    return (
        f"If you need help, forward this report to {matter.policy.postmaster} and name the queue id"
        f" {matter.original.queue_id}."
    )
