import json

import pytest

from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.main import main
from tests.unit.cli.conftest import ScriptedService

STATUS = {"schema": "mailshed.status/1", "hostname": "mx1.example.org", "version": "9.9.9"}


def test_shows_a_screen(service: ScriptedService, capsys: pytest.CaptureFixture[str]) -> None:
    service.answer("/v1/status", STATUS)

    assert main(["status", "--config", str(service.config)]) == ExitCode.OK
    output = capsys.readouterr().out
    assert output.startswith("mailshed ")
    assert "mx1" in output
    assert all(len(line) <= 80 for line in output.splitlines())


def test_passes_the_document_on_as_json(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/status", STATUS)

    assert main(["status", "--config", str(service.config), "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == STATUS


def test_says_which_socket_and_what_to_check_when_the_service_is_down(
    offline: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--config", str(offline.config)]) == ExitCode.UNAVAILABLE

    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"no socket at {offline.socket}" in captured.err
    assert "systemctl status mailshed" in captured.err
