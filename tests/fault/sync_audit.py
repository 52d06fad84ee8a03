"""Promises and syncs in a trace of the daemon: was mail durable before its client heard 250.

For each queue id that stands in a `250 2.0.0 Ok: queued as` of ours, it is *kept* if

1. the page with the message's row, in which the id can be read, was written to the log of the
   database (WAL) before the reply was sent;
2. the first sync of the log that began after that write returned 0, before the sending began. One
   thread writes, so that is the sync of its commit; other messages may share it (group commit);
3. nothing was written to the log while that sync was under way.

After a sync that failed, of the log or of the database, a sync that returns 0 proves nothing: the
kernel may have dropped the pages, and report success the second time. So it does not count before
the database was opened anew.
"""

import re
from dataclasses import dataclass, field

from tests.fault import straces

# Octets of each string that strace is to print: the whole of a page of 4 KiB, for its ids.
PRINTED_OCTETS = 8192
CALLS = "pwrite64,write,writev,sendto,sendmsg,fdatasync,fsync,openat"

_SENDING = frozenset({"write", "writev", "sendto", "sendmsg"})
_SYNCS = frozenset({"fdatasync", "fsync"})
_LOG = "spool.db-wal>"
PROMISE = re.compile(r"250 2\.0\.0 Ok: queued as ([0-9A-Z]{16})")


@dataclass
class Audit:
    """The promises of a trace: 'kept', or what is missing."""

    queue_ids: frozenset[str]
    """All that are promised in the trace."""
    promises: dict[str, str] = field(default_factory=dict)
    syncs: dict[str, int] = field(default_factory=dict)
    """The number of the sync that made a message durable."""
    failures: int = 0
    """Syncs that failed."""
    reopened: int = 0
    """How often the database was opened for writing, by us and by SQLite."""
    _seen: set[str] = field(default_factory=set)
    _written: set[str] = field(default_factory=set)
    """Ids written to the log since the last sync began."""
    _syncing: set[str] = field(default_factory=set)
    _is_syncing: bool = False
    _is_sick: bool = False
    _count: int = 0

    def take(self, event: straces.Event) -> None:
        """Follow one event."""
        if event.name == "openat":
            self._open(event)
        elif event.name in _SYNCS and event.is_end and event.result != "0":
            self.failures += 1
            self._is_sick = True
        elif _LOG in event.file:
            if event.name == "pwrite64" and not event.is_end:
                self._write(event)
            elif event.name in _SYNCS:
                self._sync(event)
        elif event.name in _SENDING and not event.is_end and "socket:" in event.file:
            for queue_id in PROMISE.findall(event.arguments):
                self.promises[queue_id] = self._judge(queue_id)

    def _open(self, event: straces.Event) -> None:
        is_for_writing = '/spool.db"' in event.arguments and "O_RDWR" in event.arguments
        if is_for_writing and not event.is_end:
            self.reopened += 1
            self._is_sick = self._is_syncing = False

    def _write(self, event: straces.Event) -> None:
        unsynced = self.queue_ids - self.syncs.keys()
        found = {each for each in unsynced if each in event.arguments}
        self._seen |= found
        self._written |= found
        if self._is_syncing:
            self._syncing.clear()  # what this sync is about is no longer clear

    def _sync(self, event: straces.Event) -> None:
        if not event.is_end:
            self._is_syncing = True
            self._syncing, self._written = self._written, set()
            return
        self._is_syncing = False
        if not self._is_sick:
            self._count += 1
            self.syncs |= dict.fromkeys(self._syncing, self._count)

    def _judge(self, queue_id: str) -> str:
        if queue_id in self.syncs:
            return "kept"
        return "not synced" if queue_id in self._seen else "not written"


def audit(trace: str) -> Audit:
    """Judge a whole trace."""
    made = Audit(frozenset(PROMISE.findall(trace)))
    for event in straces.events(trace):
        made.take(event)
    return made
