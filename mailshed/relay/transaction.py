"""One mail transaction: MAIL, RCPT, DATA, the mail data, the final dot; every ending is a result.

With PIPELINING one recipient costs one round trip before the data: MAIL, RCPT and DATA leave in
one write. Several recipients take two, since DATA has to wait until it is known whether all of
them were accepted: a client that is waiting can be given one reply only, so a mixed outcome is
ended by RSET, without a message (`partial_ok` lifts that for mail from the spool). Without
PIPELINING the same commands go one by one.

The line that everything turns on is our final dot. Before it nothing was handed over, and whatever
breaks is `Deferred`. After it only a reply counts, and its absence is `InDoubt` (RFC 1047). Right
before it `may_send_dot` is asked; a client that has left ends the connection without a dot, since
RSET is not a command inside the mail data.

With LMTP (RFC 2033) the dot is answered once for each recipient that was accepted, in their order:
whoever is answered is settled, whatever becomes of the others. With XFORWARD what the backend logs
goes ahead of MAIL; XCLIENT is `introduction`. In place of DATA and the dot there may be one chunk,
see `bdat`.

How the mail data itself leaves is `sending`.
"""

from collections.abc import Awaitable, Sequence
from itertools import zip_longest

from mailshed.clock import Clock
from mailshed.errors import ConnectionLost
from mailshed.mail.delivery import DeliveryResult, StageTimes, TransactionResult, everyone
from mailshed.mail.reply import Reply
from mailshed.relay.backend import OutboundMessage
from mailshed.relay.connection import Connection
from mailshed.relay.envelope import judge, mail_command, outcome, own_choice, rcpt_command
from mailshed.relay.identity import xforward_commands
from mailshed.relay.international import lacks_smtputf8
from mailshed.relay.introduction import introduce
from mailshed.relay.manner import PLAIN, Identity, Manner
from mailshed.relay.offers import Offers
from mailshed.relay.sending import SINGLE_WRITE_OCTETS_MAX, send_stream, send_whole
from mailshed.relay.wire import WireProtocol
from mailshed.terms import Stage

XFORWARD_NOT_OFFERED = (
    "the backend does not authorise us for XFORWARD: add this host to "
    "smtpd_authorized_xforward_hosts"
)

RSET_TIMEOUT = 5.0
"""Seconds for the reply to RSET: the outcome is known by then, so nobody should wait longer."""

_ENVELOPE_OF_ONE = (Stage.MAIL, Stage.RCPT, Stage.DATA)
_AHEAD = (Stage.EHLO,)
# What is about the session has that stage, too: nothing of the message was judged by then.
_BEFORE_MAIL_WAS_ANSWERED = (Stage.EHLO, Stage.MAIL)
_DATA = (Stage.DATA,)
_DOT = (Stage.DOT,)
# RSET has no stage of a message: nothing of one depends on it any more.
_RSET = (Stage.QUIT,)


async def run(
    connection: Connection, message: OutboundMessage, clock: Clock, manner: Manner = PLAIN
) -> TransactionResult:
    """Run one mail transaction; never reads or writes beyond its own last reply.

    Raises ClientGone and whatever `message.chunks` raises; the connection is then in the middle
    of mail data and must be aborted. After a result, `connection.wire.is_idle` tells whether the
    connection may be used again.
    """
    if manner.identity is Identity.XCLIENT or message.parameters:
        unfit = await _unfit(connection, message, clock, manner)
        if unfit is not None:
            return unfit
    wire, offers, recipients = connection.wire, connection.offers, len(message.recipients)
    connection.messages += 1
    wire.time_replies(clock)
    began = clock.monotonic()
    is_small = message.in_memory is not None and message.size <= SINGLE_WRITE_OCTETS_MAX
    is_chunk = manner.is_chunking and is_small and _is_chunk(offers, recipients, manner)
    replies = await _negotiate(connection, message, manner, clock, has_data=not is_chunk)
    verdicts = judge(replies, wire.fault, recipients, partial_ok=message.partial_ok)
    answered = sent = ended = clock.monotonic()
    lateness = wire.lateness(answered)
    mail = wire.replied_at - began if wire.replied_at is not None else 0.0
    if accepted := verdicts.count(None):
        wire.expect(_DOT * accepted if manner.is_lmtp else _DOT)
        if is_small:
            is_dot_sent = send_whole(wire, message, is_chunk=is_chunk)
        else:
            is_dot_sent = await send_stream(wire, message, connection.timeouts.command)
        sent = clock.monotonic()
        if is_dot_sent:
            await wire.receive(connection.timeouts.dot)
        ended = clock.monotonic()
        lateness += wire.lateness(ended)
        outcomes = _outcomes(wire, accepted, manner, is_dot_sent=is_dot_sent)
        settled = outcomes if accepted == recipients else _merged(verdicts, outcomes)
        if is_chunk and wire.is_idle and not wire.replies[0].is_success:
            await _reset(wire)  # after a chunk that failed nothing else is sure (RFC 3030, 2)
    else:
        await _leave(connection, replies, manner)
        settled = [verdict for verdict in verdicts if verdict is not None]
    return TransactionResult(
        recipients=tuple(settled),
        times=StageTimes(
            connect=connection.connect_seconds,
            mail=mail,
            envelope=answered - began,
            content=sent - answered,
            service=ended - began,
            lateness=lateness,
        ),
        passed_on=offers.keywords,
        is_final=manner.is_lmtp,
        is_each=manner.is_lmtp,
    )


