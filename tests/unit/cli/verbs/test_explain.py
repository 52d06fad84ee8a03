"""`mailshed explain`: of a file, of a queue id, with the service or without."""

import json
from pathlib import Path
from typing import Any

import pytest

from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.main import main
from mailshed.cli.verbs.explain import lines
from tests.support.builders import BULK, spool_record
from tests.support.spools import pieces, sqlite_spool
from tests.unit.cli.conftest import ScriptedService

ROOT = Path(__file__).parents[4]
CONFIG = str(ROOT / "config" / "mailshed.yaml")

SITE = """\
version: 1
hostname: relay.example.org
domains: [example.net]
listeners: [{{name: a, bind: "127.0.0.1:0"}}]
backends: [{{name: m, host: m.example.org}}]
spool: {{path: {folder}/spool}}
admin: {{socket: {folder}/s}}
metrics: {{bind: "127.0.0.1:0"}}
"""
MAIL = "From: news@example.org\nTo: bob@hospital.example\nList-Id: <news.example.org>\n\nHello\n"


@pytest.fixture
def mail(tmp_path: Path) -> str:
    file = tmp_path / "m.eml"
    file.write_text(MAIL)
    return str(file)


def explain(*args: str) -> int:
    return main(["explain", *args])


def test_a_file_is_explained_rule_by_rule(mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(mail, "--config", CONFIG, "--from-ip", "192.0.2.9") == ExitCode.OK
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "client    192.0.2.9, a stranger, listener internal"
    assert out[1] == "from      <news@example.org> to bob@hospital.example, 88B"
    assert out[2].startswith("class     bulk, by rule mailing-lists (default.yaml:")
    assert out[3] == (
        "rules     laboratory-results [clinical]: no: client 192.0.2.9 is not in laboratory"
        " (10.20.8.0/24)"
    )
    assert '          mailing-lists [bulk]: matches: list-id is "<news.example.org>"' in out
    assert "          7 more rules were not tried" in out
    assert out[-4].startswith("would     room: relay at once")
    assert out[-3].startswith("          saturated: spool (saturated)")


def test_options_replace_what_the_file_says(mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = explain(
        *(mail, "--config", CONFIG, "--json", "--from-ip", "192.0.2.9", "--auth", "alice"),
        *("--from", "<>", "--rcpt", "a@b.example", "--rcpt", "c@d.example"),
        *("--listener", "devices", "--priority", "5"),
    )
    assert code == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "mailshed.explain/1"
    assert document["message"] == {
        "client": "192.0.2.9",
        "listener": "devices",
        "trusted": True,
        "user": "alice",
        "sender": "",
        "recipients": ["a@b.example", "c@d.example"],
        "recipient_count": 2,
        "size": len(MAIL.replace("\n", "\r\n")),
        "priority": 5,
    }
    assert (document["class"], document["rule"]) == ("continuity", "asked-for-priority")


def test_a_file_that_is_not_there_is_said_to_be_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("./gone.eml", "--config", CONFIG) == ExitCode.IO_ERROR
    assert capsys.readouterr().err == "mailshed: cannot read gone.eml: No such file or directory\n"


DOCUMENT: dict[str, Any] = {
    "schema": "mailshed.explain/1",
    "queue_id": "01JZX4K7T2M8Q0RB",
    "known": True,
    "basis": "memory",
    "note": "",
    "received": "2026-11-21T09:31:02Z",
    "class": "bulk",
    "rule": "lists",
    "origin": "m.yaml:4",
    "decided": {"class": "bulk", "rule": "lists"},
    "decision": {"action": "spooled", "reason": "saturated", "reply": "250 2.0.0 Ok: queued"},
    "message": {
        "client": "10.4.7.12",
        "listener": "internal",
        "trusted": True,
        "user": "",
        "sender": "",
        "recipients": ["a@b.example"],
        "recipient_count": 412,
        "size": 4096,
        "priority": None,
    },
    "rules": [
        {"rule": "lists", "origin": "m.yaml:4", "class": "bulk", "matched": True, "why": ["a", "b"]}
    ],
    "rules_not_tried": 0,
}


def test_a_queue_id_is_asked_of_the_service(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/explain/01JZX4K7T2M8Q0RB", DOCUMENT)
    assert explain("01JZX4K7T2M8Q0RB", "--config", str(service.config)) == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == [
        "received  2026-11-21T09:31:02Z as 01JZX4K7T2M8Q0RB",
        "client    10.4.7.12, trusted, listener internal",
        "from      <> to a@b.example and 411 more, 4.0KiB",
        "class     bulk, by rule lists (m.yaml:4)",
        "rules     lists [bulk]: matches: a; b",
        "decision  spooled (saturated); client was told: 250 2.0.0 Ok: queued",
    ]


async def test_without_the_service_the_spool_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.yaml").write_text(SITE.format(folder=tmp_path))
    spool, record = sqlite_spool(tmp_path / "spool"), spool_record(names=BULK)
    await spool.open()
    await spool.add(record, pieces(b"Received: x\r\nList-Id: <n.example>\r\n\r\nHello\r\n"))
    await spool.close()
    assert explain(record.queue_id, "--config", str(tmp_path / "m.yaml")) == ExitCode.OK
    captured = capsys.readouterr()
    assert "reading the spool" in captured.err
    out = captured.out.splitlines()
    assert out[0] == f"received  2023-11-14T22:13:20Z as {record.queue_id}"
    assert out[3].startswith("class     bulk, by rule mailing-lists (default.yaml:")
    assert out[4].startswith("note      rules of today; ")
    assert out[-1] == "decision  spooled (saturated)"
    assert explain("GONE", "--config", str(tmp_path / "m.yaml")) == ExitCode.NO_MATCH


def test_an_id_that_nobody_knows_exits_1(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/explain/GONE", {"queue_id": "GONE", "known": False})
    assert explain("GONE", "--config", str(service.config)) == ExitCode.NO_MATCH
    assert "nothing is known of GONE" in capsys.readouterr().err


def test_what_was_decided_stands_beside_what_would_be_today() -> None:
    changed = DOCUMENT | {
        "decided": {"class": "personal", "rule": None},
        "note": "rules of today",
    }
    out = lines(changed)
    assert out[3:6] == [
        "class     personal",
        "now       bulk, by rule lists (m.yaml:4)",
        "note      rules of today",
    ]


def test_nothing_that_a_terminal_obeys_is_printed() -> None:
    hostile = DOCUMENT | {"rules": [DOCUMENT["rules"][0] | {"why": ["\x1b[2J"]}]}
    assert not any("\x1b" in line for line in lines(hostile))
