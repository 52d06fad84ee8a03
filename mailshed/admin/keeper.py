"""The keeper of the overrides: what is in force, durably, and who is told when that changes.

An override is saved before the operator is answered, so what was confirmed is in force after a
crash too; what could not be saved is not in force. Its end needs nobody and no disk: it is taken
out of force in memory within a second, and only then written down. If that fails it is tried again;
a restart finds that its time is over anyway.

At the start the saved ones are put in force again, those whose time is over are dropped, and each
of them is said. A file that cannot be read is an error in the log, and none is in force: mail goes
by the rules then, which is what overrides are exceptions from.

An end by itself is noted in the audit log by the service, under the request with which the override
was made; what an operator asks for is noted by the routes (`mailshed.admin.overrides`).

All of it belongs to the main loop, but for `current` and `snapshots`, which any thread may read.
"""

import asyncio
import os
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, TypeVar

from mailshed.admin.audit import AuditError, Operator, override_ended
from mailshed.clock import Clock
from mailshed.control.override_document import from_document, to_document
from mailshed.control.overrides import Added, Change, Override, Overrides, Wish
from mailshed.errors import MailshedError, RequestError, StateError
from mailshed.maillog import MailLog
from mailshed.metrics import OverrideSnapshot
from mailshed.statefile import StateFile
from mailshed.supervisor import Supervisor
from mailshed.terms import TrafficClass

T = TypeVar("T")

FILE_NAME = "overrides"
LIST_SCHEMA = "mailshed.overrides/1"
INTERVAL = 1.0
"""Seconds between two looks at what has ended."""


