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

The mail data is in wire form and passes unchanged. That it cannot end early (SMTP smuggling) is
the listener's promise; it is asserted here once more on the very bytes that leave.
"""

from contextlib import aclosing

from mailshed.clock import Clock
from mailshed.errors import ClientGone, ConnectionLost
from mailshed.mail.delivery import (
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    NoReply,
    StageTimes,
    TransactionResult,
    everyone,
)
from mailshed.mail.reply import Reply
from mailshed.relay.backend import OutboundMessage
from mailshed.relay.connection import Connection
from mailshed.relay.envelope import (
    judge,
    mail_command,
    own_choice,
    rcpt_command,
    refusal,
    silence,
)
from mailshed.relay.wire import WireProtocol
from mailshed.terms import Stage

SINGLE_WRITE_OCTETS_MAX = 256 * 1024
"""Mail data up to this size goes out in one write together with the dot, if it is in memory."""

CHUNK_OCTETS_MAX = 256 * 1024
"""Longer chunks are cut, so that the write buffer stays below its high-water mark plus this."""

RSET_TIMEOUT = 5.0
"""Seconds for the reply to RSET: the outcome is known by then, so nobody should wait longer."""

_END_OF_DATA = b"\r\n.\r\n"
_ENVELOPE_OF_ONE = (Stage.MAIL, Stage.RCPT, Stage.DATA)
_MAIL = (Stage.MAIL,)
_DATA = (Stage.DATA,)
_DOT = (Stage.DOT,)
# RSET has no stage of a message: nothing of one depends on it any more.
_RSET = (Stage.QUIT,)


async def run(connection: Connection, message: OutboundMessage, clock: Clock) -> TransactionResult:
    """Run one mail transaction; never reads or writes beyond its own last reply.

    Raises ClientGone and whatever `message.chunks` raises; the connection is then in the middle
    of mail data and must be aborted. After a result, `connection.wire.is_idle` tells whether the
    connection may be used again.
    """
    wire, offers = connection.wire, connection.offers
    if message.parameters and (choice := own_choice(message, offers, clock.wall())) is not None:
        return TransactionResult(recipients=everyone(choice, len(message.recipients)))
    connection.messages += 1
    wire.time_reply(clock)
    began = clock.monotonic()
    replies = await _negotiate(connection, message, clock)
    verdicts = judge(replies, wire.fault, len(message.recipients), partial_ok=message.partial_ok)
    answered = sent = ended = clock.monotonic()
    mail = wire.replied_at - began if wire.replied_at is not None else 0.0
    if None in verdicts:
        wire.expect(_DOT)
        is_dot_sent = await _send_content(wire, message, connection.timeouts.command)
        sent = clock.monotonic()
        if is_dot_sent:
            await wire.receive(connection.timeouts.dot)
        outcome = _outcome(wire, is_dot_sent=is_dot_sent)
        ended = clock.monotonic()
        settled = [outcome if verdict is None else verdict for verdict in verdicts]
    else:
        await _leave(connection, replies)
        settled = [verdict for verdict in verdicts if verdict is not None]
    return TransactionResult(
        recipients=tuple(settled),
        times=StageTimes(
            connect=connection.connect_seconds,
            mail=mail,
            envelope=answered - began,
            content=sent - answered,
            service=ended - began,
        ),
        passed_on=offers.keywords,
    )


def is_stale(connection: Connection) -> bool:
    """Whether the connection was dead before this transaction, as pooled ones can be.

    It broke before any reply but a 421, so nothing of the message was judged and another
    connection may try. A timeout is no sign of that: the backend is slow, not the connection old.
    """
    fault = connection.wire.fault
    return isinstance(fault, ConnectionLost) and fault.stage is Stage.MAIL


async def _negotiate(
    connection: Connection, message: OutboundMessage, clock: Clock
) -> list[Reply]:
    """Offer the envelope in as few round trips as the backend allows; return the replies.

    DATA was sent if, and only if, there is one reply more than MAIL and RCPT have, or a fault.
    """
    wire, offers, timeout = connection.wire, connection.offers, connection.timeouts.command
    wall = 0.0 if message.deadline_wall is None else clock.wall()
    commands = [mail_command(message, offers, wall)]
    for path, parameters in message.recipients:
        commands.append(rcpt_command(path, parameters, offers))
    recipients = len(message.recipients)
    if not offers.pipelining:
        replies = await _one_by_one(wire, commands, timeout)
    elif recipients == 1:
        return await wire.exchange((*commands, b"DATA"), _ENVELOPE_OF_ONE, timeout)
    else:
        stages = (Stage.MAIL, *(Stage.RCPT,) * recipients)
        replies = await wire.exchange(commands, stages, timeout)
    verdicts = judge(replies, wire.fault, recipients, partial_ok=message.partial_ok)
    if None in verdicts:
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


async def _leave(connection: Connection, replies: list[Reply]) -> None:
    """End a transaction without a message, so that the connection can serve the next one."""
    wire = connection.wire
    if wire.fault is not None:
        return
    if replies[-1].code == 354:
        # DATA had left before its refusal was known, and the backend now waits for mail data.
        if any(reply.is_success for reply in replies[1:-1]):
            # A recipient without a sender: an empty message might reach somebody.
            wire.abort()
            return
        await wire.exchange((b".",), _DOT, RSET_TIMEOUT)
    answers = await wire.exchange((b"RSET",), _RSET, RSET_TIMEOUT)
    if wire.is_idle and not answers[0].is_success:
        wire.abort()


async def _send_content(wire: WireProtocol, message: OutboundMessage, timeout: float) -> bool:
    """Send the mail data and the final dot; False if the backend broke in before our dot."""
    if message.in_memory is not None and message.size <= SINGLE_WRITE_OCTETS_MAX:
        data = b"".join((message.prefix, *message.in_memory))
        data += b".\r\n" if not data or data.endswith(b"\r\n") else _END_OF_DATA
        first = 0 if data.startswith(b".\r\n") else data.find(_END_OF_DATA) + 2
        assert first == len(data) - 3, "mail data that ends early"
        _ask_client(message)
        return wire.send(data)
    tail = b"\r\n"  # the last octets before what comes next; the data starts on a new line
    async with aclosing(message.stream()) as chunks:
        async for chunk in chunks:
            assert _END_OF_DATA not in tail + chunk[:4], "mail data that ends early"
            assert _END_OF_DATA not in chunk, "mail data that ends early"
            tail = (tail + chunk[-4:])[-4:]
            view = memoryview(chunk)
            while view:
                wire.send(view[:CHUNK_OCTETS_MAX])
                view = view[CHUNK_OCTETS_MAX:]
                await wire.drain(timeout)
                if wire.has_news:
                    return False
    end = b".\r\n" if tail.endswith(b"\r\n") else _END_OF_DATA
    assert (tail + end).find(_END_OF_DATA) == len(tail + end) - 5, "mail data that ends early"
    _ask_client(message)
    return wire.send(end)


def _ask_client(message: OutboundMessage) -> None:
    if not message.may_send_dot():
        raise ClientGone("the client left before the final dot to the backend")


def _outcome(wire: WireProtocol, *, is_dot_sent: bool) -> DeliveryResult:
    """Map the reply to the mail data, or its absence, to the result of those accepted so far."""
    reply = wire.replies[0] if wire.replies else None
    if is_dot_sent:
        if reply is None:
            return InDoubt(str(wire.fault))
        return refusal(Stage.DOT, reply) or Delivered(reply)
    wire.abort()  # in the middle of mail data; there is no way back to the dialog
    if reply is None:
        return Deferred(Stage.DATA, None, str(wire.fault), silence(wire.fault))
    said = f"mail data was answered before its end: {reply.text[:80]}"
    return refusal(Stage.DATA, reply) or Deferred(Stage.DATA, None, said, NoReply.NOT_SMTP)
