"""Making a session with the backend the client's: XCLIENT, the reply, EHLO again.

XCLIENT changes what the whole session is taken for, so it comes before each message whose origin is
another than that of the message before. It takes the session back to the greeting; what is offered
to one client may not be to another, so it is read anew (XCLIENT_README). A session that was made
somebody's can be made somebody else's, but ours no more: mail of our own (reports) has no client to
name, and whatever else we had said for ourselves on it, such as AUTH, is gone. Such a message needs
a connection that nobody was named on, see `suits`.

Three things go wrong:

- It is not offered, so the backend does not authorise us: that concerns all mail, and no message.
- A reply of the kind that means our command, or our authorisation: this message has to wait.
- Another refusal: the backend judges the client by its address, or its name, at this point already
  (Postfix with `smtpd_delay_reject = no`). It is the backend's word, as at MAIL.

Afterwards the session is nobody's that we know, and is not used again.
"""

from mailshed.mail.delivery import Bounced, Deferred, NoReply
from mailshed.mail.reply import Reply
from mailshed.relay.backend import NOBODY, Origin
from mailshed.relay.connection import Connection
from mailshed.relay.envelope import silence
from mailshed.relay.identity import hello_name, whose_is, xclient_commands
from mailshed.relay.offers import Offers
from mailshed.terms import Stage

NOT_AUTHORISED = (
    "the backend does not authorise us for XCLIENT: add this host to smtpd_authorized_xclient_hosts"
)
"""What keeps all mail from a backend that is to be told whose it is, and does not want to be."""

# What means our command, its place or our authorisation, and not the client (RFC 5321, 4.2.2 and
# XCLIENT_README).
_ABOUT_US = frozenset({500, 501, 502, 503, 504, 550, 555})
_STAGES = (Stage.EHLO,)


def suits(connection: Connection, origin: Origin) -> bool:
    """Whether a message of `origin` may go out on this connection, after `introduce`.

    A server may offer XCLIENT to us and no more to whom we were taken for. Where it never did, a
    new connection is to find that out: it may have been configured since.
    """
    whose = whose_is(origin)
    if connection.identity == whose:
        return True
    if connection.identity == NOBODY and not connection.messages:
        return True
    return whose != NOBODY and "ADDR" in connection.offers.xclient


async def introduce(
    connection: Connection, origin: Origin, *, is_lmtp: bool = False
) -> Deferred | Bounced | None:
    """Let the session be that of `origin`; None if it is, else the fate of the message.

    A Deferred at Stage.EHLO is about the backend, any other result about this message. If the
    connection broke, its wire says so.
    """
    if whose_is(origin) == connection.identity:
        return None
    if "ADDR" not in connection.offers.xclient:
        connection.is_spent = True  # the next one may find the backend's configuration changed
        connection.trouble = NOT_AUTHORISED
        return Deferred(Stage.EHLO, None, NOT_AUTHORISED, NoReply.NO_CONNECTION)
    wire, timeout = connection.wire, connection.timeouts.command
    answer: Reply | None = None
    for command in (
        *xclient_commands(origin, connection.offers.xclient),
        b"%b %b" % (b"LHLO" if is_lmtp else b"EHLO", hello_name(origin)),
    ):
        replies = await wire.exchange((command,), _STAGES, timeout)
        answer = replies[0] if replies else None
        if wire.fault is not None:
            why = silence(wire.fault) if answer is None else NoReply.UNKNOWN
            return Deferred(Stage.EHLO, answer, str(wire.fault), why)
        assert answer is not None, "no reply, and no fault"
        if not answer.is_success:
            connection.is_spent = True
            return _refused(command, answer)
    assert answer is not None
    lines = answer.wire.decode("latin-1").split("\r\n")
    connection.offers = Offers.from_extensions(line[4:] for line in lines[1:-1])
    connection.identity = origin
    connection.trouble = ""
    return None


def _refused(command: bytes, answer: Reply) -> Deferred | Bounced:
    """What a refusal of XCLIENT, or of the EHLO after it, means for the message."""
    if answer.is_transient:
        return Deferred(Stage.MAIL, answer)
    if answer.code in _ABOUT_US:
        verb = command.partition(b" ")[0].decode("ascii")
        said = f"{verb} for its client was answered: {answer.text[:200]}"
        return Deferred(Stage.MAIL, None, said, NoReply.OUR_CHOICE)
    return Bounced(Stage.MAIL, answer)
