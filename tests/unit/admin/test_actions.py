"""Acting on the queue: what is done, what is written down before and after, and what is refused."""

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Any

import pytest

from mailshed.admin import actions
from mailshed.admin.audit import AuditError
from mailshed.errors import SpoolSick
from mailshed.spool.store import AmendResult
from mailshed.terms import QueueAction, QueueId
from tests.unit.admin.conftest import Client, World

ALL = {"all": True, "reason": "because"}


def audited(world: World) -> list[dict[str, Any]]:
    if not world.audit.path.exists():
        return []
    return [json.loads(line) for line in world.audit.path.read_text().splitlines()]


@pytest.mark.parametrize("action", QueueAction)
async def test_all_that_match_are_changed(admin: Client, world: World, action: QueueAction) -> None:
    status, answer = await admin.post(f"/v1/queue/{action.value}", ALL)

    assert status == 200
    assert world.amended == [(action, ["Q0", "Q1", "Q2"])]
    requested, done = audited(world)
    assert answer == {
        "schema": "mailshed.queue-action/1",
        "verb": action.value,
        "matched": 3,
        "missing": 0,
        "request": requested["request"],
        "is_noted": True,
        "changed": 3,
        "unchanged": 0,
        "busy": 0,
        "error": "",
    }
    assert requested["uid"] == os.getuid()
    assert requested["pid"] == os.getpid()
    assert (requested["verb"], requested["by"], requested["total"]) == (action.value, "all", 3)
    assert done["request"] == requested["request"]
    assert done["result"] == {"changed": 3, "unchanged": 0, "busy": 0, "error": ""}
    (announced,) = world.announced
    assert announced["verb"] == action.value
    assert announced["result"] == done["result"]
    assert announced["ids"] == ["Q0", "Q1", "Q2"]
    assert announced["reason"] == "because"


async def test_it_is_written_down_before_it_is_done(admin: Client, world: World) -> None:
    seen: list[list[dict[str, Any]]] = []

    async def look(_: QueueAction, ids: Sequence[QueueId]) -> AmendResult:
        seen.append(audited(world))
        return AmendResult(changed=len(ids))

    world.amending = look
    await admin.post("/v1/queue/delete", ALL)

    ((only,),) = seen
    assert (only["event"], only["ids"]) == ("requested", ["Q0", "Q1", "Q2"])


