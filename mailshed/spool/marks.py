"""Jobs that change messages which are in the spool already: what became of them, or should.

A mark is small, frees room more often than it takes some, and somebody waits for it (a slot, an
operator), so marks go before mail and are still tried on a full disk. Each may be repeated: one
that finds nothing to do changes nothing, because the fate of a mark whose COMMIT failed is unknown
and its sender asks again.

The state of a message is that of its liveliest recipient and stands in its own row, for the
indexes; so every change of a recipient's state goes through `_restate` or `Settle`, which move the
message's row and the sums (`Changes.hold`) along.
"""

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from mailshed.spool.changes import Changes
from mailshed.spool.jobs import (
    Found,
    Job,
    add_message,
    chunk_key,
    delete_message,
    find_message,
    take_out,
)
from mailshed.spool.rows import LIVE_STATES, liveliest, printable
from mailshed.spool.store import Report, Settlement
from mailshed.terms import Ending, QueueAction, QueueId, SpoolState

MARK_PRIORITY = -1
"""Before any mail."""


@dataclass(eq=False, slots=True, kw_only=True)
class Settle(Job):
    """Record the outcome of an attempt, with the reports that it causes."""

    settlement: Settlement
    report_ids: Sequence[int]
    """One message id for each report."""
    digests: tuple[bytes, ...] = ()

    def prepare(self) -> None:
        """Digest the reports."""
        reports = self.settlement.reports
        self.digests = tuple(hashlib.sha256(report.content).digest() for report in reports)

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Move or remove recipients, count the endings, add the reports."""
        settlement = self.settlement
        found = find_message(connection, settlement.queue_id)
        if found is None:
            return
        named = settlement.endings.keys() | settlement.deferred.keys()
        if not named & found.states.keys():
            return
        if settlement.endings and not settlement.endings.keys() & found.states.keys():
            return  # it reached the disk when its commit failed; its reports are there, or gone
        for position, ending in settlement.endings.items():
            if position in found.states:
                changes.count(found.traffic_class, ending.value, 1)
        self._move(connection, changes, found)
        for report, message_id, digest in zip(
            settlement.reports, self.report_ids, self.digests, strict=True
        ):
            _add_report(changes, message_id, report, digest)

    def _move(self, connection: sqlite3.Connection, changes: Changes, found: Found) -> None:
        """Write what is left of the message, or remove it."""
        settlement, message_id = self.settlement, found.message_id
        remaining = {
            position: settlement.state if position in settlement.deferred else state
            for position, state in found.states.items()
            if position not in settlement.endings
        }
        take_out(changes, found)
        if not remaining:
            delete_message(connection, message_id)
            changes.removed.append(message_id)
            return
        connection.executemany(
            "DELETE FROM recipient WHERE message_id = ? AND position = ?",
            [(message_id, position) for position in settlement.endings],
        )
        connection.executemany(
            "UPDATE recipient SET state = ?, last_reply = ? WHERE message_id = ? AND position = ?",
            [
                (settlement.state.value, printable(reply), message_id, position)
                for position, reply in settlement.deferred.items()
            ],
        )
        state = liveliest(list(remaining.values()))
        connection.execute(
            "UPDATE message SET state = ?, attempts = ?, next_attempt = ?, in_doubt = ?"
            " WHERE message_id = ?",
            (
                state.value,
                settlement.attempts,
                settlement.next_attempt_wall,
                settlement.in_doubt,
                message_id,
            ),
        )
        changes.hold(
            found.traffic_class, state, 1, len(remaining), found.size, backend=found.backend
        )


@dataclass(eq=False, slots=True, kw_only=True)
class Quarantine(Job):
    """Keep a damaged message, and never try it again."""

    queue_id: QueueId

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Set message and recipients to corrupt."""
        found = find_message(connection, self.queue_id)
        if found is None:
            return
        corrupt = dict.fromkeys(found.states, SpoolState.CORRUPT)
        _restate(connection, changes, found, corrupt, found.next_attempt)


