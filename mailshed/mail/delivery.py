"""What became of a message at the backend, recipient by recipient.

`InDoubt` is a result like the others (RFC 1047): our final dot went out and no answer came back,
so the backend may or may not have the message. Whoever receives it must keep a durable copy.
"""

from dataclasses import field
from enum import Enum

from mailshed.mail.reply import Reply
from mailshed.terms import Stage
from mailshed.values import value


@value()
class Delivered:
    """The backend took responsibility with this 2xx."""

    reply: Reply


class NoReply(Enum):
    """Why there is no reply to pass on."""

    UNKNOWN = "unknown"  # there is one, or nobody says
    NO_CONNECTION = "no_connection"  # refused, reset or closed, or a 5xx for a greeting
    TIMED_OUT = "timed_out"  # nothing came in time
    NOT_SMTP = "not_smtp"  # what came was not an SMTP reply, or none to what was said
    OUR_CHOICE = "our_choice"  # we did not ask
    UNSUPPORTED = "unsupported"  # nor then: it does not offer what the message needs (SMTPUTF8)


@value()
class Deferred:
    """Not now: a 4xx of the backend at `stage`, or no dialog (`reply` None, see `detail`)."""

    stage: Stage
    reply: Reply | None
    detail: str = ""
    no_reply: NoReply = NoReply.UNKNOWN


@value()
class Bounced:
    """The backend refused for good with this 5xx at `stage`."""

    stage: Stage
    reply: Reply


@value()
class InDoubt:
    """The final dot was sent and nothing came back; `detail` says how it ended."""

    detail: str


DeliveryResult = Delivered | Deferred | Bounced | InDoubt


@value(kw_only=True)
class StageTimes:
    """Seconds spent at each stage of one transaction; 0 where that is not known.

    `service` is the time from MAIL sent to the reply to the final dot: what the limiter watches.
    `mail` ends with the reply to MAIL, `envelope` with the last one before the mail data, both from
    MAIL sent too; `content` is the time to send the mail data. Connecting is measured apart, since
    pooled connections do it once for many messages.
    """

    connect: float = 0.0
    mail: float = 0.0
    envelope: float = 0.0
    content: float = 0.0
    service: float = 0.0
    lateness: float = 0.0
    """Of these, how long replies that had been read waited for us to go on: a busy event loop."""


@value(kw_only=True)
class TransactionResult:
    """The end of one mail transaction with a backend.

    `recipients` has one result per recipient, in the envelope's order. `is_backend_away` tells
    that there was no dialog at all, so that the message itself is not to blame.
    """

    recipients: tuple[DeliveryResult, ...]
    times: StageTimes = field(default_factory=StageTimes)
    is_backend_away: bool = False
    passed_on: frozenset[bytes] = frozenset()
    """Keywords of the ESMTP parameters that the backend offered to take, upper case.

    With `NOTIFY` among them the backend tells the sender of a success, else we do.
    """
    is_final: bool = False
    """Whether `Delivered` means that it is in the mailbox, and not just one server further."""
    is_each: bool = False
    """Whether the mail data was answered for each recipient (LMTP), and not once for all."""

    @property
    def uniform(self) -> DeliveryResult | None:
        """The common result if all recipients fared alike, else None.

        A recipient whom the backend deferred and one who was never answered did not fare alike.
        """
        first = self.recipients[0]
        if all(result is first or _is_alike(result, first) for result in self.recipients):
            return first
        return None


def _is_alike(one: DeliveryResult, other: DeliveryResult) -> bool:
    if isinstance(one, Deferred) and isinstance(other, Deferred):
        return (one.reply is None) == (other.reply is None)
    return type(one) is type(other)


def everyone(result: DeliveryResult, recipients: int) -> tuple[DeliveryResult, ...]:
    """One shared result for each of `recipients` recipients."""
    return (result,) * recipients
