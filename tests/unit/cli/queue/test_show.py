"""`queue show`: everything about single messages but what they say."""

import json
from typing import Any

import pytest

from mailshed.cli.exit_codes import ExitCode
from mailshed.spool.store import SpoolRecipient
from tests.support.builders import spool_record
from tests.unit.cli.conftest import ScriptedService
from tests.unit.cli.queue.conftest import NUMBER, PATIENT, fill, message, queue


def whole(**changes: Any) -> dict[str, Any]:
    recipients = [
        {
            "address": "a@example.net",
            "state": "deferred",
            "last_reply": "451 4.3.0 later",
            "parameters": ["NOTIFY=NEVER"],
        },
        {"address": "b@example.net", "state": "queued", "last_reply": "", "parameters": []},
    ]
    return message(
        recipients=recipients,
        parameters=["SIZE=12000"],
        expires="2026-11-25T09:31:02Z",
        expires_epoch=1795253462.0 + 4 * 86400,
        client="192.0.2.1",
        helo="client.example.org",
        is_trusted=True,
        is_generated=False,
        in_doubt=1,
        backend="exch",
        **changes,
    )


def test_shows_envelope_history_and_prospects(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = [{"name": "subject", "value": "(6 characters)"}]
    service.answer(
        "/v1/queue/show?id=01JZX4K7ABCDEFGH&headers=1", {"messages": [whole(headers=headers)]}
    )

    assert queue(service, "show", "01jzx4k7abcdefgh", "--headers") == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == [
        "01JZX4K7ABCDEFGH  bulk  deferred",
        "    from        news@example.org SIZE=12000",
        "    client      192.0.2.1, trusted helo client.example.org",
        "    received    2026-11-21T09:31:02Z, 4m10s ago",
        "    size        12KiB (12345 octets)",
        "    spooled     saturated",
        "    backend     exch",
        "    attempts    3, next in 4m48s",
        "    in doubt    1 times no answer to the final dot",
        "    expires     2026-11-25T09:31:02Z, in 3d23h",
        "    to          a@example.net NOTIFY=NEVER",
        "                deferred; last reply: 451 4.3.0 later",
        "    to          b@example.net",
        "                queued",
        "    header      subject: (6 characters)",
    ]


def test_several_are_told_apart_and_a_missing_one_is_named(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    first = whole(queue_id="A", sender="", state="hold")
    second = {**whole(queue_id="B"), "is_generated": True, "in_doubt": 0, "expires_epoch": 1.0}
    service.answer("/v1/queue/show?id=A&id=B&id=C", {"messages": [first, second]})

    assert queue(service, "show", "a", "b,c") == ExitCode.NO_MATCH
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[1] == "    from        <> SIZE=12000"
    assert "    attempts    3, next held" in lines
    assert lines[lines.index("B  bulk  deferred") - 1] == ""
    assert "    client      a report of ours helo client.example.org" in lines
    assert "    expires     2026-11-25T09:31:02Z, now" in lines
    assert sum("in doubt" in line for line in lines) == 1
    assert captured.err == "mailshed: not in the queue: C\n"


def test_as_json(service: ScriptedService, capsys: pytest.CaptureFixture[str]) -> None:
    service.answer("/v1/queue/show?id=A", {"messages": [whole(queue_id="A")]})

    assert queue(service, "show", "A", "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == {
        "schema": "mailshed.queue-show/1",
        "messages": [whole(queue_id="A")],
    }


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_patient_is_named_and_no_terminal_is_told_anything(
    form: list[str], service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = whole(queue_id="A", sender=PATIENT, headers=[{"name": "x", "value": f"<{PATIENT}>"}])
    shown["recipients"][0] |= {"address": PATIENT, "last_reply": f"550 {NUMBER}\x1b[2J"}
    service.answer("/v1/queue/show?id=A", {"messages": [shown]})

    queue(service, "show", "A", *form)
    output = capsys.readouterr().out
    assert NUMBER not in output
    assert "\x1b" not in output


def test_the_spool_is_read_when_the_service_is_down(
    offline: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    patient = SpoolRecipient(index=0, address=PATIENT.encode())
    record = spool_record(recipients=(patient,))
    fill(offline.config.parent / "spool", record)

    assert queue(offline, "show", record.queue_id, "--headers") == ExitCode.OK
    captured = capsys.readouterr()
    assert "    to          ***@patient.mssante.fr" in captured.out
    assert "    header      received: from a" in captured.out
    assert "    header      subject: (6 characters)" in captured.out
    assert "secret" not in captured.out
    assert "reading the spool at" in captured.err
    assert queue(offline, "show", "A") == ExitCode.NO_MATCH
