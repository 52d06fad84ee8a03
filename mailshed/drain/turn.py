"""One message's turn: from being taken in hand to the end of one attempt, or to being put off.

It is read, waits for a slot as long as it lives, and is transmitted to those of its recipients who
may be tried then. Until it has its slot it can be called back; the task is simply cancelled.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

from mailshed.clock import Clock
from mailshed.drain import reading
from mailshed.drain.attempt import Attempts
from mailshed.drain.hand import Grip
from mailshed.drain.marks import Marks
from mailshed.drain.overdue import LAST_CHANCE
from mailshed.drain.policy import DrainPolicy
from mailshed.drain.restraint import Permit, Postponed, Restraint
from mailshed.errors import SpoolError
from mailshed.relay.gate import Gate
from mailshed.spool.store import SpoolRecord, SpoolStore
from mailshed.work import Slot, Work


class Turns:
    """The turns of messages at one backend. `on_too_old` is told when one's time is up.

    `has_place` says whether one more transaction may begin, as far as its mark is concerned.
    """

    def __init__(
        self,
        *,
        policy: Callable[[], DrainPolicy],
        gate: Gate,
        spool: SpoolStore,
        marks: Marks,
        has_place: Callable[[], bool],
        restraint: Restraint,
        attempts: Attempts,
        age_wall: Callable[[], float],
        clock: Clock,
        rng: random.Random,
        on_too_old: Callable[[], None],
    ) -> None:
        self._policy = policy
        self._gate = gate
        self._spool = spool
        self._marks = marks
        self._restraint = restraint
        self._attempts = attempts
        self._age_wall = age_wall
        self._clock = clock
        self._rng = rng
        self._has_place = has_place
        self._on_too_old = on_too_old

    async def take(self, record: SpoolRecord, grip: Grip, *, is_wished: bool) -> None:
        """Give a message its turn; `is_wished`: an operator wants it, whatever holds it back.

        Raises SpoolError only at the end of the service, when a mark is lost.
        """
        left = record.expires_wall - self._age_wall()
        permit = self._restraint.admit(
            record,
            self._clock.monotonic(),
            self._rng.random(),
            is_free=is_wished or left <= 0,
        )
        if isinstance(permit, Postponed):
            await self._postpone(record, permit, grip)
            return
        try:
            await self._try(record, permit, grip, left if left > 0 else LAST_CHANCE)
        finally:
            self._restraint.drop(permit, self._clock.monotonic())

    async def _try(self, record: SpoolRecord, permit: Permit, grip: Grip, patience: float) -> None:
        """Wait for a slot, and use it for those recipients who may be tried then."""
        try:
            message = await reading.outbound(self._spool, record)
        except SpoolError as error:
            await self._attempts.cannot_read(record, error)
            return
        slot = await self._wait_for_slot(record, patience)
        if slot is None:
            return
        if self._marks.is_stopping or not self._has_place():
            self._gate.release(slot, None)
            return
        ready = self._restraint.begin(permit, self._clock.monotonic(), self._rng.random())
        if isinstance(ready, Postponed):
            self._gate.release(slot, None)
            await self._postpone(record, ready, grip)
            return
        grip.is_firm = True
        message = replace(message, recipients=reading.paths(ready))
        await self._attempts.make(ready, message, slot, permit)

    async def _postpone(self, record: SpoolRecord, postponed: Postponed, grip: Grip) -> None:
        grip.is_firm = True
        await self._attempts.postpone(record, postponed)

    async def _wait_for_slot(self, record: SpoolRecord, patience: float) -> Slot | None:
        """Wait as long as the message lives; None if its time is up, or at a stop."""
        classification = self._policy().classification
        work = Work(
            classification.of_spooled(record.traffic_class, record.rank),
            size=record.size,
            recipients=len(record.recipients),
            sender=record.reverse_path,
            arrived_wall=record.received_wall,
            is_live=False,
        )
        try:
            async with asyncio.timeout(patience):
                return await self._gate.acquire(work, timeout=None)
        except TimeoutError:
            self._on_too_old()
            return None
