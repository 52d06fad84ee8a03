"""Who is asked, who is read instead, and that no patient is named by either."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mailshed.cli.client import ServiceDown, get
from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.places import ServicePlaces
from mailshed.cli.queue.source import (
    ask_or_read,
    entries,
    masked,
    masked_everywhere,
    require_readable,
    require_spool,
)
from mailshed.spool.schema import DATABASE
from tests.unit.cli.conftest import ScriptedService
from tests.unit.cli.queue.conftest import NUMBER, PATIENT, fill, message, queue

ROOT = Path(__file__).parents[4]


def typed(service: ScriptedService) -> argparse.Namespace:
    return argparse.Namespace(config=service.config, socket=None)


def test_the_service_is_asked_first(service: ScriptedService) -> None:
    service.answer("/x", {"n": 1})
    answer = ask_or_read(
        typed(service), lambda socket: get(socket, "/x"), lambda _: pytest.fail("read")
    )

    assert answer == {"n": 1}


def test_without_it_the_spool_is_read_and_that_is_said_once(
    offline: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = offline.config.parent / "spool"
    for is_quiet in (False, True):
        read = ask_or_read(
            typed(offline), lambda socket: get(socket, "/x"), lambda path: path, is_quiet=is_quiet
        )
        assert read == spool

    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("mailshed: no socket at")
    assert lines[1:] == [f"mailshed: reading the spool at {spool} instead"]


def test_a_service_that_is_down_and_a_spool_that_nobody_knows(offline: ScriptedService) -> None:
    places = argparse.Namespace(config=Path("/nonexistent"), socket=offline.socket)
    with pytest.raises(ServiceDown):
        ask_or_read(places, lambda socket: get(socket, "/x"), lambda _: pytest.fail("read"))
    with pytest.raises(VerbFailed, match="only a configuration file names: give --config"):
        require_spool(ServicePlaces(socket=offline.socket, spool=None))


@pytest.mark.skipif(os.geteuid() != 0, reason="a process of root gives up its rights")
def test_a_spool_of_somebody_else_is_no_permission(tmp_path: Path) -> None:
    fill(tmp_path / "spool")
    code = (
        "import os, sys; from pathlib import Path\n"
        "from mailshed.cli.exit_codes import VerbFailed\n"
        "from mailshed.cli.queue.source import require_readable\n"
        "from mailshed.spool import schema\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: require_readable(Path(sys.argv[1]))\n"
        "except VerbFailed as error: print(int(error.code), error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "spool")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{int(ExitCode.NO_PERMISSION)} no permission for the spool at")


def test_what_can_be_read_or_is_not_there_is_left_to_the_reader(tmp_path: Path) -> None:
    require_readable(tmp_path)
    (tmp_path / DATABASE).touch()
    require_readable(tmp_path)
    assert require_spool(ServicePlaces(socket=tmp_path / "s", spool=tmp_path)) == tmp_path


def test_entries_are_a_list_whatever_was_answered() -> None:
    assert entries({"messages": [{"a": 1}]}, "messages") == [{"a": 1}]
    assert entries({"messages": None}, "messages") == []
    assert entries({}, "messages") == []


def test_patients_are_masked_at_any_depth() -> None:
    recipient = {"address": PATIENT, "state": "queued", "last_reply": f"550 {NUMBER} unknown"}
    shown = masked(message(sender=PATIENT, recipients=[recipient]))
    assert NUMBER not in str(shown)
    headers = [{"name": "received", "value": f"for <{PATIENT}>"}, {"n": 1, "x": None}]
    assert masked_everywhere({"headers": headers}) == {
        "headers": [
            {"name": "received", "value": "for <***@patient.mssante.fr>"},
            {"n": 1, "x": None},
        ]
    }


def test_somebody_who_may_not_read_the_spool_is_told_so_by_the_verb(
    offline: ScriptedService,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(offline.config.parent / "spool")
    plain = Path.open

    def refuse(path: Path, mode: str = "r") -> object:
        if path.name == DATABASE:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, mode)

    monkeypatch.setattr(Path, "open", refuse)
    assert queue(offline, "list") == ExitCode.NO_PERMISSION
    assert "as root or as the service's user" in capsys.readouterr().err
