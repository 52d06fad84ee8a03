"""The envelope in words of SMTP: which commands to send, and what their replies mean.

The pure half of `transaction`: commands from an `OutboundMessage`, verdicts from replies.

Addresses and parameters go out byte for byte. Parameters that the backend does not offer are left
out, BODY=8BITMIME included: an 8-bit message to a server that does not say it can is sent
unlabelled, as nearly every server can and a conversion would break signatures. SIZE is ours, since
our trace line makes the message longer than the client said; BY says how much of the time is left
(RFC 2852, 4.1).

Without SMTPUTF8 there is no way down (RFC 6531, 3.2): a message that needs it (`international`) is
not offered to a server that lacks it, nor is one whose time is up and that is to be returned then.
That is our own choice (`own_choice`), made before MAIL.
"""

from collections.abc import Sequence
from math import floor

from mailshed.errors import BackendError, ProtocolViolation, TimedOut
from mailshed.mail.delivery import Bounced, Deferred, Delivered, DeliveryResult, InDoubt, NoReply
from mailshed.mail.reply import Reply
from mailshed.relay.backend import OutboundMessage
from mailshed.relay.offers import Offers
from mailshed.terms import Stage

BY_MAX = 999_999_999
"""Most seconds that BY can say, either way: nine digits (RFC 2852, 4.1)."""
OTHERS_REFUSED = "other recipients were refused"
"""Detail of a recipient that was accepted, in a transaction that ended without a message."""
NO_SMTPUTF8 = "the mail server does not take internationalized mail (SMTPUTF8)"
"""Detail of a message that needs it."""
TIME_IS_UP = "the time in which it was to be delivered is over (DELIVERBY)"
"""Detail of a message that its sender wants back then."""


def own_choice(
    message: OutboundMessage, wall: float, *, lacks_utf8: bool = False
) -> Deferred | None:
    """Why this message is not even offered to this server; None if it is. `wall` is now.

    `lacks_utf8`: it needs SMTPUTF8, and the server does not offer that.
    """
    if lacks_utf8:
        return Deferred(Stage.MAIL, None, NO_SMTPUTF8, NoReply.UNSUPPORTED)
    for parameter in message.parameters:
        if _is_by(parameter) and _by_mode(parameter)[:1].upper() == b"R":
            left = _seconds_left(message, wall)
            if left is not None and left <= 0:
                return Deferred(Stage.MAIL, None, TIME_IS_UP, NoReply.OUR_CHOICE)
    return None


def mail_command(message: OutboundMessage, offers: Offers, wall: float = 0.0) -> bytes:
    """Build MAIL at `wall`, with SIZE if it is offered, and with the parameters that are."""
    command = b"MAIL FROM:<%b>" % message.reverse_path
    if offers.size:
        command += b" SIZE=%d" % message.size
    if message.parameters:
        command += _offered(_with_time_left(message, wall), offers)
    return command


def rcpt_command(path: bytes, parameters: Sequence[bytes], offers: Offers) -> bytes:
    """Build RCPT for one forward-path, with the parameters that are offered."""
    command = b"RCPT TO:<%b>" % path
    if parameters:
        command += _offered(parameters, offers)
    return command


def _with_time_left(message: OutboundMessage, wall: float) -> Sequence[bytes]:
    """The parameters of MAIL, BY with what is left of the time."""
    left = _seconds_left(message, wall)
    if left is None:
        return message.parameters  # nearly always
    left = max(-BY_MAX, min(BY_MAX, left))
    return [
        b"BY=%d;%b" % (left, _by_mode(each)) if _is_by(each) else each
        for each in message.parameters
    ]


def _seconds_left(message: OutboundMessage, wall: float) -> int | None:
    """Whole seconds until its deadline, rounded down: more would be a promise nobody can keep."""
    return None if message.deadline_wall is None else floor(message.deadline_wall - wall)


def _is_by(parameter: bytes) -> bool:
    return parameter[:3].upper() == b"BY="


def _by_mode(parameter: bytes) -> bytes:
    return parameter.partition(b";")[2]


def _offered(parameters: Sequence[bytes], offers: Offers) -> bytes:
    kept = b""
    for parameter in parameters:
        # A space would make two parameters of one (`NOTIFY=NEVER AUTH=<somebody@else>`).
        assert b" " not in parameter, "parameter with a space"
        keyword, _, value = parameter.upper().partition(b"=")
        if keyword in offers.keywords and value != b"BINARYMIME":
            kept += b" " + parameter
    return kept


def refusal(stage: Stage, reply: Reply) -> Deferred | Bounced | None:
    """Map a reply to its result; None if it is positive."""
    if reply.code < 400:
        return None
    return Bounced(stage, reply) if reply.is_permanent else Deferred(stage, reply)


def silence(fault: BackendError | None) -> NoReply:
    """Say why no reply came, by what broke the dialog."""
    match fault:
        case TimedOut():
            return NoReply.TIMED_OUT
        case ProtocolViolation():
            return NoReply.NOT_SMTP
        case BackendError():
            return NoReply.NO_CONNECTION
        case None:
            return NoReply.UNKNOWN


def outcome(
    reply: Reply | None, fault: BackendError | None, *, is_dot_sent: bool
) -> DeliveryResult:
    """Map the reply to the mail data, or its absence, to the result of whom it is about."""
    if is_dot_sent:
        if reply is None:
            return InDoubt(str(fault))
        return refusal(Stage.DOT, reply) or Delivered(reply)
    if reply is None:
        if fault is None:  # it broke in with a reply to others (LMTP)
            return Deferred(Stage.DATA, None, OTHERS_REFUSED, NoReply.OUR_CHOICE)
        return Deferred(Stage.DATA, None, str(fault), silence(fault))
    said = f"mail data was answered before its end: {reply.text[:80]}"
    return refusal(Stage.DATA, reply) or Deferred(Stage.DATA, None, said, NoReply.NOT_SMTP)


def judge(
    replies: Sequence[Reply], fault: BackendError | None, recipients: int, *, partial_ok: bool
) -> list[DeliveryResult | None]:
    """Say for each recipient how it fared so far; None for one whose message may be sent.

    `replies` are those to MAIL, to each RCPT, and to DATA if that was sent already; fewer only if
    `fault` tells why. Refused recipients keep the backend's word whatever happens to the others.
    """
    for reply in replies:
        if reply.code >= 400:
            break
    else:
        if fault is None:
            return [None] * recipients  # nearly always
    if replies and (refused := refusal(Stage.MAIL, replies[0])) is not None:
        return [refused] * recipients  # what RCPT was answered then is about the sequence only
    verdicts: list[DeliveryResult | None] = [
        refusal(Stage.RCPT, reply) for reply in replies[1 : recipients + 1]
    ]
    rest: DeliveryResult | None = None
    if fault is not None:
        last = replies[-1] if replies and replies[-1].code == 421 else None
        why = silence(fault) if last is None else NoReply.UNKNOWN
        rest = Deferred(fault.stage, last, str(fault), why)
        verdicts += [rest] * (recipients - len(verdicts))
    elif len(replies) > recipients + 1:
        rest = refusal(Stage.DATA, replies[recipients + 1])
    if rest is None and not partial_ok and any(verdicts):
        rest = Deferred(Stage.RCPT, None, OTHERS_REFUSED, NoReply.OUR_CHOICE)
    return [rest if verdict is None else verdict for verdict in verdicts]