class OverrideKeeper:
    """The overrides of one service.

    `classes` are the configured ones. `note` appends a line to the audit log; it may block, and
    raise AuditError. `on_change` is told of every change, before anybody else hears of it.
    """

    def __init__(
        self,
        *,
        file: StateFile,
        classes: Callable[[], Collection[TrafficClass]],
        note: Callable[[Mapping[str, object]], None],
        on_change: Callable[[Overrides], None],
        maillog: MailLog,
        clock: Clock,
        supervisor: Supervisor,
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._file = file
        self._classes = classes
        self._note = note
        self._on_change = on_change
        self._log = maillog
        self._clock = clock
        self._supervisor = supervisor
        self._on_failure = on_failure
        self._changing = asyncio.Lock()
        self._is_saved = True
        self._failure = ""
        self.current = Overrides()
        """What is in force."""

    # The service's side.

    async def load(self) -> None:
        """Put in force what was when the service ended, as far as its time is not over."""
        try:
            document = await asyncio.to_thread(self._file.load)
            if document is None:
                return
            now, wall = self._clock.monotonic(), self._clock.wall()
            loaded = from_document(document, now, wall)
        except StateError as error:
            self._log.overrides_lost(detail=str(error))
            return
        self._put(loaded)
        await self._take_out(loaded.expire(now, wall), "expired")
        await self.fit()
        for each in self.current.in_force:
            self._log.override_restored(each, left=each.left(now, wall))

    async def run(self) -> None:
        """End what is to end, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - mail goes on, and the next look comes
                self._fail(error)

    async def look(self) -> None:
        """Take out of force what has come to its end, and save what is not saved."""
        change = self.current.expire(self._clock.monotonic(), self._clock.wall())
        await self._take_out(change, "expired")
        if not self._is_saved:
            await self._save_later()

    async def fit(self) -> None:
        """Take out of force what the configuration does not allow any more."""
        await self._take_out(self.current.fit(self._classes()), "not_configured")

    def renew(self) -> None:
        """Tell everybody again what is in force."""
        self._on_change(self.current)

    # The operator's side.

    async def add(self, wish: Wish, *, user: str, request: str) -> Added:
        """Put an override in force, and return when it is saved.

        Raises RequestError if it cannot be, and StateError if it could not be saved; it is not in
        force then. Being cancelled does not break it off half-way.
        """
        return await self._whole(self._add(wish, user=user, request=request), "add override")

    async def cancel(self, number: int, *, user: str, reason: str) -> Override:
        """End an override before its time, and return when that is saved; otherwise as `add`."""
        return await self._whole(self._cancel(number, user=user, reason=reason), "cancel override")

    def snapshots(self) -> tuple[OverrideSnapshot, ...]:
        """What is in force, for people and machines."""
        return tuple(self.snapshot_of(each) for each in self.current.in_force)

    def snapshot_of(self, override: Override) -> OverrideSnapshot:
        """One override, for people and machines."""
        return snapshot_of(override, self._clock.monotonic(), self._clock.wall())

    # How it is done.

    async def _add(self, wish: Wish, *, user: str, request: str) -> Added | MailshedError:
        def added() -> Added:
            return self.current.add(
                wish, self._classes(), user=user, request=request, now=now, wall=wall
            )

        async with self._changing:
            now, wall = self._clock.monotonic(), self._clock.wall()
            try:
                await self._save(added().overrides)
                made = added()  # something may have come to its end meanwhile
            except RequestError as error:
                return error
            except StateError as error:
                self._is_saved = False  # nobody knows which of the two is on the disk
                return error
            self._put(made.overrides)
        self._log.override_set(made.override)
        if made.replaced is not None:
            await self._say_ended(made.replaced, "replaced", f"override {made.override.number}")
        return made

    async def _cancel(self, number: int, *, user: str, reason: str) -> Override | MailshedError:
        async with self._changing:
            override = self.current.get(number)
            if override is None:
                return RequestError(
                    f"id: no override {number} is in force (any more); `mailshed override list`"
                    " shows those that are"
                )
            try:
                await self._save(self.current.without([override]))
            except StateError as error:
                self._is_saved = False
                return error
            self._put(self.current.without([override]))
        self._log.override_ended(override, "cancelled", by=user, because=reason)
        return override

    async def _whole(self, work: Coroutine[Any, Any, T | MailshedError], name: str) -> T:
        """Do `work` to its end, whoever waits for it, and return or raise what it returns."""
        outcome = await asyncio.shield(self._supervisor.spawn(work, name))
        if isinstance(outcome, MailshedError):
            raise outcome
        return outcome

    def _put(self, overrides: Overrides) -> None:
        self.current = overrides
        self._on_change(overrides)

    async def _take_out(self, change: Change, cause: str) -> None:
        """Put what is left in force, and say what is not."""
        if change.overrides is self.current:
            return
        self._is_saved = False
        self._put(change.overrides)
        for each in change.ended:
            await self._say_ended(each, cause)

    async def _say_ended(self, override: Override, cause: str, by: str | None = None) -> None:
        """Note in both logs an end that no operator asked for as such."""
        self._log.override_ended(override, cause, by=by)
        wall = self._clock.wall()

        def note() -> None:
            operator = Operator.of(os.geteuid(), os.getpid())
            self._note(override_ended(override, cause, operator, wall))

        try:
            await asyncio.to_thread(note)
        except AuditError as error:
            self._fail(error)

    async def _save(self, overrides: Overrides) -> None:
        await asyncio.to_thread(self._file.save, to_document(overrides))

    async def _save_later(self) -> None:
        async with self._changing:
            saved = self.current
            try:
                await self._save(saved)
            except StateError as error:
                self._fail(error)
            else:
                self._is_saved = saved is self.current
                self._failure = ""

    def _fail(self, error: BaseException) -> None:
        """Report a failure, once as long as it stays the same."""
        if repr(error) != self._failure:
            self._failure = repr(error)
            self._on_failure("overrides", error)


def snapshot_of(override: Override, now: float, wall: float) -> OverrideSnapshot:
    """One override, for people and machines."""
    return OverrideSnapshot(
        id=override.number,
        kind=override.kind.value,
        traffic_class=override.traffic_class,
        value=override.value,
        user=override.user,
        reason=override.reason,
        since_wall=override.since_wall,
        until_wall=override.until_wall,
        left_seconds=round(override.left(now, wall), 3),
    )