def _merged(
    verdicts: Sequence[DeliveryResult | None], outcomes: Sequence[DeliveryResult]
) -> list[DeliveryResult]:
    """The outcomes in the places of those who were accepted."""
    rest = iter(outcomes)
    return [next(rest) if verdict is None else verdict for verdict in verdicts]


async def _unfit(
    connection: Connection, message: OutboundMessage, clock: Clock, manner: Manner
) -> TransactionResult | None:
    """What becomes of a message that cannot be offered on this connection; None: it can."""
    if manner.identity is Identity.XCLIENT:
        unknown = await _introduce(connection, message, clock, manner)
        if unknown is not None:
            return unknown
    if message.parameters:
        lacks_utf8 = await lacks_smtputf8(message, connection.offers)
        choice = own_choice(message, clock.wall(), lacks_utf8=lacks_utf8)
        if choice is not None:
            return TransactionResult(recipients=everyone(choice, len(message.recipients)))
    return None


async def _introduce(
    connection: Connection, message: OutboundMessage, clock: Clock, manner: Manner
) -> TransactionResult | None:
    """Make the session that of the message's client; the result of the message if that fails."""
    came = clock.monotonic()
    unknown = await introduce(connection, message.origin, is_lmtp=manner.is_lmtp)
    connection.connect_seconds += clock.monotonic() - came
    if unknown is None:
        return None
    return TransactionResult(
        recipients=everyone(unknown, len(message.recipients)),
        times=StageTimes(connect=connection.connect_seconds),
        is_backend_away=unknown.stage is Stage.EHLO,
    )


def is_stale(connection: Connection) -> bool:
    """Whether the connection was dead before this transaction, as pooled ones can be.

    It broke before any reply but a 421, so nothing of the message was judged and another
    connection may try. A timeout is no sign of that: the backend is slow, not the connection old.
    """
    fault = connection.wire.fault
    return isinstance(fault, ConnectionLost) and fault.stage in _BEFORE_MAIL_WAS_ANSWERED


def _is_chunk(offers: Offers, recipients: int, manner: Manner) -> bool:
    """Whether one chunk takes the place of DATA: where that saves a round trip, see `bdat`."""
    return offers.chunking and not manner.is_lmtp and (recipients > 1 or not offers.pipelining)


async def _negotiate(
    connection: Connection,
    message: OutboundMessage,
    manner: Manner,
    clock: Clock,
    *,
    has_data: bool,
) -> list[Reply]:
    """Offer the envelope in as few round trips as the backend allows; return the replies.

    DATA was sent if, and only if, there is one reply more than MAIL and RCPT have, or a fault;
    never without `has_data`.
    """
    wire, offers, timeout = connection.wire, connection.offers, connection.timeouts.command
    wall = 0.0 if message.deadline_wall is None else clock.wall()
    commands = [mail_command(message, offers, wall)]
    for path, parameters in message.recipients:
        commands.append(rcpt_command(path, parameters, offers))
    recipients = len(message.recipients)
    ahead: list[bytes] = []
    if manner.identity is Identity.XFORWARD:
        ahead = xforward_commands(message.origin, message.queue_id, offers.xforward)
        connection.trouble = "" if ahead else XFORWARD_NOT_OFFERED
    if not offers.pipelining:
        await _tell_one_by_one(connection, ahead)
        replies = await _one_by_one(wire, commands, timeout)
    elif recipients == 1 and has_data:
        commands.append(b"DATA")
        return await _in_one_group(connection, ahead, commands, _ENVELOPE_OF_ONE)
    else:
        stages = (Stage.MAIL, *(Stage.RCPT,) * recipients)
        replies = await _in_one_group(connection, ahead, commands, stages)
    verdicts = judge(replies, wire.fault, recipients, partial_ok=message.partial_ok)
    if None in verdicts and has_data:
        replies = replies + await wire.exchange((b"DATA",), _DATA, timeout)
    return replies


