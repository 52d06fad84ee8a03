"""Marks: what became of a message, written into the spool; and when draining must stop for them.

A slot is free at the backend's reply, but its message may be sent again after a crash until its
mark is written. There are twice as many places for messages without a mark as there are slots (of
all backends together), for those with the backend and for those being marked, and one for each that
hangs since an outage: that is the bound on duplicates after a crash. Who finds no place does not
begin, so slow marks never keep a slot from live mail.

A mark that cannot be written is written again and again until the spool is well, and meanwhile
nothing drains; to go on would be to duplicate without bound.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from mailshed.drain.journal import DrainJournal
from mailshed.errors import SpoolError, SpoolFull, SpoolSick
from mailshed.spool.store import SpoolRecord, SpoolStore

# Seconds between two attempts to write to, or look into, a spool that failed.
SICK_PAUSE = 1.0
# A well spool that refuses the same mark so often will refuse it for ever.
REFUSALS_MAX = 5


class Marks:
    """The marks of the drain."""

    def __init__(self, spool: SpoolStore, journal: DrainJournal) -> None:
        self._spool = spool
        self._journal = journal
        self._failing = 0
        self.is_stopping = False
        self.unsettled = 0
        """Transactions that have begun and whose mark is not written."""

    def stop(self) -> None:
        """Do not wait for a sick spool any longer."""
        self.is_stopping = True

    @property
    def are_written(self) -> bool:
        """Whether one more mark could be written, as far as we know."""
        return not self._failing and self._spool.unhealthy_reason() is None

    @contextmanager
    def missing(self) -> Iterator[None]:
        """Count one more transaction without a mark."""
        self.unsettled += 1
        try:
            yield
        finally:
            self.unsettled -= 1

    async def write(self, record: SpoolRecord, write: Callable[[], Awaitable[None]]) -> None:
        """Write a mark, however long the spool takes to be well again, or the disk to have room.

        Only the end of the service ends the attempts (SpoolError); then the mark is lost, and the
        message is sent once more after the start. A mark that a well spool refuses again and again
        would end all draining for ever; its message is put aside instead, and that is tried until
        it succeeds.
        """
        try:
            await write()
        except SpoolError:
            if self.is_stopping:
                raise
            self._failing += 1
            try:
                await self._repeat(record, write)
            finally:
                self._failing -= 1

    async def _repeat(self, record: SpoolRecord, write: Callable[[], Awaitable[None]]) -> None:
        refusals = 0
        while True:
            await asyncio.sleep(SICK_PAUSE)
            try:
                if refusals < REFUSALS_MAX:
                    await write()
                else:
                    await self._spool.quarantine(record.queue_id)
            except SpoolError as error:
                if self.is_stopping:
                    raise
                if isinstance(error, SpoolSick | SpoolFull):
                    continue  # it will be well again, or have room
                refusals += 1
                if refusals == REFUSALS_MAX:
                    self._journal.attempt_failed(record, error)
            else:
                return
