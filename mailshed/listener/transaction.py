"""The envelope of a mail transaction while it is being told: MAIL and RCPT, and their refusals.

Syntax (RFC 5321, 4.1.1.2 and 4.1.1.3), parameters (`mail.parameters`) and bounds are judged here;
whether a client may send to a mailbox is asked. Parameters are kept for the backend as they came,
but for four: SIZE is reckoned anew; MT-PRIORITY counts, and goes on, only if the client is trusted
(RFC 6710). Where it is not, AUTH says that nobody knows who has sent it (RFC 4954, 5), and BY does
not have the message returned (RFC 2852): strangers get no reports of ours, so it would vanish.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from mailshed.config.policy import SessionLimits
from mailshed.errors import AddressSyntaxError
from mailshed.mail import address, parameters, reply
from mailshed.mail.address import PathArgument
from mailshed.mail.envelope import Recipient
from mailshed.mail.parameters import NO_MAIL_PARAMETERS, MailParameters
from mailshed.mail.reply import Reply

if TYPE_CHECKING:
    from mailshed.listener.reception import Reception

# RFC 5321, 4.5.3.1.10: a client that has named too many recipients goes on with those that were
# accepted. So these refusals are no errors, up to where Postfix draws the line too
# (smtpd_recipient_overshoot_limit).
RECIPIENT_EXCESS_MAX = 1000

# Seconds within which we cannot promise that a message is returned, since a client waits for its
# reply as long: offered as the minimum of DELIVERBY (RFC 2852).
DELIVER_BY_MIN = 60

# Octets of one envelope, paths and parameters together. Envelopes are in no budget of mail data, so
# this and the number of sessions are what bounds their memory. The 100 recipients that RFC 5321
# asks for take 83 KiB at their longest; 1000 ordinary ones with ORCPT take half of this.
ENVELOPE_OCTETS_MAX = 256 * 1024

_BELOW_MINIMUM = reply.make(555, f"5.5.4 BY: less than the {DELIVER_BY_MIN} seconds of DELIVERBY")


class PendingTransaction:
    """The transaction as far as it has come, in our own terms; aiosmtpd's envelope stays unused."""

    __slots__ = (
        *("mail", "meaning", "octets", "reception", "recipients", "recipients_excess"),
        *("recipients_refused", "started_at", "waited"),
    )

    def __init__(self) -> None:
        self.mail: PathArgument | None = None
        """The reverse-path and the parameters that go on; None before MAIL."""
        self.meaning: MailParameters = NO_MAIL_PARAMETERS
        """What the parameters of MAIL say, as far as it counts."""
        self.reception: Reception | None = None
        """The mail data under way."""
        self.recipients: list[Recipient] = []
        self.recipients_excess = 0
        """Recipients that were refused for their number."""
        self.octets = 0
        """Octets of all paths and parameters that are kept."""
        self.recipients_refused = 0
        """Recipients that were refused by policy, or since they do not exist."""
        self.waited = 0.0
        """Seconds that were spent on finding out whether recipients exist."""
        self.started_at = 0.0

    @property
    def is_overrun(self) -> bool:
        """Whether far too many recipients were named, which no honest client does."""
        return max(self.recipients_excess, self.recipients_refused) > RECIPIENT_EXCESS_MAX

    def begin(
        self,
        argument: bytes,
        limits: SessionLimits,
        now: float,
        *,
        is_trusted: bool = False,
        has_utf8: bool = False,
    ) -> Reply:
        """Take what follows MAIL; `has_utf8` if SMTPUTF8 was offered (RFC 6531)."""
        path = _parsed(address.parse_mail_argument, argument, is_utf8=has_utf8)
        if path is reply.NON_ASCII_ADDRESS:  # the parameter would not help
            return reply.NON_ASCII_NOT_TAKEN
        if isinstance(path, Reply):
            return path
        meaning = NO_MAIL_PARAMETERS
        answer = reply.SENDER_OK
        if path.parameters:
            told = parameters.parse_mail_parameters(path.parameters)
            if isinstance(told, Reply):
                return told
            fault = _fault(told, limits, has_utf8=has_utf8)
            if fault is not None:
                return fault
            meaning = told
        if not (meaning.is_utf8 or argument.isascii()):
            return reply.NON_ASCII_ADDRESS
        if path.parameters:
            path, meaning, answer = _as_far_as_it_counts(path, meaning, is_trusted=is_trusted)
        self.mail = path
        self.meaning = meaning
        self.octets = _octets(path)
        self.started_at = now
        return answer

    def read_recipient(self, argument: bytes, limits: SessionLimits) -> Recipient | Reply:
        """Read what follows RCPT; whether policy takes the recipient is for others to say."""
        is_utf8 = self.meaning.is_utf8
        path = _parsed(address.parse_rcpt_argument, argument, is_utf8=is_utf8)
        if isinstance(path, Reply):
            return path
        assert path.mailbox is not None
        if path.parameters:
            meaning = parameters.parse_rcpt_parameters(path.parameters, is_utf8=is_utf8)
            if isinstance(meaning, Reply):
                return meaning
        octets = self.octets + _octets(path)
        if len(self.recipients) >= limits.recipients_max or octets > ENVELOPE_OCTETS_MAX:
            self.recipients_excess += 1
            return reply.TOO_MANY_RECIPIENTS
        return Recipient(mailbox=path.mailbox, parameters=path.parameters)

    def add(self, recipient: Recipient, refused: Reply | None) -> Reply:
        """Add a recipient that was read last, unless it is `refused`; the reply to RCPT."""
        if refused is not None:
            self.recipients_refused += 1
            return refused
        self.octets += len(recipient.mailbox.raw) + sum(map(len, recipient.parameters))
        self.recipients.append(recipient)
        return reply.RECIPIENT_OK


