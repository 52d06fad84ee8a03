"""The routes of the overrides: what is answered, what is written down, and what is refused."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from mailshed.admin import overrides
from mailshed.admin.audit import AuditError, Operator
from mailshed.control.overrides import OverrideKind, Wish
from mailshed.errors import RequestError, StateError
from mailshed.statefile import StateFile
from tests.unit.admin.conftest import Client, World

HOLD = {"kind": "hold", "class": "bulk", "seconds": 3600, "reason": "newsletter RH"}
ME = str(Operator.of(os.getuid(), os.getpid()))


def audited(world: World) -> list[dict[str, Any]]:
    if not world.audit.path.exists():
        return []
    return [json.loads(line) for line in world.audit.path.read_text().splitlines()]


class TestAsking:
    def test_a_wish_is_what_the_document_says(self) -> None:
        assert overrides.parse_wish({**HOLD, "reason": " because "}) == Wish(
            kind=OverrideKind.HOLD, traffic_class="bulk", seconds=3600.0, reason="because"
        )

    def test_two_hours_if_nothing_is_said(self) -> None:
        wish = overrides.parse_wish({"kind": "level", "value": 2, "reason": "x"})

        assert (wish.value, wish.seconds) == (2, 7200.0)

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"kind": "freeze"}, "kind: expected one of level, hold, limit, release"),
            ({"kind": ["hold"]}, "kind"),
            ({"value": "2"}, "value"),
            ({"value": True}, "value"),
            ({"value": 10**40}, "value"),
            ({"seconds": "2h"}, "seconds"),
            ({"seconds": False}, "seconds"),
            ({"seconds": 0}, "for"),
            ({"seconds": 1e12}, "for"),
            ({"seconds": float("nan")}, "for"),
            ({"seconds": 10**400}, "for"),
            ({"seconds": -(10**400)}, "for"),
            ({"reason": "  "}, "reason"),
            ({"reason": "a\nb"}, "reason"),
            ({"until": 3}, "expected an object with some of class, kind"),
        ],
    )
    def test_nonsense_is_refused(self, changes: dict[str, Any], fault: str) -> None:
        with pytest.raises(RequestError, match=f"^{fault}"):
            overrides.parse_wish({**HOLD, **changes})


class TestMaking:
    async def test_it_is_made_answered_and_written_down(self, admin: Client, world: World) -> None:
        status, answer = await admin.post("/v1/overrides", HOLD)

        assert status == 200
        assert world.keeper.current.held == {"bulk"}
        requested, done = audited(world)
        assert answer == {
            "schema": "mailshed.override/1",
            "is_observing": False,
            "override": {
                "id": 1,
                "kind": "hold",
                "traffic_class": "bulk",
                "value": 0,
                "user": ME,
                "reason": "newsletter RH",
                "since_wall": world.clock.wall(),
                "until_wall": world.clock.wall() + 3600,
                "left_seconds": 3600,
            },
            "replaced": None,
            "request": requested["request"],
            "is_noted": True,
        }
        assert (requested["event"], requested["verb"]) == ("requested", "override hold")
        assert (requested["uid"], requested["pid"]) == (os.getuid(), os.getpid())
        assert (requested["class"], requested["value"], requested["seconds"]) == ("bulk", 0, 3600)
        assert requested["reason"] == "newsletter RH"
        assert (done["event"], done["request"]) == ("done", requested["request"])
        assert done["result"] == {"override": 1, "error": ""}
        (override,) = world.keeper.current.in_force
        assert (override.user, override.request) == (ME, requested["request"])

    async def test_the_same_again_says_what_it_replaces(self, admin: Client) -> None:
        await admin.post("/v1/overrides", HOLD)
        _, answer = await admin.post("/v1/overrides", {**HOLD, "seconds": 60})

        assert (answer["override"]["id"], answer["replaced"]) == (2, 1)

    async def test_it_is_written_down_before_it_is_done(
        self, admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[list[dict[str, Any]]] = []
        add = world.keeper.add

        async def look(*args: Any, **options: Any) -> Any:
            seen.append(audited(world))
            return await add(*args, **options)

        monkeypatch.setattr(world.keeper, "add", look)
        await admin.post("/v1/overrides", HOLD)

        assert [[line["event"] for line in lines] for lines in seen] == [["requested"]]

    async def test_what_cannot_be_written_down_is_not_done(
        self, admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: object) -> None:
            raise AuditError("audit.log cannot be written: No space left on device")

        monkeypatch.setattr(world.audit, "append", refuse)
        status, answer = await admin.post("/v1/overrides", HOLD)

        assert status == 503
        assert "nothing was done" in answer["error"]
        assert not world.keeper.current.held

    async def test_what_is_refused_is_400_and_written_down_as_such(
        self, admin: Client, world: World
    ) -> None:
        status, answer = await admin.post("/v1/overrides", {**HOLD, "class": "clinical"})

        assert status == 400
        assert "rank 0" in answer["error"]
        _, done = audited(world)
        assert done["result"] == {"override": 0, "error": answer["error"]}

    async def test_nonsense_is_400_and_nothing_is_written(
        self, admin: Client, world: World
    ) -> None:
        documents: list[Any] = [None, [], {**HOLD, "seconds": 0}]
        for document in documents:
            assert (await admin.post("/v1/overrides", document))[0] == 400
        assert audited(world) == []

    async def test_what_cannot_be_saved_is_503_and_not_in_force(
        self, admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise StateError("overrides.json cannot be written: Input/output error")

        monkeypatch.setattr(StateFile, "save", refuse)
        status, answer = await admin.post("/v1/overrides", HOLD)

        assert status == 503
        assert answer["error"].startswith("nothing was changed: overrides.json")
        assert not world.keeper.current.held
        assert "Input/output" in audited(world)[1]["result"]["error"]

    async def test_what_takes_too_long_may_be_done_all_the_same(
        self, admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def hang(*_: object, **__: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(overrides, "DEADLINE", 0.01)
        monkeypatch.setattr(world.keeper, "add", hang)
        status, answer = await admin.post("/v1/overrides", HOLD)

        assert status == 503
        assert "look at `mailshed override list`" in answer["error"]
        assert audited(world)[1]["result"]["error"] == "it could not be saved within 0 s"

    async def test_a_patient_is_masked_in_logs_and_answers(
        self, admin: Client, world: World
    ) -> None:
        number = "190011234567890"
        reason = f"for {number}@patient.mssante.fr"
        _, answer = await admin.post("/v1/overrides", {**HOLD, "reason": reason})

        assert number not in json.dumps(answer)
        assert number not in world.audit.path.read_text()


class TestCancelling:
    async def test_it_ends_and_both_lines_say_which(self, admin: Client, world: World) -> None:
        await admin.post("/v1/overrides", HOLD)
        status, answer = await admin.post("/v1/overrides/cancel", {"id": 1, "reason": "sent"})

        assert status == 200
        assert not world.keeper.current.held
        assert (answer["cancelled"]["id"], answer["is_noted"]) == (1, True)
        *_, requested, done = audited(world)
        assert (requested["verb"], requested["override"]) == ("override cancel", 1)
        assert requested["reason"] == "sent"
        assert done["result"] == {"override": 1, "error": ""}

    @pytest.mark.parametrize(
        ("document", "fault"),
        [
            ({"id": 7, "reason": "x"}, "id: no override 7"),
            ({"id": "1", "reason": "x"}, "id"),
            ({"reason": "x"}, "id"),
            ({"id": 1}, "reason"),
            ({"id": 1, "reason": "x", "all": True}, "expected an object with some of id, reason"),
        ],
    )
    async def test_what_is_not_clear_is_400(
        self, admin: Client, world: World, document: dict[str, Any], fault: str
    ) -> None:
        await admin.post("/v1/overrides", HOLD)
        status, answer = await admin.post("/v1/overrides/cancel", document)

        assert status == 400
        assert answer["error"].startswith(fault)
        assert world.keeper.current.held


class TestListing:
    async def test_those_in_force_are_listed(self, admin: Client, world: World) -> None:
        await admin.post("/v1/overrides", HOLD)
        world.clock.advance(60)
        status, answer = await admin.get_json("/v1/overrides")

        assert status == 200
        assert (answer["schema"], answer["is_observing"]) == ("mailshed.overrides/1", False)
        (override,) = answer["overrides"]
        assert (override["id"], override["left_seconds"]) == (1, 3540)

    async def test_the_metrics_port_has_no_such_routes(self, public: Client) -> None:
        assert (await public.get("/v1/overrides"))[0] == 404
        assert (await public.post("/v1/overrides", HOLD))[0] == 404


async def test_while_observing_they_are_kept_and_the_answer_says_that_they_do_not_act(
    admin: Client, world: World
) -> None:
    snapshot = world.holder.current
    assert snapshot is not None
    world.holder.swap(replace(snapshot, is_observing=True))

    _, answer = await admin.post("/v1/overrides", HOLD)
    assert answer["is_observing"]
    assert world.keeper.current.held == {"bulk"}
    _, answer = await admin.get_json("/v1/overrides")
    assert answer["is_observing"]


async def test_an_outcome_that_cannot_be_written_down_is_said(
    admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    append: Callable[[Any], None] = world.audit.append

    def refuse_the_second(entry: dict[str, Any]) -> None:
        if entry["event"] == "done":
            raise AuditError("audit.log cannot be written")
        append(entry)

    monkeypatch.setattr(world.audit, "append", refuse_the_second)
    status, answer = await admin.post("/v1/overrides", HOLD)

    assert (status, answer["is_noted"]) == (200, False)
    assert world.keeper.current.held
    assert len(world.failures) == 1


async def test_a_client_that_leaves_does_not_end_its_change(
    admin: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    add: Callable[..., Awaitable[Any]] = world.keeper.add

    async def wait(*args: Any, **options: Any) -> Any:
        begun.set()
        await go_on.wait()
        made = await add(*args, **options)
        ended.set()
        return made

    monkeypatch.setattr(world.keeper, "add", wait)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(admin.post("/v1/overrides", HOLD))
        await begun.wait()
        asking.cancel()
    go_on.set()
    async with asyncio.timeout(30):
        await ended.wait()
    assert world.keeper.current.held == {"bulk"}
