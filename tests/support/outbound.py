"""Messages for a backend, and the means to wait for what a backend does in its own time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from mailshed.clock import SystemClock
from mailshed.relay.backend import NOBODY, Origin, OutboundMessage
from mailshed.relay.connection import Address
from mailshed.relay.manner import PLAIN, Manner
from mailshed.relay.smtp import SmtpBackend
from mailshed.terms import QueueId

DEADLINE = 10.0
"""Seconds after which a test gives up on something that takes milliseconds."""

CONTENT = b"Subject: test\r\n\r\nbody\r\n"


def outbound(
    content: bytes | Sequence[bytes] = CONTENT,
    *,
    sender: bytes = b"sender@example.com",
    to: Sequence[bytes] = (b"one@example.com",),
    parameters: tuple[bytes, ...] = (),
    rcpt_parameters: tuple[bytes, ...] = (),
    prefix: bytes = b"",
    is_streamed: bool = False,
    partial_ok: bool = False,
    origin: Origin = NOBODY,
    may_send_dot: Callable[[], bool] = lambda: True,
) -> OutboundMessage:
    """Make a message; `is_streamed` hands its content over through `chunks`."""
    pieces = (content,) if isinstance(content, bytes) else tuple(content)

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            await asyncio.sleep(0)  # lets the event loop turn, as reading a file does
            yield piece

    return OutboundMessage(
        queue_id=QueueId("0000000000000000"),
        reverse_path=sender,
        parameters=parameters,
        recipients=tuple((path, rcpt_parameters) for path in to),
        size=len(prefix) + sum(map(len, pieces)),
        prefix=prefix,
        in_memory=None if is_streamed else pieces,
        chunks=chunks if is_streamed else None,
        partial_ok=partial_ok,
        origin=origin,
        may_send_dot=may_send_dot,
    )


def smtp_backend(
    port: int,
    *,
    connect_timeout: float = DEADLINE,
    command_timeout: float = DEADLINE,
    dot_timeout: float = DEADLINE,
    idle_timeout: float = 60.0,
    messages_per_connection: int = 100,
    manner: Manner = PLAIN,
    on_trouble: Callable[[str], None] = lambda _detail: None,
) -> SmtpBackend:
    """Make a backend for a server on 127.0.0.1 with timeouts that no healthy test reaches."""
    return SmtpBackend(
        "scripted",
        Address(
            host="127.0.0.1",
            port=port,
            hostname="relay.test",
            protocol="lmtp" if manner.is_lmtp else "smtp",
        ),
        connect_timeout=connect_timeout,
        command_timeout=command_timeout,
        dot_timeout=dot_timeout,
        idle_timeout=idle_timeout,
        messages_per_connection=messages_per_connection,
        clock=SystemClock(),
        manner=manner,
        on_trouble=on_trouble,
    )


async def eventually(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds; TimeoutError if it does not within the deadline."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)
