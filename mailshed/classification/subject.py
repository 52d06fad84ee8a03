"""What there is to know about one message while it is classified, and how much of it is known yet.

A message is known bit by bit: who connects, then from whom, to whom, and last its header section.
Before the end, a condition has three answers: it holds, it does not, or nobody can say yet. `Known`
names the steps, and a `Condition` says at which of them its answer is final, so that one function,
`early_answer`, serves all kinds of evidence.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from mailshed.classification.senders import NOTHING_SENT, Sent
from mailshed.mail.address import Mailbox
from mailshed.mail.envelope import Client, Envelope, Recipient
from mailshed.mail.header import NO_HEADER, HeaderView


class Known(IntEnum):
    """How far the dialog is: what is known at one step is known at all later ones."""

    CLIENT = 0  # address and listener; it may still authenticate
    MAIL = 1  # user, reverse-path, priority
    RCPT = 2  # some recipients, perhaps not all
    ENVELOPE = 3  # all recipients: DATA was said
    CONTENT = 4  # header section and size: everything


# Not frozen, as values are elsewhere: one is made for every message, and a frozen one costs more
# than a rule.
@dataclass(slots=True, kw_only=True)
class Subject:
    """One message, as far as `known` says; what is not known yet has its default."""

    client: Client
    reverse_path: Mailbox | None = None
    recipients: tuple[Recipient, ...] = ()
    priority: int | None = None
    header: HeaderView = NO_HEADER
    size: int = 0
    """Octets of mail data in wire form."""
    sent: Sent = NOTHING_SENT
    known: Known = Known.CONTENT


def subject_of(
    envelope: Envelope, header: HeaderView, *, size: int = 0, sent: Sent = NOTHING_SENT
) -> Subject:
    """All that there is to know about a complete message."""
    return Subject(
        client=envelope.client,
        reverse_path=envelope.reverse_path,
        recipients=envelope.recipients,
        priority=envelope.priority,
        header=header,
        size=size,
        sent=sent,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of a rule, compiled."""

    holds: Callable[[Subject], bool]
    """Whether it holds for a message of which everything that it asks for is known."""
    why: Callable[[Subject], str]
    """The same with its reason, for people: `client 10.1.2.3 is not in laboratory`."""
    known_at: Known
    """The step from which on the answer does not change any more."""
    settled_by: bool | None = None
    """An answer that is final as soon as it is given while recipients still come in; None: none."""


def early_answer(condition: Condition, subject: Subject) -> bool | None:
    """Whether the condition holds, as far as that can be said yet; None if it cannot."""
    if subject.known >= condition.known_at:
        return condition.holds(subject)
    if condition.settled_by is not None and subject.known >= Known.RCPT:
        return condition.settled_by if condition.holds(subject) is condition.settled_by else None
    return None
