"""What a spool is: the promise, its records, and the protocol that every store fulfils.

The promise: when `add` returns, the message is on stable storage, and it stays there until `settle`
has durably recorded an ending for each recipient. Whoever says 250 for a message calls `add` first
and says it after. One process owns a store; who is working on which message is that process's
memory, and never written.

Instants are Unix times, because they outlive the process. Content is mail data in wire form, our
trace line included, without the terminating `.CRLF`.
"""

from collections.abc import AsyncIterable, AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mailshed.terms import Ending, QueueAction, QueueId, Reason, ReportKind, SpoolState


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolRecipient:
    """One forward-path of a spooled message that has not ended yet.

    `index` is its place in the message's original envelope and identifies it for ever.
    """

    index: int
    address: bytes
    parameters: tuple[bytes, ...] = ()
    state: SpoolState = SpoolState.QUEUED
    last_reply: str = ""
    """The backend's latest answer, one printable line; empty before the first attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolRecord:
    """A spooled message without its content. `recipients` are those that have not ended."""

    queue_id: QueueId
    traffic_class: str
    rank: int
    reverse_path: bytes
    """Empty for the null reverse-path."""
    parameters: tuple[bytes, ...] = ()
    recipients: tuple[SpoolRecipient, ...]
    size: int = 0
    """Octets of content; set by the store."""
    received_wall: float
    expires_wall: float
    next_attempt_wall: float
    attempts: int = 0
    reason: Reason
    """Why it was spooled rather than relayed."""
    client_address: str
    helo: str = ""
    is_trusted: bool
    """Whether a failure report may go to the reverse-path (otherwise it would be backscatter)."""
    is_generated: bool = False
    """A report of ours rather than accepted mail: the other source in the conservation law."""
    in_doubt: int = 0
    """How many attempts ended after our final dot without an answer."""
    report_wall: float | None = None
    """When the sender is to be told that it is late; None: never, or has been told."""
    backend: str = ""
    """Name of the backend that serves its recipients' domains; empty: nobody has said yet."""
    login: str = ""
    """The name that the client had authenticated as; empty if it had not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A generated message that enters the spool in the transaction that ends its cause."""

    record: SpoolRecord
    content: bytes
    kind: ReportKind = ReportKind.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What one attempt changed, written in one transaction.

    `endings` maps recipient indexes to how they left; `deferred` maps indexes to the reply that
    keeps them; no index is in both. Recipients in neither stay as they are. A message whose
    recipients have all ended is removed with its content. `attempts`, `next_attempt_wall` and
    `in_doubt` are the new values, not increments.
    """

    queue_id: QueueId
    endings: Mapping[int, Ending] = field(default_factory=dict)
    deferred: Mapping[int, str] = field(default_factory=dict)
    state: SpoolState = SpoolState.DEFERRED
    """State of those in `deferred`."""
    attempts: int
    next_attempt_wall: float
    in_doubt: int = 0
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AmendResult:
    """What became of an operator's action on several messages, in messages."""

    changed: int = 0
    unchanged: int = 0
    """Not there, or the action changes nothing about them."""
    busy: int = 0
    """With the backend at this moment, so that it is too late; or another action is at them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTotals:
    """What the spool holds of one traffic class, in one state.

    Each message counts once, under the state of its liveliest recipient (queued before deferred
    before hold before corrupt), with all its recipients; so the rows add up.
    """

    traffic_class: str
    state: SpoolState
    messages: int
    recipients: int
    octets: int
    oldest_wall: float
    """Arrival of the oldest message (Unix time)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendTotals:
    """What the spool holds for one backend of one traffic class, of mail that is to be delivered.

    Messages count as in `ClassTotals`; those that are held or corrupt are left out.
    """

    backend: str
    traffic_class: str
    messages: int
    recipients: int
    octets: int
    due_wall: float
    """The earliest next attempt (Unix time): since when the first of them could be tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolTotals:
    """One consistent picture of the whole spool.

    `ledger` has, per traffic class, how many recipients were `accepted`, `generated` and how
    many reached each `Ending` since the spool was made (keys: those words).
    """

    by_class: tuple[ClassTotals, ...] = ()
    by_backend: tuple[BackendTotals, ...] = ()
    ledger: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    octets: int = 0
    messages: int = 0
    octets_max: int = 0
    messages_max: int = 0
    disk_free: int = 0
    disk_reserve: int = 0

    def of(self, backends: Collection[str]) -> "SpoolTotals":
        """The same for the mail of these backends alone, as far as it is to be delivered.

        The age of what waits for a slot counts from when it could be tried.
        """
        rows = tuple(
            ClassTotals(
                traffic_class=each.traffic_class,
                state=SpoolState.QUEUED,
                messages=each.messages,
                recipients=each.recipients,
                octets=each.octets,
                oldest_wall=each.due_wall,
            )
            for each in self.by_backend
            if each.backend in backends
        )
        return replace(self, by_class=rows)


class SpoolStore(Protocol):
    """A durable set of messages. Every method may raise SpoolSick when the store has failed."""

    async def open(self) -> None:
        """Take exclusive ownership, verify, recover.

        Raises SpoolLocked if another process owns it, and plain SpoolError if the place cannot be
        used at all; the store is then closed. Raises SpoolSick if it is damaged or made by a newer
        version: then it is owned and sick, every operation says so, and `recover` tries again.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun and give up ownership. Safe to call twice."""
        ...

    async def add(self, record: SpoolRecord, content: AsyncIterable[bytes]) -> None:
        """Store a message; it is durable when this returns, and absent if it raises.

        Raises SpoolFull if a limit or the disk reserve is reached; the last 3 % of the limits, and
        some free disk above the reserve, are for rank 0. A queue id that is there already is a
        plain SpoolError. Cancelling leaves the message either whole or absent.
        """
        ...

    async def add_copies(
        self, records: Sequence[SpoolRecord], content: AsyncIterable[bytes]
    ) -> None:
        """Store one message as several records, each with its recipients and all of the content.

        All of them are durable when this returns, and all absent if it raises, as with `add`; so
        they are too after a crash. They have the same rank.
        """
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Record the outcome of an attempt, durably.

        Recipients that are no longer there are ignored, and if none is left of those it names,
        nothing happens and no report is stored: settling twice is settling once. Reports are
        stored whatever the limits say.
        """
        ...

    async def quarantine(self, queue_id: QueueId) -> None:
        """Set all recipients of a damaged message to `SpoolState.CORRUPT`: kept, never tried."""
        ...

    async def amend(self, queue_id: QueueId, action: QueueAction, wall: float) -> bool:
        """Do what an operator asks for, durably; False if that changes nothing.

        `HOLD` holds the recipients that may be tried, `RELEASE` makes held ones due at `wall`, and
        so does `RETRY` with those that may be tried; corrupt ones stay as they are. `DELETE` ends
        all recipients, whatever their state, as `Ending.REMOVED`. Who is working on a message is
        the caller's knowledge: deleting one that is being transmitted does not stop it.
        """
        ...

    async def assign(self, backends: Mapping[QueueId, str]) -> None:
        """Say for which backend each of these messages is, durably; what is gone is ignored."""
        ...

    async def note_delay(self, queue_id: QueueId, report: Report | None) -> None:
        """Clear `report_wall` and store the report about the delay, in one transaction.

        Nothing happens, and no report is stored, if the message is gone or was reported before.
        """
        ...

    async def due(
        self,
        wall: float,
        traffic_class: str,
        limit: int,
        exclude: Sequence[QueueId] = (),
        *,
        backend: str = "",
    ) -> list[SpoolRecord]:
        """Up to `limit` messages of the class, for the backend, with a recipient to try at `wall`.

        Those due longest come first (by `next_attempt_wall`, then by arrival). Held and corrupt
        recipients are not due; a record lists only its due-able recipients.
        """
        ...

    async def next_due(self) -> float | None:
        """The earliest `next_attempt_wall` of any message with a due-able recipient, or None."""
        ...

    async def beyond(self, wall: float, limit: int) -> list[QueueId]:
        """Up to `limit` messages with a due-able recipient whose next attempt is after `wall`.

        In no particular order. A clock that was set back leaves such messages behind.
        """
        ...

    async def expired(
        self,
        wall: float,
        limit: int,
        exclude: Sequence[QueueId] = (),
        *,
        backends: Sequence[str] | None = None,
    ) -> list[SpoolRecord]:
        """Up to `limit` messages whose `expires_wall` has come, those first that expired first.

        Those for the named `backends`, by default all. As with `due`, held and corrupt recipients
        are left out.
        """
        ...

    async def delayed(self, wall: float, limit: int) -> list[SpoolRecord]:
        """Up to `limit` messages whose `report_wall` has come, the earliest first.

        As with `due`, held and corrupt recipients are left out.
        """
        ...

    def content(self, queue_id: QueueId) -> AsyncIterator[bytes]:
        """The stored content in order, in pieces of at most 256 KiB.

        Raises SpoolCorrupt, before the last piece is handed out, if the checksum is wrong, or if
        the message is not there; plain SpoolError if it cannot be read now, which may pass.
        """
        ...

    async def totals(self) -> SpoolTotals:
        """Counts for metrics, status and the conservation law; cheap."""
        ...

    def unhealthy_reason(self) -> str | None:
        """Why every operation raises SpoolSick, in one line; None while the store is well."""
        ...

    async def recover(self) -> None:
        """Reopen and verify a sick store; raises SpoolSick if it still is. No-op if well."""
        ...
