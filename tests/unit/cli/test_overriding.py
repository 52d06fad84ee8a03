"""What the verbs about overrides share: the words that people read, and the end by their clock."""

import time
from typing import Any

import pytest

from mailshed.cli import overriding

NOON = 1_795_258_800.0  # 2026-11-21 11:00:00 UTC


def override(**changes: Any) -> dict[str, Any]:
    """One override, as the service tells it."""
    return {
        "id": 7,
        "kind": "hold",
        "traffic_class": "bulk",
        "value": 0,
        "user": "dupont",
        "reason": "newsletter RH",
        "since_wall": NOON - 3600,
        "until_wall": NOON + 3600,
        "left_seconds": 3600.0,
        **changes,
    }


@pytest.fixture
def _paris_at_noon(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    now = time.localtime
    monkeypatch.setattr(time, "localtime", lambda *given: now(*given) if given else now(NOON))
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "mail of class bulk is accepted and stays in the spool"),
        ({"kind": "limit", "value": 3}, "mail of class bulk has 3 slots of the backend at most"),
        ({"kind": "limit", "value": 1}, "mail of class bulk has 1 slot of the backend at most"),
        ({"kind": "release"}, "mail of class bulk is not kept back by load, quotas or a forced"),
        ({"kind": "level", "value": 2}, "the shed level is 2, whatever the load"),
        ({"kind": "level", "value": 0}, "the shed level is 0, whatever the load: no class"),
        ({"kind": "freeze", "value": 2}, "freeze bulk 2"),
    ],
)
def test_what_it_does_is_said_in_a_sentence(changes: dict[str, Any], told: str) -> None:
    assert overriding.describe(override(**changes)).startswith(told)


@pytest.mark.usefixtures("_paris_at_noon")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "13:00 (in 1h)"),
        ({"left_seconds": 3599.97}, "13:00 (in 1h)"),
        ({"until_wall": NOON + 86400, "left_seconds": 86400}, "2026-11-22 12:00 (in 1d)"),
    ],
)
def test_the_end_is_by_the_clock_on_the_wall(changes: dict[str, Any], told: str) -> None:
    assert overriding.until(override(**changes)) == told


@pytest.mark.usefixtures("_paris_at_noon")
def test_the_list_has_who_and_why() -> None:
    others = {"id": 12, "kind": "level", "traffic_class": "", "value": 3, "reason": "patch night"}

    assert list(overriding.listing([override(), override(**others)])) == [
        "ID  WHAT       UNTIL",
        " 7  hold bulk  13:00 (in 1h)",
        "        dupont: newsletter RH",
        "12  level 3    13:00 (in 1h)",
        "        dupont: patch night",
    ]


def test_an_empty_list_has_no_title() -> None:
    assert list(overriding.listing([])) == []
