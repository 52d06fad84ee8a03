"""The reference model of a spool: a dictionary that keeps every promise but durability.

Tests of the layers above use it where a store is needed, and the contract suite compares the real
stores with it. It is written to be obviously right rather than fast: every query looks at
everything, and totals are summed up anew each time.

`unhealthy` makes every operation fail as a sick store does; `is_full` refuses additions.
"""

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from mailshed.errors import SpoolCorrupt, SpoolError, SpoolFull, SpoolSick
from mailshed.spool.store import (
    BackendTotals,
    ClassTotals,
    Report,
    Settlement,
    SpoolRecord,
    SpoolTotals,
)
from mailshed.terms import Ending, QueueAction, QueueId, SpoolState

PIECE_OCTETS = 256 * 1024
_LIVE = (SpoolState.QUEUED, SpoolState.DEFERRED)
_BY_LIVELINESS = (*_LIVE, SpoolState.HOLD, SpoolState.CORRUPT)


@dataclass(slots=True)
class _Stored:
    record: SpoolRecord
    content: bytes
    arrival: int

    @property
    def state(self) -> SpoolState:
        return min((r.state for r in self.record.recipients), key=_BY_LIVELINESS.index)

    @property
    def is_live(self) -> bool:
        return self.state in _LIVE

    def live_record(self) -> SpoolRecord:
        recipients = tuple(r for r in self.record.recipients if r.state in _LIVE)
        return replace(self.record, recipients=recipients)


