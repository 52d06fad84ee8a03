"""What a backend is to the rest of mailshed: something that takes one message and says how it went.

`SmtpBackend` speaks to a mail server, `MaildirBackend` writes files. A backend does not decide
whether it may be asked (the gate does) and does not log or count (the caller does); it turns every
possible ending into a `TransactionResult`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mailshed.mail.delivery import TransactionResult
from mailshed.terms import QueueId
from mailshed.values import value


def _always() -> bool:
    return True


@value(kw_only=True)
class Origin:
    """Whose message it is, for a backend that is told (XCLIENT, XFORWARD)."""

    address: str
    """The client's, as text; empty or a word if there was none, as for reports of our own."""
    helo: str = ""
    login: str = ""
    """The name that the client has authenticated as; empty if it has not."""


NOBODY = Origin(address="")


@value(kw_only=True)
class OutboundMessage:
    """One message as a backend is to receive it.

    `content` is mail data in wire form without the terminating `.CRLF`: `prefix` (our trace line,
    or empty) and then either all of `in_memory`, or what `chunks()` yields if `in_memory` is None.
    """

    queue_id: QueueId
    reverse_path: bytes
    """Without angle brackets; empty for the null reverse-path."""
    parameters: tuple[bytes, ...] = ()
    """ESMTP parameters of MAIL as the client sent them; sent on if the backend offers them."""
    recipients: tuple[tuple[bytes, tuple[bytes, ...]], ...]
    """Forward-paths without angle brackets, each with its ESMTP parameters."""
    size: int
    """Octets of prefix and content together."""
    prefix: bytes = b""
    in_memory: Sequence[bytes] | None = None
    chunks: Callable[[], AsyncIterator[bytes]] | None = None
    partial_ok: bool = False
    """Whether the message may go to some recipients if others are refused.

    Not while a client waits for its one reply; then a mixed outcome ends without a message. What
    comes from the spool is settled recipient by recipient.
    """
    deadline_wall: float | None = None
    """When its sender wants it delivered (BY, RFC 2852), as a Unix time; None: at no given time."""
    origin: Origin = NOBODY
    may_send_dot: Callable[[], bool] = field(default=_always)
    """Asked right before the final dot; False (the client left) ends it without one."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield prefix and content in order, wherever the content is. Close it when done."""
        yield self.prefix
        if self.in_memory is not None:
            for chunk in self.in_memory:
                yield chunk
            return
        assert self.chunks is not None, "a message without content"
        source = self.chunks()
        try:
            async for chunk in source:
                yield chunk
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()


@dataclass(frozen=True, slots=True)
class BackendConnections:
    """How a backend's connections stand, for metrics and status."""

    busy: int = 0
    idle: int = 0
    opened_total: int = 0
    failed_total: int = 0
    reused_total: int = 0


class Backend(Protocol):
    """One place that mail can be handed to."""

    @property
    def name(self) -> str:
        """Name in logs and metrics."""
        ...

    @property
    def answers_each_recipient(self) -> bool:
        """Whether recipients may fare differently after the final dot (LMTP).

        A client, who hears one answer, cannot be told that: what has several recipients is stored
        before it is handed over.
        """
        ...

    async def deliver(self, message: OutboundMessage) -> TransactionResult:
        """Run one mail transaction to its end and say how each recipient fared.

        Raises only ClientGone (when `may_send_dot` said no: nothing was handed over), errors of
        `chunks()` (before the final dot: nothing was handed over) and CancelledError. All of
        them abort the connection, never reuse it.
        """
        ...

    def connections(self) -> BackendConnections:
        """How the connections stand now."""
        ...

    def abandon(self) -> None:
        """End all dialogs that are under way, now, and begin no more.

        `deliver` then returns as for a lost connection: a message past its final dot is in doubt,
        any other was not handed over.
        """
        ...

    async def close(self) -> None:
        """Close idle connections politely (QUIT) and stop; safe to call twice."""
        ...
