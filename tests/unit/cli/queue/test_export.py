"""`queue export`: the files, the books, and the ways in which it can go wrong."""

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mailshed.admin.audit import AuditError, AuditLog
from mailshed.cli.exit_codes import ExitCode
from mailshed.spool.schema import DATABASE
from mailshed.spool.store import SpoolRecord
from tests.support.builders import BULK, spool_record
from tests.unit.cli.conftest import ScriptedService
from tests.unit.cli.queue.conftest import CONTENT, fill, queue

WHY = ("--reason", "for the court")
UNSTUFFED = CONTENT.replace(b"\r\n..", b"\r\n.")
REQUEST = "0011223344556677"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def stored(offline: ScriptedService) -> list[SpoolRecord]:
    """Two messages in the spool."""
    records = [spool_record(names=BULK), spool_record()]
    fill(offline.config.parent / "spool", *records)
    return records


def damage(offline: ScriptedService, record: SpoolRecord) -> None:
    with closing(sqlite3.connect(offline.config.parent / "spool" / DATABASE)) as connection:
        connection.execute(
            "UPDATE chunk SET octets = x'00' WHERE chunk_id >> 16 ="
            " (SELECT message_id FROM message WHERE queue_id = ?)",
            (record.queue_id,),
        )
        connection.commit()


def audited(service: ScriptedService) -> list[dict[str, Any]]:
    log = service.config.parent / "spool/audit.log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_without_the_service_it_keeps_the_books_itself(
    offline: ScriptedService,
    stored: list[SpoolRecord],
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert queue(offline, "export", "--all", "--to", str(out), *WHY) == ExitCode.OK

    captured = capsys.readouterr()
    assert captured.out == f"2 messages exported to {out}\n"
    assert "without it" in captured.err
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    for record in stored:
        assert (out / f"{record.queue_id}.eml").read_bytes() == UNSTUFFED
        envelope = json.loads((out / f"{record.queue_id}.json").read_text())
        assert envelope["class"] == record.traffic_class
    requested, done = audited(offline)
    assert (requested["verb"], requested["to"], requested["reason"]) == (
        "export",
        str(out),
        "for the court",
    )
    assert set(requested["ids"]) == {record.queue_id for record in stored}
    assert done["request"] == requested["request"]
    assert done["result"] == {"exported": 2, "damaged": 0, "gone": 0, "error": ""}


def test_with_the_service_it_is_the_service_that_keeps_them(
    service: ScriptedService, stored: list[SpoolRecord], out: Path
) -> None:
    ids = [stored[0].queue_id, "GONE"]
    service.answer("/v1/queue/export", {"matched": 2, "ids": ids, "request": REQUEST})
    service.answer("/v1/queue/export/done", {})

    arguments = ("--class", "bulk", "--to", str(out), *WHY, "--max", "5")
    assert queue(service, "export", *arguments) == ExitCode.OK
    (path, asked), (path_after, done) = service.posted
    assert (path, path_after) == ("/v1/queue/export", "/v1/queue/export/done")
    assert (asked["filter"], asked["to"], asked["max"]) == ({"class": ["bulk"]}, str(out), 5)
    assert done == {
        "request": REQUEST,
        "result": {"exported": 1, "damaged": 0, "gone": 1, "error": ""},
    }
    assert {path.name for path in out.iterdir()} == {f"{ids[0]}.eml", f"{ids[0]}.json"}
    assert audited(service) == []


