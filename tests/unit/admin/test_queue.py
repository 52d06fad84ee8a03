"""The routes that show the queue: what they ask the spool for, and what they refuse."""

import json

import pytest

from mailshed.admin.queue import SHOW_MAX
from mailshed.metrics import SnapshotHolder
from mailshed.spool.filter import EVERYTHING, QueueFilter
from mailshed.terms import QueueId, SpoolState
from tests.unit.admin.conftest import Client, World


async def test_the_queue_is_listed_with_patients_masked(admin: Client, world: World) -> None:
    status, text = await admin.get("/v1/queue?class=bulk&limit=7")

    assert status == 200
    assert world.asked == [(QueueFilter(classes=("bulk",)), 7)]
    document = json.loads(text)
    assert document["schema"] == "mailshed.queue/1"
    assert document["messages"][0]["recipients"][0]["address"] == "***@patient.mssante.fr"
    assert "189027512345678" not in text


async def test_every_condition_is_a_parameter(admin: Client, world: World) -> None:
    query = (
        *(("class", "bulk"), ("class", "clinical"), ("state", "hold,queued"), ("from", "<>")),
        *(("rcpt", "@x.example"), ("older-than", "1h"), ("younger-than", "2h"), ("id", "a")),
    )

    assert (await admin.get_json("/v1/queue", query))[0] == 200
    assert (await admin.get_json("/v1/queue/count", query))[0] == 200
    wanted = QueueFilter(
        classes=("bulk", "clinical"),
        states=(SpoolState.HOLD, SpoolState.QUEUED),
        senders=("<>",),
        recipients=("@x.example",),
        older_than=3600.0,
        younger_than=7200.0,
        ids=(QueueId("A"),),
    )
    assert world.asked == [(wanted, 100), (wanted,)]


@pytest.mark.parametrize("limit", ["0", "-1", "x", "", "10001", "٣", "9" * 50, "1e3"])
async def test_a_senseless_limit_is_400(admin: Client, world: World, limit: str) -> None:
    answer = await admin.get_json("/v1/queue", {"limit": limit})

    assert answer == (400, {"error": "limit must be a number from 1 to 10000"})
    assert world.asked == []


@pytest.mark.parametrize("path", ["/v1/queue", "/v1/queue/count"])
@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"state": "held"}, "state: 'held' is no state"),
        ({"from": "nobody"}, "from: expected an address"),
        ({"subject": "x"}, "subject: no such parameter"),
        ({"class": "x", "classes": "y"}, "classes: no such parameter"),
        ({"class": "nonsense"}, "class: no such class: nonsense; configured: clinical, continu"),
    ],
)
async def test_what_cannot_be_understood_is_400(
    admin: Client, world: World, path: str, query: dict[str, str], told: str
) -> None:
    status, document = await admin.get_json(path, query)

    assert status == 400
    assert document["error"].startswith(told)
    assert world.asked == []


async def test_before_the_first_snapshot_nobody_knows_the_classes(world: World) -> None:
    world.holder = SnapshotHolder()
    async with world.serving() as client:
        assert (await client.get_json("/v1/queue/count?class=nonsense"))[0] == 200
    assert world.asked == [(QueueFilter(classes=("nonsense",)),)]


async def test_the_queue_is_counted(admin: Client, world: World) -> None:
    status, document = await admin.get_json("/v1/queue/count")

    assert status == 200
    assert document == {
        "schema": "mailshed.queue-count/1",
        "classes": [{"class": "bulk", "state": "queued", "messages": 3}],
    }
    assert world.asked == [(EVERYTHING,)]


async def test_single_messages_are_shown_with_patients_masked(admin: Client, world: World) -> None:
    status, document = await admin.get_json("/v1/queue/show?id=q1,q2")

    assert status == 200
    assert document == {
        "schema": "mailshed.queue-show/1",
        "messages": [
            {"queue_id": "Q1", "sender": "***@patient.mssante.fr"},
            {"queue_id": "Q2", "sender": "***@patient.mssante.fr"},
        ],
    }
    assert (await admin.get_json("/v1/queue/show?id=q1&headers=1"))[0] == 200
    assert world.asked == [(("Q1", "Q2"), False), (("Q1",), True)]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"class": "bulk"},
        {"id": "Q1", "class": "bulk"},
        {"id": ",".join(str(number) for number in range(SHOW_MAX + 1))},
    ],
)
async def test_only_a_bounded_number_of_named_messages_is_shown(
    admin: Client, world: World, query: dict[str, str]
) -> None:
    status, document = await admin.get_json("/v1/queue/show", query)

    assert status == 400
    assert document["error"] == "id: expected from 1 to 100 queue ids and nothing else"
    assert world.asked == []
