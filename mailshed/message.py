"""One live message on its way: what the steps of the pipeline know of it, and its two other forms.

A message that goes to the backend becomes an `OutboundMessage`, one that is kept becomes a
`SpoolRecord`; both are made here, so that the pipeline reads as steps and not as field lists.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from mailshed.admission.routing import Share
from mailshed.classification.classifier import Verdict
from mailshed.drain.dsn import wants_success
from mailshed.mail.content import Content
from mailshed.mail.envelope import Envelope
from mailshed.relay.backend import Origin, OutboundMessage
from mailshed.spool.store import SpoolRecipient, SpoolRecord
from mailshed.terms import QueueId, Reason, TrafficClass
from mailshed.values import value


@value()
class Message:
    """A complete message between the client's final dot and our reply to it."""

    envelope: Envelope
    content: Content
    prefix: bytes
    """Our trace line; it goes out before the content."""
    verdict: Verdict
    is_client_gone: Callable[[], bool]
    route: str = ""
    """The backend that serves its recipients; that of the first one if there are several."""

    @property
    def traffic_class(self) -> TrafficClass:
        """What the message was classified as."""
        return self.verdict.traffic_class

    @property
    def size(self) -> int:
        """Octets in wire form, trace line included."""
        return len(self.prefix) + self.content.size

    @property
    def reverse_path(self) -> bytes:
        """The sender without brackets; empty for the null reverse-path."""
        path = self.envelope.reverse_path
        return path.raw if path is not None else b""

    @property
    def wants_success(self) -> bool:
        """Whether its sender may be told that it has arrived, and wants to be."""
        envelope = self.envelope
        if not envelope.client.is_trusted or envelope.reverse_path is None:
            return False
        for recipient in envelope.recipients:
            if recipient.parameters and wants_success(recipient.parameters):
                return True
        return False  # nearly always

    async def chunks(self) -> AsyncIterator[bytes]:
        """Trace line and content, as the spool stores them."""
        yield self.prefix
        async for chunk in self.content.chunks():
            yield chunk

    def outbound(self, may_send_dot: Callable[[], bool]) -> OutboundMessage:
        """The message as the backend is to get it; see `OutboundMessage.may_send_dot`."""
        envelope, content = self.envelope, self.content
        return OutboundMessage(
            queue_id=envelope.queue_id,
            reverse_path=self.reverse_path,
            parameters=envelope.parameters,
            recipients=tuple((each.mailbox.raw, each.parameters) for each in envelope.recipients),
            size=self.size,
            deadline_wall=self._deadline_wall,
            prefix=self.prefix,
            in_memory=None if content.is_spilled else content.chunks_in_memory,
            chunks=content.chunks,
            origin=Origin(
                address=envelope.client.address_text,
                helo=envelope.helo,
                login=envelope.client.user,
            ),
            may_send_dot=may_send_dot,
        )

    def record(
        self, *, reason: Reason, in_doubt: int, lifetime: float, pause: float = 0.0
    ) -> SpoolRecord:
        """The message as the spool is to keep it: for `lifetime` seconds, untried for `pause`."""
        envelope = self.envelope
        wall = envelope.received_wall
        return SpoolRecord(
            queue_id=envelope.queue_id,
            traffic_class=self.traffic_class.name,
            rank=self.traffic_class.rank,
            reverse_path=self.reverse_path,
            parameters=envelope.parameters,
            recipients=tuple(
                SpoolRecipient(index=index, address=each.mailbox.raw, parameters=each.parameters)
                for index, each in enumerate(envelope.recipients)
            ),
            received_wall=wall,
            expires_wall=self._expires_wall(wall + lifetime),
            next_attempt_wall=wall + pause,
            reason=reason,
            client_address=envelope.client.address_text,
            helo=envelope.helo,
            login=envelope.client.user,
            is_trusted=envelope.client.is_trusted,
            in_doubt=in_doubt,
            report_wall=self._report_wall(),
            backend=self.route,
        )

    @property
    def _deadline_wall(self) -> float | None:
        """When the client wants it delivered (RFC 2852)."""
        by = self.envelope.deliver_by
        return None if by is None else self.envelope.received_wall + by.seconds

    def _expires_wall(self, latest: float) -> float:
        """When it goes back to the sender: with its deadline, if the client wants it so."""
        by, deadline = self.envelope.deliver_by, self._deadline_wall
        if by is None or deadline is None or not by.is_returned:
            return latest
        return min(latest, deadline)

    def _report_wall(self) -> float | None:
        """When the sender is told that it waits: a class and a client may both say; None: never."""
        envelope = self.envelope
        if not (envelope.client.is_trusted and self.reverse_path):
            return None
        wall, report_after = envelope.received_wall, self.traffic_class.report_after
        times = [] if report_after is None else [wall + report_after]
        by, deadline = envelope.deliver_by, self._deadline_wall
        if by is not None and deadline is not None and not by.is_returned:
            times.append(max(wall, deadline))
        return min(times, default=None)


def copies_of(record: SpoolRecord, shares: Sequence[Share]) -> tuple[SpoolRecord, ...]:
    """One record for each share of the recipients; the first keeps the queue id."""
    return tuple(
        replace(
            record,
            queue_id=copy_id(record.queue_id, number),
            recipients=tuple(record.recipients[index] for index in share.indexes),
            backend=share.backend,
        )
        for number, share in enumerate(shares, start=1)
    )


def copy_id(queue_id: QueueId, number: int) -> QueueId:
    """The queue id of a message's copy, counted from 1: two digits longer from the second on."""
    return queue_id if number == 1 else QueueId(f"{queue_id}{number:02}")