def test_as_json(
    offline: ScriptedService,
    stored: list[SpoolRecord],
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(offline, stored[0])

    arguments = ("--all", "--to", str(out), *WHY, "--json")
    assert queue(offline, "export", *arguments) == ExitCode.DATA
    assert json.loads(capsys.readouterr().out) == {
        "schema": "mailshed.queue-export/1",
        "is_dry_run": False,
        "to": str(out),
        "matched": 2,
        "exported": 1,
        "gone": 0,
        "damaged": [
            {
                "queue_id": stored[0].queue_id,
                "damage": f"the last {len(CONTENT) - 1} octets are missing",
            }
        ],
    }


def test_what_is_damaged_is_named_and_taken_only_if_asked_for(
    offline: ScriptedService,
    stored: list[SpoolRecord],
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(offline, stored[0])
    identity = stored[0].queue_id

    assert queue(offline, "export", identity, "--to", str(out), *WHY) == ExitCode.DATA
    assert capsys.readouterr().out.splitlines() == [
        f"0 messages exported to {out}",
        "1 message damaged, skipped; --damaged takes them:",
        f"    {identity}: the last {len(CONTENT) - 1} octets are missing",
    ]
    assert list(out.iterdir()) == []
    assert audited(offline)[1]["result"]["damaged"] == 1
    arguments = ("--damaged", "--to", str(out), *WHY)
    assert queue(offline, "export", identity, *arguments) == ExitCode.OK
    assert "exported as far as they can be read" in capsys.readouterr().out
    assert (out / f"{identity}.eml").read_bytes() == b"\0"


def test_nothing_is_overwritten_and_nothing_written_beside_it(
    offline: ScriptedService,
    stored: list[SpoolRecord],
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out.mkdir()
    taken = out / f"{stored[1].queue_id}.json"
    taken.write_text("precious")

    assert queue(offline, "export", "--all", "--to", str(out), *WHY) == ExitCode.IO_ERROR
    assert f"nothing is overwritten: '{taken}'" in capsys.readouterr().err
    assert list(out.iterdir()) == [taken]
    assert taken.read_text() == "precious"
    assert "nothing is overwritten" in audited(offline)[1]["result"]["error"]


def test_a_folder_that_cannot_be_made_is_told_and_noted(
    offline: ScriptedService,
    stored: list[SpoolRecord],
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert queue(offline, "export", "--all", "--to", str(out / "a/b"), *WHY) == ExitCode.IO_ERROR
    assert "No such file or directory" in capsys.readouterr().err
    assert "No such file" in audited(offline)[1]["result"]["error"]


def test_a_dry_run_writes_nothing(
    offline: ScriptedService,
    stored: list[SpoolRecord],
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert queue(offline, "export", "--all", "--to", str(out), "--dry-run") == ExitCode.OK
    assert capsys.readouterr().out == "2 messages would be exported\n"
    arguments = ("--state", "hold", "--to", str(out), "--dry-run")
    assert queue(offline, "export", *arguments) == ExitCode.NO_MATCH
    assert not out.exists()
    assert audited(offline) == []


def test_what_matches_nothing_exits_1_and_makes_no_folder(
    offline: ScriptedService,
    stored: list[SpoolRecord],
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert queue(offline, "export", "a", "--to", str(out), *WHY) == ExitCode.NO_MATCH
    assert capsys.readouterr().out == "no message matches\n"
    assert not out.exists()
    assert audited(offline) == []


def test_more_than_allowed_are_not_exported(
    offline: ScriptedService,
    stored: list[SpoolRecord],
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("--all", "--to", str(out), *WHY, "--max", "1")
    assert queue(offline, "export", *arguments) == ExitCode.USAGE
    assert "more than 1 messages match, so nothing was done" in capsys.readouterr().err
    assert not out.exists()


def test_what_cannot_be_noted_is_not_exported(
    offline: ScriptedService,
    stored: list[SpoolRecord],
    out: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AuditError("audit.log cannot be written: Read-only file system")

    monkeypatch.setattr(AuditLog, "append", refuse)
    assert queue(offline, "export", "--all", "--to", str(out), *WHY) == ExitCode.IO_ERROR
    assert "nothing was exported: audit.log cannot be written" in capsys.readouterr().err
    assert not out.exists()


def test_an_end_that_cannot_be_noted_is_told(
    service: ScriptedService,
    stored: list[SpoolRecord],
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = [stored[0].queue_id]
    service.answer("/v1/queue/export", {"matched": 1, "ids": ids, "request": REQUEST})
    service.answer("/v1/queue/export/done", {"error": "full"}, 503)

    assert queue(service, "export", *ids, "--to", str(out), *WHY) == ExitCode.OK
    captured = capsys.readouterr()
    assert captured.out == f"1 message exported to {out}\n"
    assert "the audit log has only that the export was asked for" in captured.err


def test_a_spool_that_nobody_names_cannot_be_exported(
    service: ScriptedService, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.config.write_text(f"admin: {{socket: {service.socket}}}\n")

    assert queue(service, "export", "--all", "--to", str(out), *WHY) == ExitCode.CONFIG
    assert "give --config" in capsys.readouterr().err
    assert service.posted == []