@dataclass(eq=False, slots=True, kw_only=True)
class Realign(Job):
    """Repair a message whose row says that it may be tried, and whose recipients say otherwise.

    We never write such a thing, but a hand may have. The recipients are right; a message that has
    none left is done with.
    """

    queue_id: QueueId

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Write the states anew as we read them."""
        found = find_message(connection, self.queue_id)
        if found is None:
            return
        if found.states:
            _restate(connection, changes, found, found.states, found.next_attempt)
        else:
            _remove(connection, changes, found)


@dataclass(eq=False, slots=True, kw_only=True)
class Amend(Job):
    """Do what an operator asks for."""

    queue_id: QueueId
    action: QueueAction
    wall: float
    has_changed: bool = False
    """The answer, good once the job is done."""

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """See `SpoolStore.amend`."""
        found = find_message(connection, self.queue_id)
        self.has_changed = found is not None and self._amend(connection, changes, found)

    def _amend(self, connection: sqlite3.Connection, changes: Changes, found: Found) -> bool:
        live = [position for position, state in found.states.items() if state in LIVE_STATES]
        match self.action:
            case QueueAction.DELETE:
                _remove(connection, changes, found)
                return True
            case QueueAction.HOLD:
                moved = dict.fromkeys(live, SpoolState.HOLD)
                next_attempt = found.next_attempt
            case QueueAction.RELEASE:
                state = SpoolState.DEFERRED if found.attempts else SpoolState.QUEUED
                held = [each for each, now in found.states.items() if now is SpoolState.HOLD]
                moved = dict.fromkeys(held, state)
                next_attempt = self.wall
            case QueueAction.RETRY:
                is_early = found.next_attempt > self.wall
                moved = {position: found.states[position] for position in live if is_early}
                next_attempt = self.wall
            case _:
                assert_never(self.action)
        if moved:
            _restate(connection, changes, found, moved, next_attempt)
        return bool(moved)


@dataclass(eq=False, slots=True, kw_only=True)
class Assign(Job):
    """Say for which backend each of some messages is."""

    backends: Mapping[QueueId, str]

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Write the name, and move the sums along."""
        for queue_id, backend in self.backends.items():
            found = find_message(connection, queue_id)
            if found is None:
                continue
            connection.execute(
                "UPDATE message SET backend = ? WHERE message_id = ?",
                (printable(backend), found.message_id),
            )
            take_out(changes, found)
            changes.hold(
                found.traffic_class,
                found.state,
                1,
                len(found.states),
                found.size,
                backend=backend,
            )


@dataclass(eq=False, slots=True, kw_only=True)
class NoteDelay(Job):
    """Record that the sender of a late message need not be told any more, and the report."""

    queue_id: QueueId
    report: Report | None
    report_id: int
    digest: bytes = b""

    def prepare(self) -> None:
        """Digest the report."""
        if self.report is not None:
            self.digest = hashlib.sha256(self.report.content).digest()

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """See `SpoolStore.note_delay`."""
        found = find_message(connection, self.queue_id)
        if found is None or found.report_at is None:
            return
        connection.execute(
            "UPDATE message SET report_at = NULL WHERE message_id = ?", (found.message_id,)
        )
        if self.report is not None:
            _add_report(changes, self.report_id, self.report, self.digest)


def _restate(
    connection: sqlite3.Connection,
    changes: Changes,
    found: Found,
    moved: Mapping[int, SpoolState],
    next_attempt: float,
) -> None:
    """Give the recipients in `moved` new states, and the message what follows from that."""
    connection.executemany(
        "UPDATE recipient SET state = ? WHERE message_id = ? AND position = ?",
        [(state.value, found.message_id, position) for position, state in moved.items()],
    )
    state = liveliest([*{**found.states, **moved}.values()])
    connection.execute(
        "UPDATE message SET state = ?, next_attempt = ? WHERE message_id = ?",
        (state.value, next_attempt, found.message_id),
    )
    recipients = len(found.states)
    take_out(changes, found)
    changes.hold(found.traffic_class, state, 1, recipients, found.size, backend=found.backend)


def _remove(connection: sqlite3.Connection, changes: Changes, found: Found) -> None:
    """End all recipients as removed, whatever their state."""
    recipients = len(found.states)
    changes.count(found.traffic_class, Ending.REMOVED.value, recipients)
    take_out(changes, found)
    delete_message(connection, found.message_id)
    changes.removed.append(found.message_id)


def _add_report(changes: Changes, message_id: int, report: Report, digest: bytes) -> None:
    """Store a report as mail to be delivered."""
    size = len(report.content)
    changes.chunks.append((chunk_key(message_id, 0), report.content))
    add_message(changes, message_id, report.record, size=size, digest=digest)
    changes.written += size
