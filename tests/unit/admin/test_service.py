"""Asking the spool on behalf of somebody who waits."""

import threading

import pytest

from mailshed.admin import queue, service
from mailshed.errors import SpoolSick
from tests.unit.admin.conftest import Client, World


async def test_a_spool_that_cannot_be_read_is_503(admin: Client, world: World) -> None:
    world.fault = SpoolSick("disk I/O error")

    answer = await admin.get_json("/v1/queue")

    assert answer == (503, {"error": "the spool cannot be read: disk I/O error"})


async def test_a_spool_that_does_not_answer_is_503(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk hangs, and the thread that reads it with it."""
    answered = threading.Event()
    original = service.read_spool

    def hang(*_: object) -> list[dict[str, object]]:
        answered.wait(60)
        return []

    monkeypatch.setattr(
        queue, "read_spool", lambda request, read: original(request, read, deadline=0.05)
    )
    monkeypatch.setattr(world, "list_messages", hang)
    try:
        async with world.serving() as client:
            answer = await client.get_json("/v1/queue")
            answered.set()
        assert answer == (503, {"error": "the spool does not answer"})
    finally:
        answered.set()
