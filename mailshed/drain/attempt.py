"""One attempt: transmit with a slot in hand, then settle what the backend said, then the mark.

The slot is free at the backend's reply, the message's place among those without a mark when its
mark is written. What the live path began and could not wait for (an adopted message) is settled
here too, as if it had been transmitted from the spool.

A fault of our own in the middle of an attempt counts as one more ending that we know nothing about:
the message is tried again after its pause, and held the second time.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

from mailshed.clock import Clock
from mailshed.drain.desk import ReportDesk
from mailshed.drain.dsn import wants_success
from mailshed.drain.journal import DrainJournal
from mailshed.drain.marks import SICK_PAUSE, Marks
from mailshed.drain.policy import DrainPolicy
from mailshed.drain.restraint import Permit, Postponed, Restraint
from mailshed.drain.retry import is_unsupported, postpone, settle_attempt
from mailshed.errors import SpoolCorrupt, SpoolError
from mailshed.mail.delivery import Bounced, Delivered, InDoubt, TransactionResult, everyone
from mailshed.relay.backend import OutboundMessage
from mailshed.relay.destination import Destination, Destinations, as_of_neighbour
from mailshed.spool.store import Settlement, SpoolRecord, SpoolStore
from mailshed.work import Slot


class Attempts:
    """The attempts at one backend.

    `on_settled` is told of each mark that was written: the message, what the backend said and what
    changed.
    """

    def __init__(
        self,
        *,
        policy: Callable[[], DrainPolicy],
        destinations: Destinations,
        destination: Destination,
        spool: SpoolStore,
        marks: Marks,
        desk: ReportDesk,
        restraint: Restraint,
        journal: DrainJournal,
        age_wall: Callable[[], float],
        clock: Clock,
        rng: random.Random,
        on_settled: Callable[[SpoolRecord, TransactionResult, Settlement], None],
    ) -> None:
        self._policy = policy
        self._destinations = destinations
        self._destination = destination
        self._spool = spool
        self._marks = marks
        self._desk = desk
        self._restraint = restraint
        self._journal = journal
        self._age_wall = age_wall
        self._clock = clock
        self._rng = rng
        self._on_settled = on_settled

    async def make(
        self, record: SpoolRecord, message: OutboundMessage, slot: Slot, permit: Permit
    ) -> None:
        """Use `slot` for one transaction with the recipients of `record`, and write its mark.

        Raises SpoolError only at the end of the service, when the mark is lost.
        """
        waited = max(0.0, self._clock.wall() - record.received_wall)
        with self._marks.missing():
            try:
                result = await self._transmit(record, message, slot)
            except SpoolError as error:  # in the middle of the content: nothing was handed over
                await self.cannot_read(record, error)
                return
            except Exception as error:  # noqa: BLE001 - the boundary: nobody else sees to this one
                result = self._doubt(record, error)
            else:
                self._journal.transaction(record, self._destination.name, result)
            await self.settle(record, result, waited, permit)

    async def settle(
        self, record: SpoolRecord, result: TransactionResult, waited: float, permit: Permit
    ) -> None:
        """Write down what became of a transaction, which had `waited` seconds for a slot.

        Raises SpoolError only at the end of the service, when the mark is lost.
        """
        try:
            pause = self._restraint.end(
                permit, record, result, self._clock.monotonic(), self._rng.random()
            )
            await self._settle(record, result, waited, pause)
        except SpoolError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary again
            await self._settle(record, self._doubt(record, error), waited)

    async def postpone(self, record: SpoolRecord, postponed: Postponed) -> None:
        """Write down that a message is to be looked at again later, and was not tried."""
        try:
            await self._put_off(record, postponed.seconds)
        except SpoolError:
            await asyncio.sleep(SICK_PAUSE)  # it is still due then
            return
        self._journal.postponed(record, postponed.cause, postponed.seconds)

    async def _put_off(self, record: SpoolRecord, pause: float) -> None:
        """Make a message due in `pause` seconds, without an attempt. Raises SpoolError."""
        left = record.expires_wall - self._age_wall()
        await self._spool.settle(postpone(record, wall=self._clock.wall(), left=left, pause=pause))

    def _doubt(self, record: SpoolRecord, error: Exception) -> TransactionResult:
        """What is known of a transaction after a fault of ours: nothing."""
        self._journal.attempt_failed(record, error)
        doubt = InDoubt(f"internal error: {error!r}")
        return TransactionResult(recipients=everyone(doubt, len(record.recipients)))

    async def _transmit(
        self, record: SpoolRecord, message: OutboundMessage, slot: Slot
    ) -> TransactionResult:
        """Run the transaction with the backend; the slot is free when it ends."""
        destination, result = self._destination, None
        try:
            result = await destination.backend.deliver(message)
        finally:
            destination.gate.release(slot, result)
        if self._destinations.own(record.backend) is not destination:
            return as_of_neighbour(result, destination.name)
        return result

    async def _settle(
        self,
        record: SpoolRecord,
        result: TransactionResult,
        waited: float,
        pause: float | None = None,
    ) -> None:
        left = record.expires_wall - self._age_wall()
        is_news = left <= 0 or _is_news(record, result)
        host = self._destination.host
        context = await self._desk.context(record, host, with_content=is_news)
        settlement = settle_attempt(
            record,
            result,
            wall=self._clock.wall(),
            left=left,
            random_unit=self._rng.random(),
            retry=self._policy().retry,
            report=context,
            pause=pause,
        )
        if result.is_backend_away and not settlement.endings:
            return  # the breaker paces the attempts, and the message stays due as it was
        self._desk.count(record, *settlement.reports)
        await self._marks.write(record, lambda: self._spool.settle(settlement))
        self._desk.note_untold(record, settlement.endings, result, context)
        self._journal.attempted(record, self._destination.name, result, settlement, waited)
        self._on_settled(record, result, settlement)

    async def cannot_read(self, record: SpoolRecord, error: SpoolError) -> None:
        """Put a damaged message aside; let one that cannot be read now wait, behind the others."""
        if isinstance(error, SpoolCorrupt):
            self._journal.spool_corrupt(record, str(error))
            await self._marks.write(record, lambda: self._spool.quarantine(record.queue_id))
        elif self._spool.unhealthy_reason() is not None:
            await asyncio.sleep(SICK_PAUSE)  # still in hand, so that it is not tried in a circle
        else:
            self._journal.attempt_failed(record, error)
            with suppress(SpoolError):
                await self._put_off(record, self._policy().retry.delay_min)
            await asyncio.sleep(SICK_PAUSE)


def _is_news(record: SpoolRecord, result: TransactionResult) -> bool:
    """Whether something may have to be reported: a failure, or a success that was asked for."""
    return any(
        wants_success(recipient.parameters)
        if isinstance(fared, Delivered)
        else isinstance(fared, Bounced) or is_unsupported(fared)
        for recipient, fared in zip(record.recipients, result.recipients, strict=True)
    )
