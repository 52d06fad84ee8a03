"""`mailshed override`: the list, with the service and without it, and ending one."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from mailshed.admin.keeper import FILE_NAME
from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.main import main
from mailshed.control.override_document import to_document
from mailshed.control.overrides import OverrideKind, Overrides, Wish
from mailshed.statefile import StateFile
from tests.support.builders import CLASSES
from tests.support.spools import sqlite_spool
from tests.unit.cli.conftest import ScriptedService
from tests.unit.cli.test_overriding import override


def run(service: ScriptedService, *words: str) -> int:
    return main(["override", *words, "--config", str(service.config)])


def listed(*overrides: dict[str, Any], **changes: Any) -> dict[str, Any]:
    document = {"schema": "mailshed.overrides/1", "is_observing": False}
    return {**document, "overrides": list(overrides), **changes}


def test_those_in_force_are_listed(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/overrides", listed(override()))

    assert run(service, "list") == ExitCode.OK
    assert " 7  hold bulk" in capsys.readouterr().out


def test_the_list_as_json_is_the_services_word(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/overrides", listed(override()))

    assert run(service, "list", "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == listed(override())


def test_none_is_an_answer_of_its_own(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/overrides", listed())

    assert run(service, "list") == ExitCode.NO_MATCH
    assert capsys.readouterr().out == "no override is in force\n"


def test_while_observing_the_list_says_so(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/overrides", listed(override(), is_observing=True))

    run(service, "list")
    assert capsys.readouterr().out.endswith("the service observes: they act on nothing\n")


async def make_spool(folder: Path, seconds: float) -> None:
    """A spool whose service was killed after two overrides, one of `seconds`, one of a minute."""
    spool = sqlite_spool(folder)
    await spool.open()
    await spool.close()
    overrides, wall = Overrides(), time.time() - 120
    for kind, name, lasts in (
        (OverrideKind.HOLD, "bulk", seconds),
        (OverrideKind.HOLD, "telework", 60),
    ):
        wish = Wish(kind=kind, traffic_class=name, seconds=lasts, reason="newsletter RH")
        added = overrides.add(wish, CLASSES, user="dupont", request="", now=0.0, wall=wall)
        overrides = added.overrides
    StateFile(folder, FILE_NAME).save(to_document(overrides))


async def test_without_the_service_the_file_says_what_will_be_in_force(
    offline: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    await make_spool(offline.config.parent / "spool", 3600)

    assert run(offline, "list", "--json") == ExitCode.OK
    out, err = capsys.readouterr()
    (only,) = json.loads(out)["overrides"]
    assert (only["id"], only["kind"], only["traffic_class"]) == (1, "hold", "bulk")
    assert (only["user"], only["reason"]) == ("dupont", "newsletter RH")
    assert 3400 < only["left_seconds"] <= 3480
    assert "reading the spool" in err


async def test_without_the_service_and_without_a_file_there_is_none(
    offline: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    await make_spool(offline.config.parent / "spool", 3600)
    (offline.config.parent / "spool/overrides.json").unlink()

    assert run(offline, "list") == ExitCode.NO_MATCH
    assert "no override is in force" in capsys.readouterr().out


async def test_a_damaged_file_is_an_error(
    offline: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    await make_spool(offline.config.parent / "spool", 3600)
    (offline.config.parent / "spool/overrides.json").write_text("{}")

    assert run(offline, "list") == ExitCode.IO_ERROR
    assert "make no sense" in capsys.readouterr().err


def test_cancelling_says_what_has_ended(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/overrides/cancel", {"cancelled": override(), "is_noted": True})

    assert run(service, "cancel", "7", "--reason", " sent ") == ExitCode.OK
    assert service.posted == [("/v1/overrides/cancel", {"id": 7, "reason": "sent"})]
    assert capsys.readouterr().out == "override 7 is ended: hold bulk (dupont)\n"


@pytest.mark.parametrize("typed", ["all", "-1", "0", "7x", "\u0667"])
def test_a_number_is_needed(
    service: ScriptedService, capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    assert run(service, "cancel", typed, "--reason", "x") == ExitCode.USAGE
    assert service.posted == []
    assert "mailshed override" in capsys.readouterr().err


def test_a_reason_is_needed(service: ScriptedService, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(service, "cancel", "7") == ExitCode.USAGE
    assert "--reason" in capsys.readouterr().err
    assert service.posted == []


def test_without_the_service_nothing_can_be_ended(
    offline: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(offline, "cancel", "7", "--reason", "x") == ExitCode.UNAVAILABLE
    assert "start it first" in capsys.readouterr().err


def test_what_the_service_refuses_is_passed_on(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/overrides/cancel", {"error": "id: no override 7 is in force"}, 400)

    assert run(service, "cancel", "7", "--reason", "x") == ExitCode.USAGE
    assert capsys.readouterr().err == "mailshed: id: no override 7 is in force\n"
