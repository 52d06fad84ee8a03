"""The audit log: what is in a line, that it is on disk in time, and that the file stays bounded."""

import fcntl
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailshed.admin import audit
from mailshed.admin.audit import (
    Action,
    AuditError,
    AuditLog,
    Operator,
    done,
    override_ended,
    override_requested,
)
from mailshed.control.overrides import Overrides
from mailshed.spool.filter import EVERYTHING, QueueFilter
from mailshed.terms import QueueId, SpoolState
from tests.support.builders import CLASSES, WALL
from tests.support.overrides import hold

ROOT = Path(__file__).parents[3]
ALICE = Operator(uid=1000, pid=4711, name="alice")
NUMBER = "190011234567890"


def action(**changes: Any) -> Action:
    made: dict[str, Any] = {
        "operator": ALICE,
        "verb": "hold",
        "wanted": QueueFilter(classes=("bulk",), states=(SpoolState.QUEUED,)),
        "ids": [QueueId("A"), QueueId("B")],
        "reason": "because",
        "request": "00112233aabbccdd",
    }
    return Action(**(made | changes))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_who_what_which_and_why() -> None:
    assert action().requested(WALL + 0.25) == {
        "time": "2023-11-14T22:13:20.250Z",
        "epoch": WALL + 0.25,
        "event": "requested",
        "request": "00112233aabbccdd",
        "verb": "hold",
        "uid": 1000,
        "user": "alice",
        "pid": 4711,
        "by": "filter",
        "filter": {"class": ["bulk"], "state": ["queued"]},
        "total": 2,
        "ids": ["A", "B"],
        "reason": "because",
    }
    assert done("00112233aabbccdd", "hold", ALICE, WALL, {"changed": 2, "error": ""}) == {
        "time": "2023-11-14T22:13:20.000Z",
        "epoch": WALL,
        "event": "done",
        "request": "00112233aabbccdd",
        "verb": "hold",
        "uid": 1000,
        "user": "alice",
        "pid": 4711,
        "result": {"changed": 2, "error": ""},
    }


def test_ids_are_bounded_and_their_number_is_not() -> None:
    ids = [QueueId(str(number)) for number in range(audit.IDS_MAX + 5)]
    entry = action(wanted=QueueFilter(ids=tuple(ids)), ids=ids).requested(WALL)

    assert entry["by"] == "id"
    assert entry["filter"] == {}
    assert entry["total"] == audit.IDS_MAX + 5
    assert entry["ids"] == ids[: audit.IDS_MAX]
    assert action(wanted=EVERYTHING).requested(WALL)["by"] == "all"
    assert action(destination="/srv/out").requested(WALL)["to"] == "/srv/out"


def test_no_patient_is_named() -> None:
    address = f"{NUMBER}@patient.mssante.fr"
    entry = action(wanted=QueueFilter(recipients=(address,)), reason=f"for {address}")

    assert NUMBER not in json.dumps(entry.requested(WALL))


def test_every_action_has_an_identity_of_its_own() -> None:
    def identity() -> str:
        made = Action(operator=ALICE, verb="hold", wanted=EVERYTHING, ids=(), reason="x")
        return made.request

    assert identity() != identity()
    assert len(identity()) == 16


def test_a_user_without_a_name_is_a_number() -> None:
    assert str(Operator.of(os.getuid(), 1)) == Operator.of(os.getuid(), 1).name != ""
    assert Operator.of(2**31 - 7, 1) == Operator(uid=2**31 - 7, pid=1)
    assert str(Operator.of(2**31 - 7, 1)) == f"uid {2**31 - 7}"


def test_lines_are_appended_for_the_owner_only_and_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        text = "folder" if is_folder else (tmp_path / "audit.log").read_text()
        synced.append(text)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    log = AuditLog(tmp_path)
    log.append({"n": 1})
    log.append({"n": 2, "text": "é\n"})

    assert lines(log.path) == [{"n": 1}, {"n": 2, "text": "é\n"}]
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert synced == ['{"n": 1}\n', "folder", log.path.read_text()]