async def _one_by_one(wire: WireProtocol, commands: list[bytes], timeout: float) -> list[Reply]:
    """Send MAIL and each RCPT in lock-step; stop when there is no point in going on."""
    stage = Stage.MAIL
    replies: list[Reply] = []
    for command in commands:
        replies += await wire.exchange((command,), (stage,), timeout)
        if wire.fault is not None or not replies[0].is_success:
            break
        stage = Stage.RCPT
    return replies


def _in_one_group(
    connection: Connection,
    ahead: Sequence[bytes],
    commands: Sequence[bytes],
    stages: Sequence[Stage],
) -> Awaitable[list[Reply]]:
    """Send `commands` behind those that go ahead of MAIL, in one write, for their replies."""
    if ahead:
        return _behind_others(connection, ahead, commands, stages)
    return connection.wire.exchange(commands, stages, connection.timeouts.command)


async def _behind_others(
    connection: Connection,
    ahead: Sequence[bytes],
    commands: Sequence[bytes],
    stages: Sequence[Stage],
) -> list[Reply]:
    wire, timeout, told = connection.wire, connection.timeouts.command, len(ahead)
    replies = await wire.exchange((*ahead, *commands), (*_AHEAD * told, *stages), timeout)
    _note_refusal(connection, replies[:told])
    return replies[told:]


async def _tell_one_by_one(connection: Connection, ahead: Sequence[bytes]) -> None:
    """Send what goes ahead of MAIL in lock-step."""
    wire, timeout = connection.wire, connection.timeouts.command
    for command in ahead:
        if wire.fault is None:
            _note_refusal(connection, await wire.exchange((command,), _AHEAD, timeout))


def _note_refusal(connection: Connection, replies: Sequence[Reply]) -> None:
    """Note what the backend does not take to log; mail goes on all the same, as with Postfix."""
    for answer in replies:
        if not answer.is_success:
            connection.trouble = f"XFORWARD was answered: {answer.text[:200]}"


async def _leave(connection: Connection, replies: list[Reply], manner: Manner) -> None:
    """End a transaction without a message, so that the connection can serve the next one."""
    wire = connection.wire
    if wire.fault is not None:
        return
    if replies[-1].code == 354:
        # DATA had left before its refusal was known, and the backend now waits for mail data.
        if manner.is_lmtp or any(reply.is_success for reply in replies[1:-1]):
            # A recipient without a sender: an empty message might reach somebody. And with LMTP
            # nobody can say how often a dot is answered that is for nobody.
            wire.abort()
            return
        await wire.exchange((b".",), _DOT, RSET_TIMEOUT)
    await _reset(wire)


async def _reset(wire: WireProtocol) -> None:
    """End the transaction, whatever its state; without the server's consent, the connection."""
    answers = await wire.exchange((b"RSET",), _RSET, RSET_TIMEOUT)
    if wire.is_idle and not answers[0].is_success:
        wire.abort()


def _outcomes(
    wire: WireProtocol, accepted: int, manner: Manner, *, is_dot_sent: bool
) -> list[DeliveryResult]:
    """What the replies to the mail data mean for those who were accepted, in order."""
    fault, answers = wire.fault, wire.replies
    if not is_dot_sent:
        wire.abort()  # in the middle of mail data; there is no way back to the dialog
    if not manner.is_lmtp:
        answer = answers[0] if answers else None
        return [outcome(answer, fault, is_dot_sent=is_dot_sent)] * accepted
    return [
        outcome(answer, fault, is_dot_sent=is_dot_sent)
        for answer, _ in zip_longest(answers, range(accepted))
    ]
