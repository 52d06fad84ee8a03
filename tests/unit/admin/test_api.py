"""The routes: what is answered, to whom, and what is refused."""

import asyncio
import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mailshed.admin import api
from mailshed.admin.api import (
    Commands,
    Service,
    admin_app,
    health,
    may_administer,
    public_app,
    readiness,
)
from mailshed.errors import ConfigError, SpoolSick
from mailshed.metrics import Metrics, Snapshot, SnapshotCollector, SnapshotHolder, new_registry
from tests.support.clock import ManualClock
from tests.support.snapshots import busy_snapshot


class World:
    """A service around the routes, all of it replaceable."""

    def __init__(self) -> None:
        self.clock = ManualClock(monotonic=1000.0)
        self.holder = SnapshotHolder()
        self.holder.swap(busy_snapshot(made_at=1000.0))
        registry = new_registry()
        registry.register(SnapshotCollector(self.holder, self.clock.monotonic))
        self.metrics = Metrics(registry)
        self.metrics.declare(["clinical"], ["smtp"], ["exch01"])
        self.asked: list[tuple[str | None, int]] = []
        self.failures: list[BaseException] = []
        self.reloading: Callable[[], Awaitable[str]] = self._reload
        self.fault: Exception | None = None
        self.admin_group = os.getegid()

    async def reload(self) -> str:
        return await self.reloading()

    async def _reload(self) -> str:
        return "reloaded configuration 77aa"

    def list_messages(self, traffic_class: str | None, limit: int) -> list[dict[str, Any]]:
        if self.fault is not None:
            raise self.fault
        self.asked.append((traffic_class, limit))
        recipient = {"address": "189027512345678@patient.mssante.fr", "last_reply": ""}
        return [{"queue_id": "Q1", "sender": "a@b.example", "recipients": [recipient]}]

    def explain(self, queue_id: str) -> dict[str, Any]:
        if self.fault is not None:
            raise self.fault
        return {"queue_id": queue_id, "why": "189027512345678@patient.mssante.fr"}

    def service(self, executor: ThreadPoolExecutor) -> Service:
        return Service(
            metrics=self.metrics,
            holder=self.holder,
            now=self.clock.monotonic,
            commands=Commands(
                list_messages=self.list_messages,
                count_messages=lambda: [{"class": "bulk", "state": "queued", "messages": 3}],
                reload=self.reload,
                explain=self.explain,
            ),
            executor=executor,
            run_on_main=lambda command: command(),
            on_failure=lambda _, error: self.failures.append(error),
            admin_group=self.admin_group,
        )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, since a socket's path has 107 octets."""
    with tempfile.TemporaryDirectory(prefix="ms-") as name:
        yield Path(name)


@contextlib.asynccontextmanager
async def serving(
    make: Callable[[Service], web.Application], world: World, path: Path
) -> AsyncIterator[aiohttp.ClientSession]:
    """The application on a Unix socket, and a client of it."""
    with ThreadPoolExecutor(1) as executor:
        runner = web.AppRunner(make(world.service(executor)), access_log=None)
        await runner.setup()
        await web.UnixSite(runner, str(path)).start()
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession("http://localhost", connector=connector) as client:
            yield client
        await runner.cleanup()