def _octets(path: PathArgument) -> int:
    octets = len(path.mailbox.raw) if path.mailbox is not None else 0
    return octets + sum(map(len, path.parameters)) if path.parameters else octets


class _Parser(Protocol):
    def __call__(self, argument: bytes, *, is_utf8: bool) -> PathArgument: ...


def _parsed(parse: _Parser, argument: bytes, *, is_utf8: bool) -> PathArgument | Reply:
    """The path and its parameters, or why they are none, whatever the parameters mean."""
    try:
        return parse(argument, is_utf8=is_utf8)
    except AddressSyntaxError as error:
        if not is_utf8 and address.is_non_ascii(argument):
            return reply.NON_ASCII_ADDRESS
        return reply.make(501, f"5.1.7 Bad address syntax: {error}")


def _fault(meaning: MailParameters, limits: SessionLimits, *, has_utf8: bool) -> Reply | None:
    """Why parameters that are well said ask for too much."""
    if meaning.is_utf8 and not has_utf8:
        return parameters.UNKNOWN_MAIL_PARAMETER
    if (meaning.size or 0) > limits.message_size_max:
        return reply.TOO_LARGE
    by = meaning.deliver_by
    if by is not None and by.is_returned and by.seconds < DELIVER_BY_MIN:
        return _BELOW_MINIMUM
    return None


def _as_far_as_it_counts(
    path: PathArgument, meaning: MailParameters, *, is_trusted: bool
) -> tuple[PathArgument, MailParameters, Reply]:
    """The path with the parameters that go on, what they mean, and the reply to MAIL."""
    kept = parameters.without(path.parameters, b"SIZE")
    answer = reply.SENDER_OK
    if not is_trusted:
        kept, answer = _distrusted(kept, meaning)
        by = meaning.deliver_by and replace(meaning.deliver_by, is_returned=False)
        meaning = replace(meaning, priority=None, auth=meaning.auth and "", deliver_by=by)
    return PathArgument(path.mailbox, kept), meaning, answer


def _distrusted(
    kept: tuple[bytes, ...], meaning: MailParameters
) -> tuple[tuple[bytes, ...], Reply]:
    """The parameters of a client whose word does not count, and the reply to its MAIL."""
    answer = reply.SENDER_OK
    if meaning.priority is not None:
        kept = parameters.without(kept, b"MT-PRIORITY")
        answer = reply.PRIORITY_IGNORED
    if meaning.auth:
        kept = (*parameters.without(kept, b"AUTH"), b"AUTH=<>")
    by = meaning.deliver_by
    if by is not None and by.is_returned:
        trace = b"T" if by.is_traced else b""
        kept = (*parameters.without(kept, b"BY"), b"BY=%d;N%b" % (by.seconds, trace))
    return kept, answer
