"""What the sender of a stored message asked to be told: its DSN parameters, read with indulgence.

The parameters of MAIL and RCPT are stored as the octets that came. At the door they are judged
(`mailshed.mail.parameters`), but a spool outlives versions, and those of before took any value. So
here a parameter that is wrong counts as one that was not given, and only that one: a strange ENVID
must not cost a sender the news that nothing was delivered.

NOTIFY (RFC 3461, 4.1): NEVER means silence; a list means what it names and nothing else; without
it, failures are told and, where the site has it so (`report_after` of a class), delays.

Pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import TypeVar

from mailshed.mail.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    MailParameters,
    Notify,
    RcptParameters,
    parse_mail_parameters,
    parse_rcpt_parameters,
)
from mailshed.mail.reply import Reply

_T = TypeVar("_T", MailParameters, RcptParameters)


def of_mail(parameters: Sequence[bytes]) -> MailParameters:
    """What MAIL said, as far as it makes sense."""
    values = parse_mail_parameters(parameters)
    if not isinstance(values, Reply):
        return values
    return _merged((parse_mail_parameters((each,)) for each in parameters), NO_MAIL_PARAMETERS)


def of_rcpt(parameters: Sequence[bytes]) -> RcptParameters:
    """What RCPT said, as far as it makes sense."""
    values = parse_rcpt_parameters(parameters, is_utf8=True)
    if not isinstance(values, Reply):
        return values
    read = (parse_rcpt_parameters((each,), is_utf8=True) for each in parameters)
    return _merged(read, NO_RCPT_PARAMETERS)


def wants_failure(parameters: Sequence[bytes]) -> bool:
    """Whether the sender is to hear that this recipient will not get it."""
    notify = of_rcpt(parameters).notify
    return notify is None or Notify.FAILURE in notify


def wants_delay(parameters: Sequence[bytes], *, is_unasked: bool = True) -> bool:
    """Whether the sender is to hear that this recipient still waits.

    `is_unasked`: also if it said nothing about it.
    """
    notify = of_rcpt(parameters).notify
    return is_unasked if notify is None else Notify.DELAY in notify


def wants_success(parameters: Sequence[bytes]) -> bool:
    """Whether the sender is to hear that this recipient has got it. Cheap for those who do not."""
    for each in parameters:
        if b"SUCCESS" in each.upper():
            return Notify.SUCCESS in (of_rcpt(parameters).notify or ())
    return False  # nearly always


def deadline(parameters: Sequence[bytes], arrived_wall: float) -> float | None:
    """When a message that arrived then is to be delivered (BY, RFC 2852); None: at no time."""
    if not any(each[:3].upper() == b"BY=" for each in parameters):
        return None
    by = of_mail(parameters).deliver_by
    return None if by is None else arrived_wall + by.seconds


def is_returned_at_deadline(parameters: Sequence[bytes]) -> bool:
    """Whether the sender wants the message back, not late (BY with `R`)."""
    by = of_mail(parameters).deliver_by if parameters else None
    return by is not None and by.is_returned


def _merged(read: Iterable[_T | Reply], nothing: _T) -> _T:
    """All that was understood, in one value."""
    merged = nothing
    for each in read:
        if not isinstance(each, Reply):
            said = {field.name: getattr(each, field.name) for field in fields(each)}
            new = {name: it for name, it in said.items() if it != getattr(nothing, name)}
            merged = replace(merged, **new)
    return merged
