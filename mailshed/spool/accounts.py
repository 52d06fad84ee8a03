"""What the spool holds and has ever done, as numbers in memory, and whether there is room for more.

The database has the truth; this is its sum, so that limits are checked for each piece of a message
and metrics are read four times a second without asking it. The writer thread describes what each
commit changed (`Changes`); the event loop adds that up here before it tells anyone that the commit
is done. All here belongs to the event loop, so there are no locks.

Conservation (`terms.Ending`): accepted + generated - endings = recipients spooled, always.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from mailshed.errors import SpoolFull
from mailshed.spool.changes import Changes, Holding
from mailshed.spool.rows import BY_LIVELINESS, LIVE_STATES
from mailshed.terms import SpoolState

Key = TypeVar("Key")

# Parts per hundred of each limit that only rank 0 may use.
CLINICAL_PERCENT = 3
# Free disk space beside the reserve that only rank 0 may use, in parts per hundred of the reserve.
# A quarter of the usual reserve of some hundred MiB holds thousands of clinical messages, which are
# small, and costs the other ranks little; being a part of the reserve, it grows with it.
CLINICAL_RESERVE_PERCENT = 25
# How long a look at the free disk space is good for. Between two, our own writing is counted.
DISK_SECONDS = 0.25
# Content is written twice before it stands where it stays: to the WAL and to the database.
WRITE_FACTOR = 2
# What a commit writes to the WAL beside content: pages of tables and indexes. Measured as 40 to 60
# KiB for a message alone, and not much more for a group, whose messages share pages.
COMMIT_OCTETS = 64 * 1024


def free_space(folder: Path) -> int:
    """Octets that a service without privileges may still write to the file system of `folder`."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def ordinary_reserve(disk_reserve: int) -> int:
    """Octets of free disk below which mail of other ranks than 0 is not taken."""
    return disk_reserve + disk_reserve * CLINICAL_RESERVE_PERCENT // 100


class DiskGauge:
    """Free disk space, measured at most every `DISK_SECONDS`."""

    def __init__(
        self, folder: Path, monotonic: Callable[[], float], measure: Callable[[Path], int]
    ) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._measure = measure
        self._measured_at = float("-inf")
        self._free = 0

    def free(self) -> int:
        """Octets free, by the last measurement and what has been written since."""
        now = self._monotonic()
        if now - self._measured_at >= DISK_SECONDS:
            self._free = self._measure(self._folder)
            self._measured_at = now
        return self._free

    def note_written(self, octets: int) -> None:
        """A commit with so much content went to disk; the next measurement will see it."""
        self._free -= WRITE_FACTOR * octets + COMMIT_OCTETS


class Claim:
    """Room that a message on its way in has taken. Released once, when its outcome is known."""

    __slots__ = ("_accounts", "_messages", "_octets", "_rank", "_unwritten")

    def __init__(self, accounts: "Accounts", rank: int, messages: int = 1) -> None:
        self._accounts: Accounts | None = accounts
        self._rank = rank
        self._messages = messages
        self._octets = 0
        self._unwritten = 0

    def grow(self, octets: int) -> None:
        """Take room for more content; raises SpoolFull."""
        assert self._accounts is not None, "released"
        self._accounts.require_room(0, octets, self._rank)
        self._accounts.arriving_octets += octets
        self._accounts.unwritten_octets += octets
        self._octets += octets
        self._unwritten += octets

    def note_written(self, octets: int) -> None:
        """Part of the content is on disk, and counts there."""
        assert self._accounts is not None, "released"
        self._accounts.unwritten_octets -= octets
        self._unwritten -= octets

    def release(self) -> None:
        """The message is stored, or will not be; safe to call twice."""
        if self._accounts is not None:
            self._accounts.arriving_messages -= self._messages
            self._accounts.arriving_octets -= self._octets
            self._accounts.unwritten_octets -= self._unwritten
            self._accounts = None


class Accounts:
    """Sums over the whole spool, and its limits."""

    def __init__(
        self, *, octets_max: int, messages_max: int, disk_reserve: int, disk: DiskGauge
    ) -> None:
        self.octets_max = octets_max
        self.messages_max = messages_max
        self.disk_reserve = disk_reserve
        self.disk = disk
        self.holdings: dict[tuple[str, SpoolState], Holding] = {}
        self.outgoing: dict[tuple[str, str], Holding] = {}
        self.ledger: dict[str, dict[str, int]] = {}
        self.messages = 0
        self.octets = 0
        self.arriving_messages = 0
        self.arriving_octets = 0
        self.unwritten_octets = 0
        """Those of the arriving ones that are not yet on disk."""

    def reset(self, contents: Changes) -> None:
        """Begin anew with what the database holds."""
        self.holdings.clear()
        self.outgoing.clear()
        self.ledger.clear()
        self.messages = self.octets = 0
        self.apply(contents)

    def apply(self, changes: Changes) -> None:
        """Add what a commit changed."""
        for (traffic_class, state, backend), change in changes.holdings.items():
            _add(self.holdings, (traffic_class, state), change)
            if state in LIVE_STATES:
                _add(self.outgoing, (backend, traffic_class), change)
            self.messages += change.messages
            self.octets += change.octets
        for traffic_class, state, _ in changes.holdings:
            held = self.holdings[traffic_class, state]
            assert held.messages >= 0, "more messages left than came"
        for (traffic_class, term), recipients in changes.ledger.items():
            terms = self.ledger.setdefault(traffic_class, {})
            terms[term] = terms.get(term, 0) + recipients
        self.disk.note_written(changes.written)

    def held(self) -> list[tuple[tuple[str, SpoolState], Holding]]:
        """What each class has in each state, as a copy: by class, then the liveliest first."""
        return [
            (key, replace(holding))
            for key, holding in sorted(
                self.holdings.items(),
                key=lambda item: (item[0][0], BY_LIVELINESS.index(item[0][1])),
            )
            if holding.messages
        ]

    def to_be_sent(self) -> list[tuple[tuple[str, str], Holding]]:
        """What is to be delivered to each backend of each class, as a copy, in their order."""
        return [
            (key, replace(holding))
            for key, holding in sorted(self.outgoing.items())
            if holding.messages
        ]

    def claim(self, rank: int, messages: int = 1) -> Claim:
        """Take room for one message, or for so many copies of it; raises SpoolFull."""
        self.require_room(messages, 0, rank)
        self.arriving_messages += messages
        return Claim(self, rank, messages)

    def require_room(self, messages: int, octets: int, rank: int) -> None:
        """Raise SpoolFull if so much more, beside all that is arriving, does not fit."""
        percent = 0 if rank == 0 else CLINICAL_PERCENT
        reserve = self.disk_reserve if rank == 0 else ordinary_reserve(self.disk_reserve)
        messages += self.messages + self.arriving_messages
        if messages > self.messages_max - self.messages_max * percent // 100:
            raise SpoolFull(f"the spool holds {self.messages} of {self.messages_max} messages")
        held = self.octets + self.arriving_octets
        if held + octets > self.octets_max - self.octets_max * percent // 100:
            raise SpoolFull(f"the spool holds {self.octets} of {self.octets_max} octets")
        free = self.disk.free() - WRITE_FACTOR * (self.unwritten_octets + octets)
        if free < reserve:
            raise SpoolFull(f"{max(0, free)} octets of disk are free, {reserve} are reserved")


def _add(sums: dict[Key, Holding], key: Key, change: Holding) -> None:
    holding = sums.get(key)
    if holding is None:
        holding = sums[key] = Holding()
    holding.add(change.messages, change.recipients, change.octets)
