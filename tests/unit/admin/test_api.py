"""The routes: what is answered, to whom, and what is refused."""

import asyncio
import dataclasses
import json
from typing import Any

import pytest

from mailshed.admin import api
from mailshed.admin.api import health, readiness
from mailshed.errors import ConfigError, SpoolSick
from mailshed.metrics import Snapshot, SnapshotHolder
from tests.support.snapshots import busy_snapshot
from tests.unit.admin.conftest import Client, World


async def test_metrics_in_the_format_that_is_asked_for(public: Client) -> None:
    async with public.session.get("/metrics") as response:
        assert response.content_type == "text/plain"
        assert 'mailshed_backend_up{backend="exch02"} 0.0' in await response.text()
    wanted = {"Accept": "application/openmetrics-text;version=1.0.0"}
    async with public.session.get("/metrics", headers=wanted) as response:
        assert response.content_type == "application/openmetrics-text"
        assert (await response.text()).endswith("# EOF\n")


async def test_health_and_readiness_over_http(public: Client, world: World) -> None:
    assert await public.get("/healthz") == (200, "ok\n")
    assert await public.get("/readyz") == (200, "ready\n")
    world.clock.advance(6.5)
    assert await public.get("/healthz") == (503, "the main loop has not run for 6.5 s\n")
    assert (await public.get("/readyz"))[0] == 503


async def test_the_index_names_the_paths(public: Client) -> None:
    status, text = await public.get("/")
    assert status == 200
    assert text.split() == ["mailshed", "/", "/healthz", "/metrics", "/readyz"]


async def test_the_port_gives_no_commands(public: Client) -> None:
    for path in ("/v1/status", "/v1/queue", "/v1/reload", "/v1/queue/show"):
        assert (await public.get(path))[0] == 404
    for path in ("/v1/reload", "/v1/queue/delete", "/v1/queue/export"):
        assert (await public.session.post(path)).status == 404
    async with public.session.post("/metrics") as response:
        assert response.status == 405


async def test_errors_are_json(admin: Client) -> None:
    async with admin.session.get("/nothing") as response:
        assert response.status == 404
        assert response.content_type == "application/json"
        assert "error" in await response.json()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
async def test_other_methods_than_get_and_post_are_refused(admin: Client, method: str) -> None:
    async with admin.session.request(method, "/v1/status") as response:
        assert response.status == 405


async def test_a_body_longer_than_any_request_is_refused(admin: Client) -> None:
    async with admin.session.post("/v1/reload", data=b"x" * 200_000) as response:
        assert response.status == 413


async def test_a_long_request_line_is_refused(admin: Client) -> None:
    assert (await admin.get("/v1/queue?class=" + "x" * 20_000))[0] == 400


async def test_status_is_the_document(admin: Client, world: World) -> None:
    world.clock.advance(3.0)
    status, text = await admin.get("/v1/status")
    assert status == 200
    document = json.loads(text)
    assert document["schema"] == "mailshed.status/1"
    assert document["snapshot_age_seconds"] == 3.0


async def test_status_before_the_first_snapshot_is_503(world: World) -> None:
    world.holder = SnapshotHolder()
    async with world.serving() as client:
        assert (await client.get("/v1/status"))[0] == 503


async def test_our_own_fault_is_500_without_details_and_reported(
    admin: Client, world: World
) -> None:
    world.fault = ZeroDivisionError("secret detail")
    status, text = await admin.get("/v1/queue")
    assert status == 500
    assert "secret" not in text
    assert world.failures == [world.fault]


async def test_reload_says_what_it_did(admin: Client) -> None:
    async with admin.session.post("/v1/reload") as response:
        assert response.status == 200
        assert (await response.json())["result"] == "reloaded configuration 77aa"


async def test_a_faulty_configuration_is_422_with_all_faults(admin: Client, world: World) -> None:
    async def refuse() -> str:
        raise ConfigError("f.yaml:1:1: unknown key\nf.yaml:2:1: unknown key")

    world.reloading = refuse
    async with admin.session.post("/v1/reload") as response:
        assert response.status == 422
        assert (await response.json())["error"].count("unknown key") == 2


async def test_a_reload_that_does_not_come_back_is_503_and_cancelled(
    admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
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
    async with admin.session.post("/v1/reload") as response:
        assert response.status == 503
    assert ended.is_set()


async def test_a_peer_of_another_user_and_group_is_403(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer is this process; the service is made to belong to somebody else."""
    monkeypatch.setattr(api, "may_administer", lambda *_: False)
    async with world.serving() as client:
        for path in ("/", "/metrics", "/v1/status", "/v1/queue", "/v1/overrides"):
            assert (await client.get(path))[0] == 403
        for path in ("/v1/reload", "/v1/queue/delete", "/v1/overrides", "/v1/overrides/cancel"):
            assert (await client.post(path))[0] == 403
    assert world.asked == []


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


async def test_an_explanation_is_asked_for_by_queue_id(admin: Client) -> None:
    status, text = await admin.get("/v1/explain/01JZX4K7T2M8Q0RB")
    assert status == 200
    assert json.loads(text) == {
        "queue_id": "01JZX4K7T2M8Q0RB",
        "why": "***@patient.mssante.fr",
    }
    for wrong in ("/v1/explain/", "/v1/explain/a", "/v1/explain/" + "A" * 33):
        assert (await admin.get(wrong))[0] == 404


async def test_an_explanation_that_needs_a_sick_spool_is_503(admin: Client, world: World) -> None:
    world.fault = SpoolSick("disk I/O error")
    status, text = await admin.get("/v1/explain/01JZX4K7T2M8Q0RB")
    assert (status, "disk I/O error" in text) == (503, True)
