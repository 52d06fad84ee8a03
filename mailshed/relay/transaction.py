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

The mail data is in wire form and passes unchanged. That it cannot end early (SMTP smuggling) is
the listener's promise; it is asserted here once more on the very bytes that leave.
"""

from asyncio import sleep
from collections.abc import Sequence
from contextlib import aclosing
from itertools import zip_longest

from mailshed.clock import Clock
from mailshed.errors import ClientGone, ConnectionLost
from mailshed.mail.delivery import DeliveryResult, StageTimes, TransactionResult, everyone
from mailshed.mail.reply import Reply
from mailshed.relay.backend import OutboundMessage
from mailshed.relay.bdat import last_chunk
from mailshed.relay.connection import Connection
from mailshed.relay.envelope import judge, mail_command, outcome, own_choice, rcpt_command
from mailshed.relay.identity import xforward_commands
from mailshed.relay.international import lacks_smtputf8
from mailshed.relay.introduction import introduce
from mailshed.relay.manner import PLAIN, Identity, Manner
from mailshed.relay.offers import Offers
from mailshed.relay.wire import WireProtocol
from mailshed.terms import Stage

SINGLE_WRITE_OCTETS_MAX = 256 * 1024
"""Mail data up to this size goes out in one write together with the dot, if it is in memory."""

CHUNK_OCTETS_MAX = 256 * 1024
"""Longer chunks are cut, so that the write buffer stays below its high-water mark plus this."""

XFORWARD_NOT_OFFERED = (
    "the backend does not authorise us for XFORWARD: add this host to "
    "smtpd_authorized_xforward_hosts"
)

RSET_TIMEOUT = 5.0
"""Seconds for the reply to RSET: the outcome is known by then, so nobody should wait longer."""

_FINAL_DOT = b".\r\n"
_END_OF_DATA = b"\r\n" + _FINAL_DOT
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
    if manner.identity is Identity.XCLIENT:
        unfit = await _introduce(connection, message, clock, manner)
        if unfit is not None:
            return unfit
    wire, offers, recipients = connection.wire, connection.offers, len(message.recipients)
    if message.parameters:
        lacks_utf8 = await lacks_smtputf8(message, offers)
        choice = own_choice(message, clock.wall(), lacks_utf8=lacks_utf8)
        if choice is not None:
            return TransactionResult(recipients=everyone(choice, recipients))
    connection.messages += 1
    wire.time_replies(clock)
    began = clock.monotonic()
    is_chunk = manner.is_chunking and _is_chunk(offers, message, manner)
    replies = await _negotiate(connection, message, manner, clock, has_data=not is_chunk)
    verdicts = judge(replies, wire.fault, recipients, partial_ok=message.partial_ok)
    answered = sent = ended = clock.monotonic()
    late = wire.late(answered)
    mail = wire.replied_at - began if wire.replied_at is not None else 0.0
    if accepted := verdicts.count(None):
        timeouts = connection.timeouts
        wire.expect(_DOT * accepted if manner.is_lmtp else _DOT)
        is_dot_sent = (
            _send_whole(wire, message, is_chunk=is_chunk)
            if message.in_memory is not None and message.size <= SINGLE_WRITE_OCTETS_MAX
            else await _send_stream(wire, message, timeouts.command)
        )
        sent = clock.monotonic()
        if is_dot_sent:
            await wire.receive(timeouts.dot)
        ended = clock.monotonic()
        late += wire.late(ended)
        outcomes = _outcomes(wire, accepted, manner, is_dot_sent=is_dot_sent)
        if accepted == recipients:
            settled = outcomes  # nearly always
        else:
            rest = iter(outcomes)
            settled = [next(rest) if verdict is None else verdict for verdict in verdicts]
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
            late=late,
        ),
        passed_on=offers.keywords,
        is_final=manner.is_lmtp,
        is_each=manner.is_lmtp,
    )


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


def _is_chunk(offers: Offers, message: OutboundMessage, manner: Manner) -> bool:
    """Whether one chunk takes the place of DATA: where that saves a round trip, see `bdat`."""
    return (
        manner.is_chunking
        and offers.chunking
        and not manner.is_lmtp
        and message.in_memory is not None
        and message.size <= SINGLE_WRITE_OCTETS_MAX
        and (len(message.recipients) > 1 or not offers.pipelining)
    )


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
    else:
        is_data_among_them = has_data and recipients == 1
        stages: Sequence[Stage] = _ENVELOPE_OF_ONE
        if is_data_among_them:
            commands.append(b"DATA")
        else:
            stages = (Stage.MAIL, *(Stage.RCPT,) * recipients)
        if ahead:
            replies = await _in_one_group(connection, ahead, commands, stages)
        else:
            replies = await wire.exchange(commands, stages, timeout)
        if is_data_among_them:
            return replies
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


async def _in_one_group(
    connection: Connection,
    ahead: Sequence[bytes],
    commands: Sequence[bytes],
    stages: Sequence[Stage],
) -> list[Reply]:
    """Send `commands` behind those that go ahead of MAIL, in one write; return their replies."""
    wire, timeout = connection.wire, connection.timeouts.command
    told = len(ahead)
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


def _send_whole(wire: WireProtocol, message: OutboundMessage, *, is_chunk: bool) -> bool:
    """Send mail data that is in memory and what ends it in one write; False if nobody is there."""
    assert message.in_memory is not None, "the caller has looked"
    if is_chunk:
        data = b"".join((message.prefix, *message.in_memory))
        is_ended = not data or data.endswith(b"\r\n")
        octets = last_chunk(data if is_ended else data + b"\r\n")
    else:
        octets = b"".join((message.prefix, *message.in_memory, _FINAL_DOT))
        if not (octets.endswith(_END_OF_DATA) or octets == _FINAL_DOT):
            octets = octets.removesuffix(_FINAL_DOT) + _END_OF_DATA
        is_empty = octets == _FINAL_DOT
        assert is_empty or not octets.startswith(_FINAL_DOT), "mail data that ends early"
        assert octets.rfind(_END_OF_DATA, 0, -1) < 0, "mail data that ends early"
    _ask_client(message)
    return wire.send(octets)


async def _send_stream(wire: WireProtocol, message: OutboundMessage, timeout: float) -> bool:
    """Send mail data and the final dot; False if the backend broke in before our dot."""
    tail = b"\r\n"  # the last octets before what comes next; the data starts on a new line
    async with aclosing(message.stream()) as chunks:
        async for chunk in chunks:
            assert _END_OF_DATA not in tail + chunk[:4], "mail data that ends early"
            assert chunk.rfind(_END_OF_DATA) < 0, "mail data that ends early"
            tail = (tail + chunk[-4:])[-4:]
            view = memoryview(chunk)
            while view:
                wire.send(view[:CHUNK_OCTETS_MAX])
                view = view[CHUNK_OCTETS_MAX:]
                await wire.drain(timeout)
                await sleep(0)  # a chunk takes a millisecond or two, and others are waiting
                if wire.has_news:
                    return False
    end = _FINAL_DOT if tail.endswith(b"\r\n") else _END_OF_DATA
    assert (tail + end).find(_END_OF_DATA) == len(tail + end) - 5, "mail data that ends early"
    _ask_client(message)
    return wire.send(end)


def _ask_client(message: OutboundMessage) -> None:
    if not message.may_send_dot():
        raise ClientGone("the client left before the final dot to the backend")


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