def test_it_is_rotated_and_the_latest_are_kept(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, octets_max=22)  # two lines of eleven octets
    for number in range(17):
        log.append({"n": number + 100})

    names = ["audit.log", *(f"audit.log.{number}" for number in range(1, audit.KEEP + 1))]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    kept = [entry["n"] for name in reversed(names) for entry in lines(tmp_path / name)]
    assert kept == list(range(106, 117))
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_line_longer_than_the_bound_is_written_all_the_same(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, octets_max=20)
    log.append({"text": "x" * 50})
    log.append({"text": "y" * 50})

    assert lines(log.path) == [{"text": "y" * 50}]
    assert lines(tmp_path / "audit.log.1") == [{"text": "x" * 50}]


def test_what_cannot_be_written_is_said_and_leaves_no_half_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path)
    log.append({"n": 1})

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(AuditError, match=r"audit\.log cannot be written: No space left"):
            log.append({"n": 2})
    log.append({"n": 3})
    assert lines(log.path) == [{"n": 1}, {"n": 3}]


def test_it_follows_no_link(tmp_path: Path) -> None:
    """Root must not be led elsewhere by whoever may write the folder."""
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "audit.log").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(AuditError):
        AuditLog(tmp_path).append({"n": 1})
    assert (tmp_path / "elsewhere").read_text() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    os.chown(folder, 4711, 4712)
    AuditLog(folder).append({"n": 1})

    status = (folder / "audit.log").stat()
    assert (status.st_uid, status.st_gid) == (4711, 4712)

    (tmp_path / "precious").write_text("x\n")
    (folder / "audit.log").unlink()
    (folder / "audit.log").hardlink_to(tmp_path / "precious")
    AuditLog(folder).append({"n": 1})
    assert (tmp_path / "precious").stat().st_uid == 0


def test_two_processes_write_whole_lines_and_rotate_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mailshed.admin.audit import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]), octets_max=2000)\n"
        "for n in range(60): log.append({'who': sys.argv[2], 'n': n})\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), who], cwd=ROOT)
        for who in ("a", "b")
    ]
    assert [child.wait(60) for child in children] == [0, 0]

    entries = [entry for path in tmp_path.iterdir() for entry in lines(path)]
    assert sorted((entry["who"], entry["n"]) for entry in entries) == sorted(
        (who, number) for who in "ab" for number in range(60)
    )
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())


def test_a_file_that_was_renamed_while_it_was_waited_for_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path)
    log.append({"n": 1})
    lock, turns = fcntl.flock, iter([True, False])

    def rename_first(file: int, how: int) -> None:
        if next(turns, False):
            log.path.rename(tmp_path / "audit.log.1")
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", rename_first)
    log.append({"n": 2})

    assert lines(tmp_path / "audit.log.1") == [{"n": 1}]
    assert lines(log.path) == [{"n": 2}]


def test_the_lines_about_an_override_share_its_request() -> None:
    request = "00112233aabbccdd"
    entry = override_requested(
        request=request,
        verb="override hold",
        operator=ALICE,
        wall=WALL,
        details={"class": "bulk", "seconds": 60.0},
        reason=f"for {NUMBER}@patient.mssante.fr",
    )
    assert (entry["event"], entry["verb"], entry["user"]) == ("requested", "override hold", "alice")
    assert (entry["class"], entry["seconds"]) == ("bulk", 60.0)
    assert NUMBER not in json.dumps(entry)

    wish = replace(hold("bulk"), seconds=60.0)
    (override,) = (
        Overrides()
        .add(wish, CLASSES, user="alice", request=request, now=0.0, wall=WALL)
        .overrides.in_force
    )
    service = Operator(uid=999, pid=1, name="mailshed")
    assert override_ended(override, "expired", service, WALL + 60) == {
        "time": "2023-11-14T22:14:20.000Z",
        "epoch": WALL + 60,
        "event": "ended",
        "request": request,
        "verb": "override expired",
        "uid": 999,
        "user": "mailshed",
        "pid": 1,
        "override": 1,
        "kind": "hold",
        "class": "bulk",
        "of": "alice",
    }