async def test_what_cannot_be_written_down_is_not_done(
    admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise AuditError("audit.log cannot be written: No space left on device")

    monkeypatch.setattr(world.audit, "append", refuse)
    for verb in ("delete", "export"):
        status, answer = await admin.post(f"/v1/queue/{verb}", ALL)
        assert status == 503
        assert answer["error"] == (
            "nothing was done, since it could not be entered in the audit log: audit.log cannot be"
            " written: No space left on device"
        )
    assert world.amended == []
    assert world.announced == []


async def test_an_outcome_that_cannot_be_written_down_is_told(
    admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, error = world.audit.append, AuditError("full")

    def refuse_done(entry: dict[str, Any]) -> None:
        if entry["event"] == "done":
            raise error
        append(entry)

    monkeypatch.setattr(world.audit, "append", refuse_done)
    status, answer = await admin.post("/v1/queue/delete", ALL)

    assert (status, answer["changed"], answer["is_noted"]) == (200, 3, False)
    assert world.failures == [error]


async def test_a_dry_run_only_says_what_would_be_done(admin: Client, world: World) -> None:
    world.ids = [QueueId(f"Q{number}") for number in range(25)]
    for verb in ("hold", "export"):
        status, answer = await admin.post(f"/v1/queue/{verb}", {"all": True, "dry_run": True})
        assert status == 200
        assert (answer["is_dry_run"], answer["matched"]) == (True, 25)
        assert answer["ids"] == world.ids[:10]
    assert world.amended == []
    assert audited(world) == []


async def test_messages_that_are_named_and_not_there_are_counted(
    admin: Client, world: World
) -> None:
    request = {"filter": {"id": ["Q1", "GONE", "AWAY"]}, "reason": "x"}
    _, answer = await admin.post("/v1/queue/hold", request)
    assert (answer["matched"], answer["missing"], answer["changed"]) == (1, 2, 1)

    _, answer = await admin.post("/v1/queue/hold", {**request, "filter": {"id": ["GONE"]}})
    assert (answer["matched"], answer["missing"]) == (0, 1)
    assert len(audited(world)) == 2, "what matches nothing is no action"


async def test_more_than_the_request_allows_are_not_touched(admin: Client, world: World) -> None:
    for verb in ("delete", "export"):
        status, answer = await admin.post(f"/v1/queue/{verb}", {**ALL, "max": 2})
        assert status == 409
        assert answer["error"].startswith("more than 2 messages match, so nothing was done")
    assert (await admin.post("/v1/queue/delete", {**ALL, "max": 3}))[0] == 200
    assert len(audited(world)) == 2


async def test_many_go_in_batches_whose_results_are_summed(
    admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "BATCH", 2)
    results = [AmendResult(changed=1, busy=1), AmendResult(unchanged=1)]
    batches: list[list[QueueId]] = []

    async def amend(_: QueueAction, ids: Sequence[QueueId]) -> AmendResult:
        batches.append(list(ids))
        return results[len(batches) - 1]

    world.amending = amend
    _, answer = await admin.post("/v1/queue/retry", ALL)

    assert batches == [["Q0", "Q1"], ["Q2"]]
    assert (answer["changed"], answer["unchanged"], answer["busy"]) == (1, 1, 1)


async def test_a_spool_that_fails_half_way_is_told_with_what_was_done(
    admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "BATCH", 2)

    async def fail(_: QueueAction, ids: Sequence[QueueId]) -> AmendResult:
        if "Q2" in ids:
            raise SpoolSick("disk I/O error")
        return AmendResult(changed=2)

    world.amending = fail
    status, answer = await admin.post("/v1/queue/delete", ALL)

    assert status == 503
    assert answer["error"] == (
        "the spool failed: disk I/O error; at least 2 of 3 messages have been changed"
    )
    assert audited(world)[1]["result"] == {
        "changed": 2,
        "unchanged": 0,
        "busy": 0,
        "error": "the spool failed: disk I/O error",
    }


async def test_a_main_loop_that_does_not_come_back_is_told(
    admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = asyncio.Event()

    async def hang(_: QueueAction, ids: Sequence[QueueId]) -> AmendResult:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return AmendResult()

    monkeypatch.setattr(actions, "ACTION_DEADLINE", 0.05)
    world.amending = hang
    status, answer = await admin.post("/v1/queue/hold", ALL)

    assert status == 503
    assert "needs more than 0 s; at least 0 of 3 messages have been changed" in answer["error"]
    assert cancelled.is_set()
    assert "needs more than" in audited(world)[1]["result"]["error"]


async def test_our_own_fault_is_written_down_as_broken_off(admin: Client, world: World) -> None:
    async def fail(_: QueueAction, ids: Sequence[QueueId]) -> AmendResult:
        raise ZeroDivisionError("secret detail")

    world.amending = fail
    status, answer = await admin.post("/v1/queue/hold", ALL)

    assert (status, answer) == (500, {"error": "internal error, see the log"})
    assert audited(world)[1]["result"]["error"] == "it was broken off"


async def test_one_action_at_a_time_and_looking_goes_on(admin: Client, world: World) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: QueueAction, ids: Sequence[QueueId]) -> AmendResult:
        begun.set()
        await go_on.wait()
        return AmendResult(changed=len(ids))

    world.amending = wait
    async with asyncio.TaskGroup() as group:
        first = group.create_task(admin.post("/v1/queue/hold", ALL))
        await begun.wait()
        status, answer = await admin.post("/v1/queue/delete", ALL)
        assert (status, answer["error"].partition(";")[0]) == (
            503,
            "another action on the queue is under way",
        )
        assert (await admin.get_json("/v1/queue"))[0] == 200
        assert (await admin.post("/v1/queue/delete", {**ALL, "dry_run": True}))[0] == 200
        go_on.set()
    assert first.result()[0] == 200


async def test_a_client_that_leaves_does_not_end_its_action(admin: Client, world: World) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: QueueAction, ids: Sequence[QueueId]) -> AmendResult:
        begun.set()
        await go_on.wait()
        return AmendResult(changed=len(ids))

    world.amending = wait
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(admin.post("/v1/queue/hold", ALL))
        await begun.wait()
        asking.cancel()
    go_on.set()
    async with asyncio.timeout(30):
        await world.has_announced.wait()
    assert audited(world)[1]["result"]["changed"] == 3


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (None, "expected a JSON object"),
        ([], "expected a JSON object"),
        ({"reason": "x"}, "all: no message is named"),
        ({"all": True}, "reason: say why"),
        ({**ALL, "filter": {"class": ["nonsense"]}, "all": False}, "class: no such class"),
    ],
)
async def test_what_is_not_clear_is_400(
    admin: Client, world: World, document: Any, told: str
) -> None:
    for verb in ("hold", "export"):
        status, answer = await admin.post(f"/v1/queue/{verb}", document)
        assert status == 400
        assert answer["error"].startswith(told)
    assert audited(world) == []


