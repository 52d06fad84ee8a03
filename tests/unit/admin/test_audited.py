"""What the acting routes share: the document, the operator, and both lines of the audit log."""

import asyncio
import os
from collections.abc import Mapping

import pytest
from aiohttp import web

from mailshed.admin import audited
from mailshed.admin.audit import AuditError
from mailshed.admin.service import SERVICE, Service
from tests.unit.admin.conftest import World

ENTRY = {"event": "requested"}


def app_with(service: Service) -> web.Application:
    """An application whose routes are nothing but what is under test."""

    async def who(request: web.Request) -> web.Response:
        operator = await audited.operator_of(request)
        return web.json_response({"uid": operator.uid, "pid": operator.pid})

    async def before(request: web.Request) -> web.Response:
        await audited.note_before(request, ENTRY)
        return web.json_response({})

    async def after(request: web.Request) -> web.Response:
        return web.json_response({"is_noted": await audited.note_after(request, ENTRY)})

    app = web.Application()
    app[SERVICE] = service
    for handler in (who, before, after):
        app.router.add_get(f"/{handler.__name__}", handler)
    return app


async def test_the_operator_is_whom_the_kernel_names(world: World) -> None:
    async with world.serving(app_with) as client:
        assert await client.get_json("/who") == (200, {"uid": os.getuid(), "pid": os.getpid()})


async def test_a_line_is_written(world: World) -> None:
    async with world.serving(app_with) as client:
        assert (await client.get("/before"))[0] == 200
        assert await client.get_json("/after") == (200, {"is_noted": True})
    assert world.audit.path.read_text() == '{"event": "requested"}\n' * 2


async def test_a_line_that_cannot_be_written_before_forbids_the_act(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Mapping[str, object]) -> None:
        raise AuditError("audit.log cannot be written: No space left on device")

    monkeypatch.setattr(world.audit, "append", refuse)
    async with world.serving(app_with) as client:
        status, text = await client.get("/before")
        assert status == 503
        assert text.startswith("nothing was done, since it could not be entered in the audit log")
        assert text.endswith("No space left on device")
        assert await client.get_json("/after") == (200, {"is_noted": False})
    assert [type(each) for each in world.failures] == [AuditError]


async def test_a_disk_that_does_not_answer_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: object, __: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(audited, "AUDIT_DEADLINE", 0.01)
    async with world.serving(app_with) as client:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "run_in_executor", never)
        status, text = await client.get("/before")
        assert (status, text.rpartition(": ")[2]) == (503, "the disk does not answer")
        assert await client.get_json("/after") == (200, {"is_noted": False})
        monkeypatch.undo()
