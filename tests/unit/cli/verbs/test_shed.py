"""`mailshed shed`: which level is in force, forcing one, and letting the load decide again."""

import json
from typing import Any

import pytest

from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.main import main
from tests.unit.cli.conftest import ScriptedService
from tests.unit.cli.test_overriding import override

FORCED = override(kind="level", traffic_class="", value=3, reason="patch night")
STATUS = {"shed_level": 3, "derived_level": 1, "is_observing": False, "overrides": [FORCED]}


def run(service: ScriptedService, *words: str) -> int:
    return main(["shed", *words, "--config", str(service.config)])


def answer(**changes: Any) -> dict[str, Any]:
    made = {"override": FORCED, "replaced": None, "is_observing": False, "is_noted": True}
    return {**made, **changes}


def test_a_forced_level_is_shown_with_what_it_would_be(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/status", STATUS)

    assert run(service, "status") == ExitCode.OK
    first, _, _, last = capsys.readouterr().out.splitlines()
    assert first == "level 3 of 4, forced; by the load it would be 1"
    assert last == "        dupont: patch night"


def test_a_derived_level_is_shown_as_such(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/status", {**STATUS, "shed_level": 1, "overrides": [override()]})

    assert run(service, "status") == ExitCode.OK
    assert capsys.readouterr().out == "level 1 of 4, by the load\n"


def test_the_classes_that_wait_are_named_whatever_the_level(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = [
        {"name": "personal", "kept_back": ""},
        {"name": "telework", "kept_back": "diverted"},
        {"name": "bulk", "kept_back": "override"},
    ]
    service.answer(
        "/v1/status", {**STATUS, "derived_level": 0, "overrides": [], "classes": classes}
    )

    assert run(service, "status") == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == [
        "level 0 of 4, by the load",
        "new mail waits in the spool: telework, bulk",
    ]


def test_the_level_as_json(service: ScriptedService, capsys: pytest.CaptureFixture[str]) -> None:
    service.answer("/v1/status", STATUS)

    assert run(service, "status", "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == {
        "schema": "mailshed.shed/1",
        "level": 3,
        "derived_level": 1,
        "is_observing": False,
        "override": FORCED,
    }


def test_while_observing_no_level_acts(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/status", {**STATUS, "is_observing": True})

    run(service, "status")
    assert capsys.readouterr().out.endswith("the service observes: no level acts on anything\n")


def test_a_level_is_forced(service: ScriptedService, capsys: pytest.CaptureFixture[str]) -> None:
    service.answer("/v1/overrides", answer())

    assert run(service, "level", "3", "--for", "30m", "--reason", "patch night") == ExitCode.OK
    document = {"kind": "level", "class": "", "value": 3, "seconds": 1800.0}
    assert service.posted == [("/v1/overrides", {**document, "reason": "patch night"})]
    assert capsys.readouterr().out.startswith("override 7: the shed level is 3, whatever the load")


@pytest.mark.parametrize("level", ["5", "-1", "two"])
def test_there_are_five_levels(
    offline: ScriptedService, capsys: pytest.CaptureFixture[str], level: str
) -> None:
    assert run(offline, "level", level, "--reason", "x") == ExitCode.USAGE
    assert "level" in capsys.readouterr().err


def test_auto_ends_the_forced_level_and_no_other_override(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/overrides", {"overrides": [override(id=2), FORCED]})
    service.answer("/v1/overrides/cancel", {"cancelled": FORCED, "is_noted": True})

    assert run(service, "auto", "--reason", "patched") == ExitCode.OK
    assert service.posted == [("/v1/overrides/cancel", {"id": 7, "reason": "patched"})]
    assert capsys.readouterr().out == "override 7 is ended: level 3 (dupont)\n"


def test_auto_without_a_forced_level_has_nothing_to_do(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/overrides", {"overrides": [override()]})

    assert run(service, "auto", "--reason", "patched") == ExitCode.NO_MATCH
    assert service.posted == []
    assert "no level is forced" in capsys.readouterr().out