async def test_what_is_no_json_is_400(admin: Client) -> None:
    async with admin.session.post("/v1/queue/hold", data=b"\xff{") as response:
        assert response.status == 400


async def test_actions_are_no_links(admin: Client) -> None:
    """Nobody changes the queue by following one."""
    assert (await admin.get("/v1/queue/delete"))[0] == 405


async def test_an_export_is_written_down_before_and_after(admin: Client, world: World) -> None:
    status, answer = await admin.post("/v1/queue/export", {**ALL, "to": "/srv/out"})

    assert status == 200
    assert answer["ids"] == ["Q0", "Q1", "Q2"]
    (requested,) = audited(world)
    assert (requested["verb"], requested["to"]) == ("export", "/srv/out")
    result = {"exported": 2, "damaged": 1, "gone": 0, "error": "a\nb"}
    document = {"request": answer["request"], "result": result}
    status, answer = await admin.post("/v1/queue/export/done", document)
    assert (status, answer["is_noted"]) == (200, True)
    done = audited(world)[1]
    assert done["request"] == requested["request"]
    assert done["result"] == {**result, "error": "a b"}
    (announced,) = world.announced
    assert (announced["verb"], announced["result"]) == ("export", done["result"])
    assert world.amended == []


async def test_an_export_of_nothing_is_not_written_down(admin: Client, world: World) -> None:
    world.ids = []
    _, answer = await admin.post("/v1/queue/export", ALL)

    assert (answer["matched"], answer["ids"]) == (0, [])
    assert audited(world) == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"request": "x", "result": {"exported": 1, "damaged": 0, "gone": 0}},
        {"request": "0011223344556677"},
        {"request": "0011223344556677", "result": []},
        {"request": "0011223344556677", "result": {"exported": 1, "damaged": 0}},
        {"request": "0011223344556677", "result": {"exported": -1, "damaged": 0, "gone": 0}},
        {"request": "0011223344556677", "result": {"exported": "1", "damaged": 0, "gone": 0}},
        {"request": "0011223344556677", "result": {"exported": 10**9, "damaged": 0, "gone": 0}},
    ],
)
async def test_an_odd_end_of_an_export_is_400(
    admin: Client, world: World, document: dict[str, Any]
) -> None:
    assert (await admin.post("/v1/queue/export/done", document))[0] == 400
    assert audited(world) == []