class MemorySpool:
    """A SpoolStore without a disk."""

    def __init__(self, *, octets_max: int = 1 << 40, messages_max: int = 1 << 40) -> None:
        self.octets_max = octets_max
        self.messages_max = messages_max
        self.unhealthy: str | None = None
        self.is_full = False
        self.added: list[QueueId] = []
        """Queue ids in the order of their `add`, reports not included."""
        self.settlements: list[Settlement] = []
        """Those that changed something, in order."""
        self._messages: dict[QueueId, _Stored] = {}
        self._ledger: dict[str, Counter[str]] = {}
        self._arrivals = 0

    async def open(self) -> None:
        self._require_healthy()

    async def close(self) -> None:
        pass

    def unhealthy_reason(self) -> str | None:
        return self.unhealthy

    async def recover(self) -> None:
        self._require_healthy()

    async def add(self, record: SpoolRecord, content: AsyncIterable[bytes]) -> None:
        await self.add_copies((record,), content)

    async def add_copies(
        self, records: Sequence[SpoolRecord], content: AsyncIterable[bytes]
    ) -> None:
        self._require_healthy()
        self._require_room(records, 0)
        octets = bytearray()
        async for piece in content:
            octets += piece
            self._require_room(records, len(octets) * len(records))
        self._require_healthy()
        for record in records:
            if record.queue_id in self._messages:
                raise SpoolError(f"{record.queue_id} is in the spool already")
        for record in records:
            self._store(record, bytes(octets))
            self.added.append(record.queue_id)

    def _require_healthy(self) -> None:
        if self.unhealthy is not None:
            raise SpoolSick(self.unhealthy)

    def _require_room(self, records: Sequence[SpoolRecord], octets: int) -> None:
        totals = self._totals()
        share = 0 if records[0].rank == 0 else 3
        messages_max = self.messages_max - self.messages_max * share // 100
        octets_max = self.octets_max - self.octets_max * share // 100
        if self.is_full or totals.messages + len(records) > messages_max:
            raise SpoolFull("too many messages")
        if totals.octets + octets > octets_max:
            raise SpoolFull("too many octets")

    def _store(self, record: SpoolRecord, content: bytes) -> None:
        self._arrivals += 1
        stored = replace(record, size=len(content))
        self._messages[record.queue_id] = _Stored(stored, content, self._arrivals)
        source = "generated" if record.is_generated else "accepted"
        self._count(record.traffic_class, source, len(record.recipients))

    def _count(self, traffic_class: str, term: str, recipients: int) -> None:
        self._ledger.setdefault(traffic_class, Counter())[term] += recipients

    async def settle(self, settlement: Settlement) -> None:
        self._require_healthy()
        stored = self._messages.get(settlement.queue_id)
        if stored is None:
            return
        present = {r.index for r in stored.record.recipients}
        if not present & (settlement.endings.keys() | settlement.deferred.keys()):
            return
        if settlement.endings and not present & settlement.endings.keys():
            return  # settled before
        if any(report.record.queue_id in self._messages for report in settlement.reports):
            raise SpoolError("a report's queue id is in the spool already")
        remaining = []
        for recipient in stored.record.recipients:
            if (ending := settlement.endings.get(recipient.index)) is not None:
                self._count(stored.record.traffic_class, ending.value, 1)
            elif (reply := settlement.deferred.get(recipient.index)) is not None:
                remaining.append(replace(recipient, state=settlement.state, last_reply=reply))
            else:
                remaining.append(recipient)
        if remaining:
            stored.record = replace(
                stored.record,
                recipients=tuple(remaining),
                attempts=settlement.attempts,
                next_attempt_wall=settlement.next_attempt_wall,
                in_doubt=settlement.in_doubt,
            )
        else:
            del self._messages[settlement.queue_id]
        for report in settlement.reports:
            self._store(report.record, report.content)
        self.settlements.append(settlement)

    async def quarantine(self, queue_id: QueueId) -> None:
        self._require_healthy()
        if stored := self._messages.get(queue_id):
            recipients = tuple(
                replace(r, state=SpoolState.CORRUPT) for r in stored.record.recipients
            )
            stored.record = replace(stored.record, recipients=recipients)

    async def amend(self, queue_id: QueueId, action: QueueAction, wall: float) -> bool:
        self._require_healthy()
        if (stored := self._messages.get(queue_id)) is None:
            return False
        record = stored.record
        match action:
            case QueueAction.DELETE:
                self._count(record.traffic_class, Ending.REMOVED.value, len(record.recipients))
                del self._messages[queue_id]
                return True
            case QueueAction.HOLD:
                new = dict.fromkeys(_LIVE, SpoolState.HOLD)
                next_attempt = record.next_attempt_wall
            case QueueAction.RELEASE:
                is_tried = record.attempts > 0
                new = {SpoolState.HOLD: SpoolState.DEFERRED if is_tried else SpoolState.QUEUED}
                next_attempt = wall
            case QueueAction.RETRY:
                new = {state: state for state in _LIVE if record.next_attempt_wall > wall}
                next_attempt = wall
            case _:
                assert_never(action)
        if not any(r.state in new for r in record.recipients):
            return False
        stored.record = replace(
            record,
            recipients=tuple(
                replace(r, state=new.get(r.state, r.state)) for r in record.recipients
            ),
            next_attempt_wall=next_attempt,
        )
        return True

    async def assign(self, backends: Mapping[QueueId, str]) -> None:
        self._require_healthy()
        for queue_id, backend in backends.items():
            if stored := self._messages.get(queue_id):
                stored.record = replace(stored.record, backend=backend)

    async def note_delay(self, queue_id: QueueId, report: Report | None) -> None:
        self._require_healthy()
        stored = self._messages.get(queue_id)
        if stored is None or stored.record.report_wall is None:
            return
        if report is not None:
            if report.record.queue_id in self._messages:
                raise SpoolError("the report's queue id is in the spool already")
            self._store(report.record, report.content)
        stored.record = replace(stored.record, report_wall=None)

    async def due(
        self,
        wall: float,
        traffic_class: str,
        limit: int,
        exclude: Sequence[QueueId] = (),
        *,
        backend: str = "",
    ) -> list[SpoolRecord]:
        self._require_healthy()
        found = [
            s
            for s in self._messages.values()
            if s.is_live
            and (s.record.backend, s.record.traffic_class) == (backend, traffic_class)
            and s.record.next_attempt_wall <= wall
            and s.record.queue_id not in exclude
        ]
        found.sort(key=lambda s: (s.record.next_attempt_wall, s.record.received_wall, s.arrival))
        return [s.live_record() for s in found[:limit]]

    async def next_due(self) -> float | None:
        self._require_healthy()
        instants = (s.record.next_attempt_wall for s in self._messages.values() if s.is_live)
        return min(instants, default=None)

    async def beyond(self, wall: float, limit: int) -> list[QueueId]:
        self._require_healthy()
        found = [
            queue_id
            for queue_id, s in self._messages.items()
            if s.is_live and s.record.next_attempt_wall > wall
        ]
        return found[:limit]

    async def expired(
        self,
        wall: float,
        limit: int,
        exclude: Sequence[QueueId] = (),
        *,
        backends: Sequence[str] | None = None,
    ) -> list[SpoolRecord]:
        self._require_healthy()
        found = [
            s
            for s in self._messages.values()
            if s.is_live and s.record.expires_wall <= wall and s.record.queue_id not in exclude
            if backends is None or s.record.backend in backends
        ]
        found.sort(key=lambda s: (s.record.expires_wall, s.arrival))
        return [s.live_record() for s in found[:limit]]

    async def delayed(self, wall: float, limit: int) -> list[SpoolRecord]:
        self._require_healthy()
        found = [
            (s.record.report_wall, s.arrival, s)
            for s in self._messages.values()
            if s.is_live and s.record.report_wall is not None and s.record.report_wall <= wall
        ]
        return [s.live_record() for _, _, s in sorted(found, key=lambda each: each[:2])[:limit]]

    async def content(self, queue_id: QueueId) -> AsyncIterator[bytes]:
        self._require_healthy()
        stored = self._messages.get(queue_id)
        if stored is None:
            raise SpoolCorrupt(f"{queue_id} is not in the spool")
        for start in range(0, len(stored.content), PIECE_OCTETS):
            yield stored.content[start : start + PIECE_OCTETS]

    async def totals(self) -> SpoolTotals:
        self._require_healthy()
        return self._totals()

    def _totals(self) -> SpoolTotals:
        rows: dict[tuple[str, SpoolState], list[_Stored]] = {}
        for stored in self._messages.values():
            rows.setdefault((stored.record.traffic_class, stored.state), []).append(stored)
        by_class = tuple(
            ClassTotals(
                traffic_class=traffic_class,
                state=state,
                messages=len(held),
                recipients=sum(len(s.record.recipients) for s in held),
                octets=sum(s.record.size for s in held),
                oldest_wall=min(s.record.received_wall for s in held),
            )
            for (traffic_class, state), held in sorted(
                rows.items(), key=lambda row: (row[0][0], _BY_LIVELINESS.index(row[0][1]))
            )
        )
        outgoing: dict[tuple[str, str], list[SpoolRecord]] = {}
        for stored in self._messages.values():
            if stored.is_live:
                key = stored.record.backend, stored.record.traffic_class
                outgoing.setdefault(key, []).append(stored.record)
        by_backend = tuple(
            BackendTotals(
                backend=backend,
                traffic_class=traffic_class,
                messages=len(held),
                recipients=sum(len(each.recipients) for each in held),
                octets=sum(each.size for each in held),
                due_wall=min(each.next_attempt_wall for each in held),
            )
            for (backend, traffic_class), held in sorted(outgoing.items())
        )
        return SpoolTotals(
            by_class=by_class,
            by_backend=by_backend,
            ledger={name: dict(terms) for name, terms in self._ledger.items()},
            octets=sum(row.octets for row in by_class),
            messages=len(self._messages),
            octets_max=self.octets_max,
            messages_max=self.messages_max,
            disk_free=1 << 40,
            disk_reserve=0,
        )

    # What tests look at; not part of the protocol.

    def __contains__(self, queue_id: object) -> bool:
        return queue_id in self._messages

    def record(self, queue_id: QueueId) -> SpoolRecord:
        """The message as it stands, all recipients that have not ended included."""
        return self._messages[queue_id].record

    def raw_content(self, queue_id: QueueId) -> bytes:
        """The stored content in one piece."""
        return self._messages[queue_id].content

    def generated(self) -> list[Report]:
        """The reports that are in the spool, in the order they came."""
        return [
            Report(record=s.record, content=s.content)
            for s in self._messages.values()
            if s.record.is_generated
        ]

    def balance(self) -> int:
        """Accepted + generated - ended - spooled, in recipients: 0 if nothing is lost."""
        sources = ("accepted", "generated")
        balance = -sum(len(s.record.recipients) for s in self._messages.values())
        for terms in self._ledger.values():
            balance += sum(terms[source] for source in sources)
            balance -= sum(terms[ending.value] for ending in Ending)
        return balance
