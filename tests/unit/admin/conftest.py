"""A service around the routes, all of it replaceable, on a real Unix socket."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mailshed.admin.api import admin_app, public_app
from mailshed.admin.audit import AuditLog
from mailshed.admin.keeper import FILE_NAME, OverrideKeeper
from mailshed.admin.service import Commands, Service
from mailshed.clock import Clock
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics, SnapshotCollector, SnapshotHolder, new_registry
from mailshed.spool.filter import QueueFilter
from mailshed.spool.store import AmendResult
from mailshed.statefile import StateFile
from mailshed.supervisor import Supervisor
from mailshed.terms import QueueAction, QueueId
from tests.support.builders import CLASSES
from tests.support.clock import ManualClock
from tests.support.middle import LogLines
from tests.support.snapshots import busy_snapshot


def make_keeper(folder: Path, clock: Clock, log: LogLines | None = None) -> OverrideKeeper:
    """A keeper of overrides for the classes of the test builders."""

    def fail(name: str, error: BaseException) -> None:
        raise AssertionError(name) from error

    return OverrideKeeper(
        file=StateFile(folder, FILE_NAME),
        classes=lambda: CLASSES,
        note=AuditLog(folder).append,
        on_change=lambda _: None,
        maillog=MailLog(log or LogLines(), "json", "debug"),
        clock=clock,
        supervisor=Supervisor(fail),
        on_failure=fail,
    )


class World:
    """What the routes ask, and what they were told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(monotonic=1000.0)
        self.holder = SnapshotHolder()
        self.holder.swap(busy_snapshot(made_at=1000.0))
        registry = new_registry()
        registry.register(SnapshotCollector(self.holder, self.clock.monotonic))
        self.metrics = Metrics(registry)
        self.metrics.declare(["clinical"], ["smtp"], ["exch01"])
        self.asked: list[tuple[Any, ...]] = []
        """What was asked of the spool."""
        self.failures: list[BaseException] = []
        self.reloading: Callable[[], Awaitable[str]] = self._reload
        self.fault: Exception | None = None
        self.admin_group = os.getegid()
        self.ids = [QueueId(f"Q{number}") for number in range(3)]
        """What is in the spool."""
        self.amending: Callable[[QueueAction, Sequence[QueueId]], Awaitable[AmendResult]] = (
            self._amend
        )
        self.amended: list[tuple[QueueAction, list[QueueId]]] = []
        self.adopted: list[tuple[str, ...]] = []
        self.announced: list[dict[str, Any]] = []
        self.has_announced = asyncio.Event()
        self.audit = AuditLog(folder)
        self.keeper = make_keeper(folder, self.clock)

    async def reload(self) -> str:
        return await self.reloading()

    async def amend(self, action: QueueAction, ids: Sequence[QueueId]) -> AmendResult:
        return await self.amending(action, ids)

    async def _reload(self) -> str:
        return "reloaded configuration 77aa"

    async def _amend(self, action: QueueAction, ids: Sequence[QueueId]) -> AmendResult:
        self.amended.append((action, list(ids)))
        return AmendResult(changed=len(ids))

    def list_messages(self, wanted: QueueFilter, limit: int) -> list[dict[str, Any]]:
        if self.fault is not None:
            raise self.fault
        self.asked.append((wanted, limit))
        recipient = {"address": "189027512345678@patient.mssante.fr", "last_reply": ""}
        return [{"queue_id": "Q1", "sender": "a@b.example", "recipients": [recipient]}]

    def count_messages(self, wanted: QueueFilter) -> list[dict[str, Any]]:
        self.asked.append((wanted,))
        return [{"class": "bulk", "state": "queued", "messages": len(self.ids)}]

    def show_messages(self, ids: Sequence[QueueId], *, with_headers: bool) -> list[dict[str, Any]]:
        self.asked.append((tuple(ids), with_headers))
        return [{"queue_id": each, "sender": "189027512345678@patient.mssante.fr"} for each in ids]

    def find_ids(self, wanted: QueueFilter, limit: int) -> list[QueueId]:
        if self.fault is not None:
            raise self.fault
        return [each for each in self.ids if not wanted.ids or each in wanted.ids][:limit]

    def explain(self, queue_id: str) -> dict[str, Any]:
        if self.fault is not None:
            raise self.fault
        return {"queue_id": queue_id, "why": "189027512345678@patient.mssante.fr"}

    async def adopt_surge(self, *asked: str) -> Mapping[str, float]:
        self.adopted.append(asked)
        if self.fault is not None:
            raise self.fault
        return {"": 2.04, "vpn": 2.2}

    def announce(self, **fields: Any) -> None:
        self.announced.append(fields)
        self.has_announced.set()

    def service(self, executor: ThreadPoolExecutor) -> Service:
        async def run(command: Callable[[], Awaitable[Any]]) -> Any:
            return await command()

        return Service(
            metrics=self.metrics,
            holder=self.holder,
            now=self.clock.monotonic,
            wall=self.clock.wall,
            commands=Commands(
                list_messages=self.list_messages,
                count_messages=self.count_messages,
                show_messages=self.show_messages,
                find_ids=self.find_ids,
                amend=self.amend,
                audit=self.audit,
                announce=self.announce,
                reload=self.reload,
                explain=self.explain,
                adopt_surge=self.adopt_surge,
                overrides=self.keeper,
            ),
            executor=executor,
            run_on_main=run,
            on_failure=lambda _, error: self.failures.append(error),
            admin_group=self.admin_group,
        )

    @contextlib.asynccontextmanager
    async def serving(
        self, make: Callable[[Service], web.Application] = admin_app
    ) -> AsyncIterator["Client"]:
        """The application on a Unix socket, and a client of it."""
        with ThreadPoolExecutor(1) as executor:
            runner = web.AppRunner(make(self.service(executor)), access_log=None)
            await runner.setup()
            path = str(self.folder / "s")
            await web.UnixSite(runner, path).start()
            connector = aiohttp.UnixConnector(path)
            async with aiohttp.ClientSession("http://localhost", connector=connector) as session:
                yield Client(session)
            await runner.cleanup()


class Client:
    """Asks, and reads the answer whole."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def get(self, path: str, **options: Any) -> tuple[int, str]:
        async with self.session.get(path, **options) as response:
            return response.status, await response.text()

    async def get_json(
        self, path: str, query: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    ) -> tuple[int, Any]:
        async with self.session.get(path, params=query) as response:
            return response.status, await response.json()

    async def post(self, path: str, document: Any = None) -> tuple[int, Any]:
        async with self.session.post(path, json=document) as response:
            return response.status, await response.json()


@pytest.fixture
def world() -> Iterator[World]:
    """A world in a folder with a short name, since a socket's path has 107 octets."""
    with tempfile.TemporaryDirectory(prefix="ms-") as name:
        yield World(Path(name))


@pytest.fixture
async def admin(world: World) -> AsyncIterator[Client]:
    """A client of the Unix socket."""
    async with world.serving() as client:
        yield client


@pytest.fixture
async def public(world: World) -> AsyncIterator[Client]:
    """A client of the metrics port's application."""
    async with world.serving(public_app) as client:
        yield client