@pytest.fixture
async def admin(world: World, folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(admin_app, world, folder / "s") as client:
        yield client


@pytest.fixture
async def public(world: World, folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(public_app, world, folder / "s") as client:
        yield client


async def get(client: aiohttp.ClientSession, path: str, **options: Any) -> tuple[int, str]:
    async with client.get(path, **options) as response:
        return response.status, await response.text()


async def test_metrics_in_the_format_that_is_asked_for(public: aiohttp.ClientSession) -> None:
    async with public.get("/metrics") as response:
        assert response.content_type == "text/plain"
        assert 'mailshed_backend_up{backend="exch02"} 0.0' in await response.text()
    wanted = {"Accept": "application/openmetrics-text;version=1.0.0"}
    async with public.get("/metrics", headers=wanted) as response:
        assert response.content_type == "application/openmetrics-text"
        assert (await response.text()).endswith("# EOF\n")


async def test_health_and_readiness_over_http(public: aiohttp.ClientSession, world: World) -> None:
    assert await get(public, "/healthz") == (200, "ok\n")
    assert await get(public, "/readyz") == (200, "ready\n")
    world.clock.advance(6.5)
    assert await get(public, "/healthz") == (503, "the main loop has not run for 6.5 s\n")
    assert (await get(public, "/readyz"))[0] == 503


async def test_the_index_names_the_paths(public: aiohttp.ClientSession) -> None:
    status, text = await get(public, "/")
    assert status == 200
    assert text.split() == ["mailshed", "/", "/healthz", "/metrics", "/readyz"]


async def test_the_port_gives_no_commands(public: aiohttp.ClientSession) -> None:
    for path in ("/v1/status", "/v1/queue", "/v1/reload"):
        assert (await get(public, path))[0] == 404
    async with public.post("/v1/reload") as response:
        assert response.status == 404
    async with public.post("/metrics") as response:
        assert response.status == 405


async def test_errors_are_json(admin: aiohttp.ClientSession) -> None:
    async with admin.get("/nothing") as response:
        assert response.status == 404
        assert response.content_type == "application/json"
        assert "error" in await response.json()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
async def test_other_methods_than_get_and_post_are_refused(
    admin: aiohttp.ClientSession, method: str
) -> None:
    async with admin.request(method, "/v1/status") as response:
        assert response.status == 405


async def test_a_body_is_refused(admin: aiohttp.ClientSession) -> None:
    async with admin.post("/v1/reload", data=b"x" * 100_000) as response:
        assert response.status == 413


async def test_a_long_request_line_is_refused(admin: aiohttp.ClientSession) -> None:
    assert (await get(admin, "/v1/queue?class=" + "x" * 20_000))[0] == 400


async def test_status_is_the_document(admin: aiohttp.ClientSession, world: World) -> None:
    world.clock.advance(3.0)
    status, text = await get(admin, "/v1/status")
    assert status == 200
    document = json.loads(text)
    assert document["schema"] == "mailshed.status/1"
    assert document["snapshot_age_seconds"] == 3.0


async def test_status_before_the_first_snapshot_is_503(world: World, folder: Path) -> None:
    world.holder = SnapshotHolder()
    async with serving(admin_app, world, folder / "s") as client:
        assert (await get(client, "/v1/status"))[0] == 503


async def test_the_queue_is_listed_with_patients_masked(
    admin: aiohttp.ClientSession, world: World
) -> None:
    status, text = await get(admin, "/v1/queue?class=bulk&limit=7")
    assert status == 200
    assert world.asked == [("bulk", 7)]
    document = json.loads(text)
    assert document["schema"] == "mailshed.queue/1"
    assert document["messages"][0]["recipients"][0]["address"] == "***@patient.mssante.fr"
    assert "189027512345678" not in text


@pytest.mark.parametrize("limit", ["0", "-1", "x", "", "10001", "٣", "9" * 50, "1e3"])
async def test_a_senseless_limit_is_400(
    admin: aiohttp.ClientSession, world: World, limit: str
) -> None:
    status, text = await get(admin, "/v1/queue", params={"limit": limit})
    assert status == 400
    assert json.loads(text) == {"error": "limit must be a number from 1 to 10000"}
    assert world.asked == []


async def test_the_queue_is_counted(admin: aiohttp.ClientSession) -> None:
    status, text = await get(admin, "/v1/queue/count")
    assert status == 200
    assert json.loads(text) == {
        "schema": "mailshed.queue-count/1",
        "classes": [{"class": "bulk", "state": "queued", "messages": 3}],
    }


async def test_a_spool_that_cannot_be_read_is_503(
    admin: aiohttp.ClientSession, world: World
) -> None:
    world.fault = SpoolSick("disk I/O error")
    status, text = await get(admin, "/v1/queue")
    assert status == 503
    assert json.loads(text) == {"error": "the spool cannot be read: disk I/O error"}


async def test_our_own_fault_is_500_without_details_and_reported(
    admin: aiohttp.ClientSession, world: World
) -> None:
    world.fault = ZeroDivisionError("secret detail")
    status, text = await get(admin, "/v1/queue")
    assert status == 500
    assert "secret" not in text
    assert world.failures == [world.fault]


async def test_reload_says_what_it_did(admin: aiohttp.ClientSession) -> None:
    async with admin.post("/v1/reload") as response:
        assert response.status == 200
        assert (await response.json())["result"] == "reloaded configuration 77aa"


async def test_a_faulty_configuration_is_422_with_all_faults(
    admin: aiohttp.ClientSession, world: World
) -> None:
    async def refuse() -> str:
        raise ConfigError("f.yaml:1:1: unknown key\nf.yaml:2:1: unknown key")

    world.reloading = refuse
    async with admin.post("/v1/reload") as response:
        assert response.status == 422
        assert (await response.json())["error"].count("unknown key") == 2


async def test_a_reload_that_does_not_come_back_is_503_and_cancelled(
    admin: aiohttp.ClientSession, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    async def hang() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "never"

    monkeypatch.setattr(api, "RELOAD_DEADLINE", 0.05)
    world.reloading = hang
    async with admin.post("/v1/reload") as response:
        assert response.status == 503
    assert ended.is_set()


async def test_a_peer_of_another_user_and_group_is_403(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer is this process; the service is made to belong to somebody else."""
    monkeypatch.setattr(api, "may_administer", lambda *_: False)
    async with serving(admin_app, world, folder / "s") as client:
        for path in ("/", "/metrics", "/v1/status", "/v1/queue"):
            assert (await get(client, path))[0] == 403
        async with client.post("/v1/reload") as response:
            assert response.status == 403
    assert world.asked == []


async def test_the_kernel_tells_who_the_peer_is(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, set[int], int]] = []

    def remember(uid: int, groups: set[int], group: int) -> bool:
        seen.append((uid, groups, group))
        return True

    monkeypatch.setattr(api, "may_administer", remember)
    async with serving(admin_app, world, folder / "s") as client:
        assert (await get(client, "/v1/status"))[0] == 200
    assert seen == [(os.getuid(), {os.getgid(), *os.getgroups()}, world.admin_group)]


def test_root_ourselves_and_the_group_may_administer() -> None:
    own = os.geteuid()
    assert may_administer(0, set(), 990)
    assert may_administer(own, set(), 990)
    assert may_administer(4711, {100, 990}, 990)
    assert not may_administer(4711, {100, 101}, 990)


def _snapshot(**changes: Any) -> Snapshot:
    return dataclasses.replace(busy_snapshot(made_at=1000.0), **changes)


@pytest.mark.parametrize(
    ("snapshot", "now", "is_ready", "text"),
    [
        (None, 1000.0, False, "starting: no snapshot yet"),
        (_snapshot(), 1000.0, True, "ready"),
        (_snapshot(), 1005.0, True, "ready"),
        (_snapshot(), 1005.1, False, "the main loop has not run for 5.1 s"),
        (_snapshot(is_stopping=True), 1000.0, False, "stopping"),
        (_snapshot(is_observing=True), 1000.0, True, "ready (observing: nothing is shed)"),
        (
            _snapshot(spool=dataclasses.replace(busy_snapshot().spool, is_healthy=False)),
            1000.0,
            True,
            "ready in relay-only mode: the spool is sick: ",
        ),
        (
            _snapshot(
                spool=dataclasses.replace(busy_snapshot().spool, is_healthy=False), backends=()
            ),
            1000.0,
            False,
            "the spool is sick and no backend is up: all mail would get 4xx",
        ),
    ],
)
def test_readiness(snapshot: Snapshot | None, now: float, is_ready: bool, text: str) -> None:
    assert readiness(snapshot, now) == (is_ready, text)


def test_a_stopping_service_is_alive() -> None:
    """A manager that restarts what is not alive must not end a graceful stop."""
    assert health(_snapshot(is_stopping=True), 1000.0) == (True, "ok")


def _full(*, is_up: bool, has_clinical_room: bool = False) -> Snapshot:
    backends = tuple(dataclasses.replace(each, is_up=is_up) for each in busy_snapshot().backends)
    spool = dataclasses.replace(
        busy_snapshot().spool, full_reason="9 of 9 messages", has_clinical_room=has_clinical_room
    )
    return dataclasses.replace(busy_snapshot(), backends=backends, spool=spool)


def test_with_a_full_spool_it_is_ready_while_any_mail_has_somewhere_to_go() -> None:
    ready = (True, "ready, but the spool is full: 9 of 9 messages")
    assert readiness(_full(is_up=True), 1000.0) == ready
    assert readiness(_full(is_up=False, has_clinical_room=True), 1000.0) == ready
    assert readiness(_full(is_up=False), 1000.0) == (
        False,
        "the spool is full and no backend is up: all mail would get 4xx",
    )


async def test_an_explanation_is_asked_for_by_queue_id(admin: aiohttp.ClientSession) -> None:
    status, text = await get(admin, "/v1/explain/01JZX4K7T2M8Q0RB")
    assert status == 200
    assert json.loads(text) == {
        "queue_id": "01JZX4K7T2M8Q0RB",
        "why": "***@patient.mssante.fr",
    }
    for wrong in ("/v1/explain/", "/v1/explain/a", "/v1/explain/" + "A" * 33):
        assert (await get(admin, wrong))[0] == 404


async def test_an_explanation_that_needs_a_sick_spool_is_503(
    admin: aiohttp.ClientSession, world: World
) -> None:
    world.fault = SpoolSick("disk I/O error")
    status, text = await get(admin, "/v1/explain/01JZX4K7T2M8Q0RB")
    assert (status, "disk I/O error" in text) == (503, True)
