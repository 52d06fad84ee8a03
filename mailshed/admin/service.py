"""What the routes of the operations thread know of the service, and how they ask it for something.

What blocks runs in the thread's own executor, with a deadline, after which the answer is 503. What
belongs to the main loop is run there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from aiohttp import web

from mailshed.admin.audit import AuditLog
from mailshed.admin.keeper import OverrideKeeper
from mailshed.admin.status import Document
from mailshed.errors import SpoolError
from mailshed.metrics import Metrics, SnapshotHolder
from mailshed.spool.filter import QueueFilter
from mailshed.spool.store import AmendResult
from mailshed.terms import QueueAction, QueueId

T = TypeVar("T")

READ_DEADLINE = 5.0
"""Seconds that reading the spool may take while somebody looks at a screen."""


class ListMessages(Protocol):
    """Messages that match, oldest first, at most so many."""

    def __call__(self, wanted: QueueFilter, limit: int, /) -> list[Document]:
        """See `mailshed.spool.reader.list_messages`."""
        ...


class ShowMessages(Protocol):
    """All that there is to say of some messages."""

    def __call__(self, ids: Sequence[QueueId], /, *, with_headers: bool) -> list[Document]:
        """See `mailshed.spool.reader.show_messages`."""
        ...


class Announce(Protocol):
    """A line in the log about what an operator did."""

    def __call__(
        self,
        *,
        verb: str,
        user: str,
        request: str,
        result: Mapping[str, int | str],
        ids: Sequence[str],
        reason: str | None,
    ) -> None:
        """See `mailshed.maillog.MailLog.operator`; called from the operations thread."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """What the admin interface can ask of the rest of the service.

    Those that read are plain functions that may block; they run outside the main loop and open
    their own read-only view of the spool. `amend` and `reload` run on the main loop.
    """

    list_messages: ListMessages
    count_messages: Callable[[QueueFilter], list[Document]]
    """Totals per class and state."""
    show_messages: ShowMessages
    find_ids: Callable[[QueueFilter, int], list[QueueId]]
    """Queue ids of messages that match, oldest first, at most so many."""
    amend: Callable[[QueueAction, Sequence[QueueId]], Awaitable[AmendResult]]
    """Do something to these messages, durably, and say of how many it was true.

    Each counts once: what is with the backend as `busy`, what the action changes nothing about as
    `unchanged`. Raises SpoolError if the spool cannot do it. Being cancelled leaves no message
    half changed.
    """
    audit: AuditLog
    announce: Announce
    reload: Callable[[], Awaitable[str]]
    """Returns a line for people; raises ConfigError if the file is faulty."""
    explain: Callable[[str], Document]
    """Why a message is of its class, by queue id; may block like the listings."""
    adopt_surge: Callable[[str, str, str], Awaitable[Mapping[str, float]]]
    """Take the surge of a class as usual, for a user and a reason.

    Returns how many times what it was the usual now is, by network, "" for the whole class. Raises
    RequestError if there is none, and StateError if that could not be saved.
    """
    overrides: OverrideKeeper
    """Its `snapshots` may be read from anywhere; all else is for the main loop."""


class RunOnMain(Protocol):
    """Runs a command on the main loop; TimeoutError if there is none any more."""

    def __call__(self, command: Callable[[], Awaitable[T]], /) -> Awaitable[T]:
        """Giving up waiting cancels the command."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the routes know: the snapshot, the registry, the clocks, and how to run commands."""

    metrics: Metrics
    holder: SnapshotHolder
    now: Callable[[], float]
    wall: Callable[[], float]
    commands: Commands
    executor: Executor
    run_on_main: RunOnMain
    on_failure: Callable[[str, BaseException], None]
    admin_group: int
    """Group id that owns the admin socket."""


SERVICE = web.AppKey("service", Service)


async def read_spool(
    request: web.Request, read: Callable[[], T], deadline: float = READ_DEADLINE
) -> T:
    """Run what reads the spool in the executor; 503 if it takes longer than `deadline`."""
    executor = request.app[SERVICE].executor
    try:
        async with asyncio.timeout(deadline):
            return await asyncio.get_running_loop().run_in_executor(executor, read)
    except TimeoutError:
        raise web.HTTPServiceUnavailable(text="the spool does not answer") from None
    except SpoolError as error:
        raise web.HTTPServiceUnavailable(text=f"the spool cannot be read: {error}") from error
