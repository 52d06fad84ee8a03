import json
import os
import sys

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


CAUSE = "connect: " + "no route to host " * 12 + "at all"
AWAY = {**STATUS, "backends": [{"name": "b", "target": "x" * 60 + ":25", "last_error": CAUSE}]}


def test_nothing_is_cut_in_a_pipe(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/status", AWAY)

    assert main(["status", "--config", str(service.config)]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    (cut,) = [number for number, line in enumerate(lines) if "x" * 60 + ":25" in line]
    assert lines[cut + 1].endswith(CAUSE)


@pytest.mark.parametrize(("columns", "width"), [(40, 80), (80, 80), (120, 120)])
def test_a_terminal_is_filled_and_one_that_is_narrow_counts_as_80(
    columns: int,
    width: int,
    service: ScriptedService,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service.answer("/v1/status", AWAY)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(
        "shutil.get_terminal_size", lambda *_, **__: os.terminal_size((columns, 24))
    )

    assert main(["status", "--config", str(service.config)]) == ExitCode.OK
    longest = max(map(len, capsys.readouterr().out.splitlines()))
    assert width - 12 < longest <= width


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
