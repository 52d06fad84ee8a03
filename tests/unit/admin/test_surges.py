"""Taking a surge as usual: who may ask for it how, and what is written down."""

import json
from typing import Any

import pytest

from mailshed.admin.audit import AuditError
from mailshed.errors import RequestError, StateError
from tests.unit.admin.conftest import Client, World

TARGET = "/v1/surges/adopt"
ASKED = {"class": "telework", "reason": "everybody works at home now"}


def audited(world: World) -> list[dict[str, Any]]:
    if not world.audit.path.exists():
        return []
    return [json.loads(line) for line in world.audit.path.read_text().splitlines()]


async def test_it_is_done_and_written_down_before_and_after(admin: Client, world: World) -> None:
    status, answer = await admin.post(TARGET, ASKED)

    requested, done = audited(world)
    assert status == 200
    assert answer == {
        "schema": "mailshed.surge/1",
        "class": "telework",
        "adopted": [{"network": "", "factor": 2.04}, {"network": "vpn", "factor": 2.2}],
        "request": requested["request"],
        "is_noted": True,
    }
    ((name, user, reason),) = world.adopted
    assert (name, reason) == ("telework", "everybody works at home now")
    assert user == requested["user"]
    assert (requested["verb"], requested["class"]) == ("surge adopt", "telework")
    assert requested["reason"] == reason
    assert (done["event"], done["request"]) == ("done", requested["request"])
    assert done["result"] == {"adopted": 2, "error": ""}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"class": "telework"},
        {"class": "telework", "reason": "  "},
        {"class": "telework", "reason": "x" * 1000},
        {"class": "telework", "reason": 7},
        {"class": "", "reason": "because"},
        {"class": ["telework"], "reason": "because"},
        {"class": "telework", "reason": "because", "factor": 3},
    ],
)
async def test_what_cannot_be_understood_is_not_done(
    admin: Client, world: World, document: dict[str, Any]
) -> None:
    status, answer = await admin.post(TARGET, document)

    assert status == 400
    assert answer["error"]
    assert (world.adopted, audited(world)) == ([], [])


async def test_a_refusal_is_passed_on_and_written_down(admin: Client, world: World) -> None:
    world.fault = RequestError("class: telework has had no surge in the last days")

    status, answer = await admin.post(TARGET, ASKED)

    assert (status, answer) == (400, {"error": str(world.fault)})
    assert audited(world)[1]["result"] == {"error": str(world.fault)}


async def test_what_could_not_be_saved_is_said(admin: Client, world: World) -> None:
    world.fault = StateError("the disk is full")

    status, answer = await admin.post(TARGET, ASKED)

    assert status == 503
    assert "could not be saved (the disk is full)" in answer["error"]
    assert "the disk is full" in audited(world)[1]["result"]["error"]


async def test_a_service_that_does_not_answer_is_not_waited_for(
    admin: Client, world: World
) -> None:
    world.fault = TimeoutError()

    status, answer = await admin.post(TARGET, ASKED)

    assert status == 503
    assert "did not answer" in answer["error"]
    assert "did not answer" in audited(world)[1]["result"]["error"]


async def test_what_cannot_be_written_down_is_not_done(
    admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise AuditError("audit.log cannot be written: No space left on device")

    monkeypatch.setattr(world.audit, "append", refuse)

    status, answer = await admin.post(TARGET, ASKED)

    assert status == 503
    assert "nothing was done" in answer["error"]
    assert world.adopted == []
