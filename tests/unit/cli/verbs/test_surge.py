import json
from typing import Any

import pytest

from mailshed.admin.status import status_document
from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.main import main
from tests.support.snapshots import busy_snapshot
from tests.unit.cli.conftest import ScriptedService

STATUS = status_document(busy_snapshot(), 1000.1)
ADOPTED = {
    "schema": "mailshed.surge/1",
    "class": "telework",
    "adopted": [{"network": "", "factor": 2.04}, {"network": "vpn", "factor": 2.2}],
    "request": "77aa",
    "is_noted": True,
}


def calm(status: dict[str, Any]) -> dict[str, Any]:
    surges = [{**each, "is_alarm": False} for each in status["surges"]]
    return {**status, "surges": surges}


def test_lists_classes_and_the_networks_that_have_mail(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/status", STATUS)

    assert main(["surge", "list", "--config", str(service.config)]) == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == [
        "CLASS        NETWORK  LAST 30 MIN  OF USUAL  SURGE",
        "clinical                      100      1.0x  -",
        "continuity                    100      1.0x  -",
        "personal                      100      1.0x  -",
        "calendar                      100      1.0x  -",
        "application                   100      1.0x  -",
        "telework                      100      2.1x  for 14m",
        "             vpn               90      2.2x  for 13m",
        "             other             10      1.0x  -",
        "bulk                          100      1.0x  -",
        "extra                         100         ?  -",
    ]


def test_without_a_surge_a_script_can_tell(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/status", calm(STATUS))

    assert main(["surge", "list", "--config", str(service.config)]) == ExitCode.NO_MATCH
    assert "in the last days" in capsys.readouterr().out


@pytest.mark.parametrize("status", [{"schema": "mailshed.status/1"}, {**STATUS, "surges": []}])
def test_switched_off_it_says_so(
    status: dict[str, Any], service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/status", status)

    assert main(["surge", "list", "--config", str(service.config)]) == ExitCode.NO_MATCH
    assert capsys.readouterr().out == "surges are not watched: surge.enabled is false\n"


def test_passes_the_list_on_as_json(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/status", STATUS)

    assert main(["surge", "list", "--json", "--config", str(service.config)]) == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "mailshed.surges/1"
    assert document["surges"] == json.loads(json.dumps(STATUS["surges"]))


def adopt(service: ScriptedService, *more: str) -> int:
    words = ["surge", "adopt", "telework", "--reason", "at home now", *more]
    return main([*words, "--config", str(service.config)])


def test_a_surge_is_adopted(service: ScriptedService, capsys: pytest.CaptureFixture[str]) -> None:
    service.answer("/v1/surges/adopt", ADOPTED)

    assert adopt(service) == ExitCode.OK
    assert service.posted == [("/v1/surges/adopt", {"class": "telework", "reason": "at home now"})]
    assert capsys.readouterr().out.splitlines() == [
        "telework: usual is 2.04 times what it was",
        "telework from vpn: usual is 2.20 times what it was",
    ]
    assert adopt(service, "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == ADOPTED


def test_a_line_that_the_audit_log_lacks_is_said(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/surges/adopt", {**ADOPTED, "is_noted": False})

    assert adopt(service) == ExitCode.OK
    assert "the audit log has only that it was asked for" in capsys.readouterr().err


def test_a_refusal_is_a_usage_error(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/surges/adopt", {"error": "there is nothing to adopt"}, 400)

    assert adopt(service) == ExitCode.USAGE
    assert "there is nothing to adopt" in capsys.readouterr().err


def test_it_needs_the_service(offline: ScriptedService, capsys: pytest.CaptureFixture[str]) -> None:
    assert adopt(offline) == ExitCode.UNAVAILABLE
    assert "start it first" in capsys.readouterr().err


def test_it_needs_a_reason(service: ScriptedService) -> None:
    asked = ["surge", "adopt", "telework", "--config", str(service.config)]

    assert main(asked) == ExitCode.USAGE
    assert service.posted == []
