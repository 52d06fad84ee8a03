"""The envelope of a mail transaction while it is being told: MAIL and RCPT, and their refusals.

Syntax (RFC 5321, 4.1.1.2 and 4.1.1.3), parameters and bounds are judged here; whether a client may
send to a mailbox is asked. Parameters of DSN (RFC 3461) are not offered by us, yet clients send
them, and a relay that refused them would break such clients; so they are kept for the backend.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from aiosmtpd.smtp import Envelope as LibraryEnvelope

from mailshed.config.policy import SessionLimits
from mailshed.errors import AddressSyntaxError
from mailshed.listener.interface import Later
from mailshed.mail import address, reply
from mailshed.mail.address import Mailbox, PathArgument
from mailshed.mail.envelope import Recipient
from mailshed.mail.reply import Reply

# RFC 5321, 4.5.3.1.10: a client that has named too many recipients goes on with those that were
# accepted. So these refusals are no errors, up to where Postfix draws the line too
# (smtpd_recipient_overshoot_limit).
RECIPIENT_EXCESS_MAX = 1000

# Octets of the parameters of one command: ORCPT has up to 500 and NOTIFY 29 (RFC 3461, 4.1, 4.2),
# ENVID has up to 106 (4.4). No value that a client made by the rules comes near it.
PARAMETER_OCTETS_MAX = 600

# Octets of one envelope, paths and parameters together. Envelopes are in no budget of mail data, so
# this and the number of sessions are what bounds their memory. The 100 recipients that RFC 5321
# asks for take 83 KiB at their longest; 1000 ordinary ones with ORCPT take half of this.
ENVELOPE_OCTETS_MAX = 256 * 1024

_MAIL_PARAMETERS = frozenset({b"BODY", b"RET", b"ENVID", b"AUTH"})
_RCPT_PARAMETERS = frozenset({b"NOTIFY", b"ORCPT"})


class PendingTransaction(LibraryEnvelope):
    """aiosmtpd's envelope, with the transaction as far as it has come in our own terms."""

    def __init__(self) -> None:
        super().__init__()
        self.mail: PathArgument | None = None
        """The reverse-path and its parameters without SIZE; None before MAIL."""
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

    def begin(self, argument: bytes, limits: SessionLimits, now: float) -> Reply:
        """Take what follows MAIL, with SIZE (RFC 1870) and BODY (RFC 6152)."""
        path = _parsed(address.parse_mail_argument, argument)
        if isinstance(path, Reply):
            return path
        kept = []
        declared = 0
        for parameter in path.parameters:
            keyword, _, value = parameter.upper().partition(b"=")
            if keyword == b"SIZE":
                if not value.isdigit() or len(value) > 20:
                    return reply.make(501, "5.5.4 Syntax: SIZE=octets")
                declared = int(value)
            elif keyword == b"BODY" and value not in (b"7BIT", b"8BITMIME"):
                return reply.make(501, "5.5.4 Syntax: BODY=7BIT or BODY=8BITMIME")
            elif keyword in _MAIL_PARAMETERS:
                kept.append(parameter)
            else:
                return reply.make(555, "5.5.4 MAIL parameter not recognized")
        if declared > limits.message_size_max:
            return reply.TOO_LARGE
        self.mail = PathArgument(path.mailbox, tuple(kept))
        self.octets = _octets(self.mail)
        self.started_at = now
        return reply.SENDER_OK

    def add_recipient(
        self,
        argument: bytes,
        limits: SessionLimits,
        refuse: Callable[[Mailbox], Reply | Later | None],
    ) -> Reply | Callable[[], Awaitable[Reply]]:
        """Take what follows RCPT; `refuse` says whether policy does.

        If that takes time, so does the answer, and nothing else may be told meanwhile.
        """
        path = _parsed(address.parse_rcpt_argument, argument)
        if isinstance(path, Reply):
            return path
        assert path.mailbox is not None
        for parameter in path.parameters:
            if parameter.upper().partition(b"=")[0] not in _RCPT_PARAMETERS:
                return reply.make(555, "5.5.4 RCPT parameter not recognized")
        octets = self.octets + _octets(path)
        if len(self.recipients) >= limits.recipients_max or octets > ENVELOPE_OCTETS_MAX:
            self.recipients_excess += 1
            return reply.TOO_MANY_RECIPIENTS
        recipient = Recipient(mailbox=path.mailbox, parameters=path.parameters)
        refused = refuse(path.mailbox)
        if callable(refused):
            return partial(self._add_later, recipient, octets, refused)
        return self._add(recipient, octets, refused)

    async def _add_later(self, recipient: Recipient, octets: int, later: Later) -> Reply:
        return self._add(recipient, octets, await later())

    def _add(self, recipient: Recipient, octets: int, refused: Reply | None) -> Reply:
        if refused is not None:
            self.recipients_refused += 1
            return refused
        self.octets = octets
        self.recipients.append(recipient)
        return reply.RECIPIENT_OK


def _octets(path: PathArgument) -> int:
    return len(path.mailbox.raw if path.mailbox else b"") + sum(map(len, path.parameters))


def _parsed(parse: Callable[[bytes], PathArgument], argument: bytes) -> PathArgument | Reply:
    """The path and its parameters, or why they are none, whatever the parameters mean."""
    try:
        path = parse(argument)
    except AddressSyntaxError as error:
        if address.is_non_ascii(argument):
            return reply.NON_ASCII_ADDRESS
        return reply.make(501, f"5.1.7 Bad address syntax: {error}")
    parameters = path.parameters
    if sum(map(len, parameters)) > PARAMETER_OCTETS_MAX:
        return reply.make(501, f"5.5.4 Parameters are longer than {PARAMETER_OCTETS_MAX} octets")
    # RFC 3461, 4: none may appear twice. Many short ones would cost far more than they count.
    if len({each.upper().partition(b"=")[0] for each in parameters}) < len(parameters):
        return reply.make(501, "5.5.4 Parameter given twice")
    return path
