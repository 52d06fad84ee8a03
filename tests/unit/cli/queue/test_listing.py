"""`queue list` and `queue count`: what is printed, in both forms, by whoever answers."""

import json
from typing import Any

import pytest

from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.main import main
from mailshed.spool.store import SpoolRecipient
from tests.support.builders import spool_record
from tests.unit.cli.conftest import ScriptedService
from tests.unit.cli.queue.conftest import NUMBER, PATIENT, fill, message, queue


def counts(**changes: Any) -> dict[str, Any]:
    return {
        "class": "bulk",
        "state": "queued",
        "messages": 2,
        "recipients": 5,
        "octets": 20_000,
        "oldest_age_seconds": 3700.0,
        **changes,
    }


def test_lists_three_lines_per_message_and_a_total(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/queue?limit=100", {"messages": [message(), message(state="hold")]})

    assert queue(service, "list") == ExitCode.OK
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "QUEUE ID          CLASS  STATE       AGE   SIZE  TRIES  NEXT",
        "01JZX4K7ABCDEFGH  bulk   deferred  4m10s  12KiB      3  in 4m48s",
        "    news@example.org -> a@example.net and 1 more",
        "    spooled: saturated; last reply: 451 4.3.0 later",
        "01JZX4K7ABCDEFGH  bulk   hold      4m10s  12KiB      3  held",
        "    news@example.org -> a@example.net and 1 more",
        "    spooled: saturated; last reply: 451 4.3.0 later",
        "2 messages, 4 recipients, 24KiB",
    ]
    assert captured.err == ""


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"age_seconds": 537.0}, "in 1s"),
        ({"age_seconds": 538.0}, "now"),
        ({"age_seconds": 9000.0}, "now"),
        ({"next_attempt": "2026-12-21T10:00:00Z"}, "in 30d"),
        ({"state": "queued", "next_attempt": "2026-11-21T09:31:02Z"}, "now"),
        ({"state": "hold"}, "held"),
        ({"state": "corrupt"}, "never"),
    ],
)
def test_says_when_a_message_is_tried_next(
    changes: dict[str, Any],
    shown: str,
    service: ScriptedService,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service.answer("/v1/queue?limit=100", {"messages": [message(**changes)]})

    assert queue(service, "list") == ExitCode.OK
    row = capsys.readouterr().out.splitlines()[1]
    assert row.endswith(f"  {shown}")


def test_shows_the_reply_to_the_first_recipient_that_has_one_and_cuts_it(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    recipients = [
        {"address": "a@example.net", "state": "queued", "last_reply": ""},
        {"address": "b@example.net", "state": "deferred", "last_reply": "452 4.2.2 " + "z" * 99},
        {"address": "c@example.net", "state": "deferred", "last_reply": "451 other"},
    ]
    service.answer(
        "/v1/queue?limit=100",
        {"messages": [message(recipients=recipients), message(recipients=recipients[:1])]},
    )

    assert queue(service, "list") == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith("    spooled: saturated; last reply: 452 4.2.2 zzz")
    assert lines[3].endswith("z...")
    assert len(lines[3]) == 80
    assert lines[6] == "    spooled: saturated"


def test_the_list_fits_80_columns_whatever_is_in_it(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = message(
        **{"class": "c" * 32},
        state="deferred",
        age_seconds=1e9,
        size=2**60,
        attempts=10**6,
        reason="mixed_recipients",
        next_attempt="2099-01-01T00:00:00Z",
        received_epoch=0.0,
        sender="s" * 64 + "@" + "d" * 200 + "\x1b[2J",
    )
    service.answer("/v1/queue?limit=100", {"messages": [huge]})

    queue(service, "list")
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert "\x1b" not in output


def test_lists_as_one_json_document(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/queue?limit=7&class=bulk", {"messages": [message()]})

    assert queue(service, "list", "--json", "--limit", "7", "--class", "bulk") == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == {
        "schema": "mailshed.queue/1",
        "total": 1,
        "messages": [message()],
    }


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_patient_is_named_in_any_form(
    form: list[str], service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    """The address, the same address in a reply, and its local part alone in a reply."""
    replies = (f"550 5.1.1 <{PATIENT}>: unknown", f"550 user {NUMBER} unknown")
    recipients = [
        {"address": PATIENT, "state": "deferred", "last_reply": reply} for reply in replies
    ]
    service.answer(
        "/v1/queue?limit=100", {"messages": [message(sender=PATIENT, recipients=recipients)]}
    )

    assert queue(service, "list", *form) == ExitCode.OK
    output = capsys.readouterr().out
    assert NUMBER not in output
    assert "***@patient.mssante.fr" in output


@pytest.mark.parametrize(
    ("options", "target", "total"),
    [
        ([], "/v1/queue?limit=2", "15,012"),
        (["--class", "bulk"], "/v1/queue?limit=2&class=bulk", "15,000"),
    ],
)
def test_says_of_how_many_it_shows_the_first(
    options: list[str],
    target: str,
    total: str,
    service: ScriptedService,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service.answer(target, {"messages": [message(), message()]})
    rows = [counts(messages=14_000), counts(state="deferred", messages=1000)]
    if not options:
        rows.append(counts(**{"class": "clinical"}, messages=12))
    service.answer(target.replace("?limit=2", "/count").replace("&", "?"), {"classes": rows})

    assert queue(service, "list", "--limit", "2", *options) == ExitCode.OK
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == (
        f"showing 2 of {total} (--limit shows more): 2 messages, 4 recipients, 24KiB"
    )
    assert captured.err == ""
    assert queue(service, "list", "--limit", "2", *options, "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["total"] == int(total.replace(",", ""))


def test_a_list_that_is_just_complete_does_not_speak_of_more(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/queue?limit=1", {"messages": [message()]})
    service.answer("/v1/queue/count", {"classes": [counts(messages=1)]})

    assert queue(service, "list", "--limit", "1") == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[-1] == "1 message, 2 recipients, 12KiB"


def test_a_list_whose_total_is_not_known_is_shown_all_the_same(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/queue?limit=1", {"messages": [message()]})
    service.answer("/v1/queue/count", {"error": "the spool does not answer"}, 503)

    assert queue(service, "list", "--limit", "1") == ExitCode.OK
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith("showing 1 of more (")
    assert captured.err == ""


def test_an_empty_queue_is_an_answer_with_its_own_exit_code(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/queue?limit=100", {"messages": []})
    service.answer("/v1/queue/count", {"classes": []})

    assert queue(service, "list") == ExitCode.NO_MATCH
    assert queue(service, "count") == ExitCode.NO_MATCH
    assert capsys.readouterr().out == "0 messages, 0 recipients, 0B\n" * 2
    assert queue(service, "list", "--json") == ExitCode.NO_MATCH
    assert json.loads(capsys.readouterr().out)["messages"] == []


def test_counts_by_class_and_state_with_a_total(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [counts(), counts(**{"class": "clinical"}, state="hold", messages=1, octets=100)]
    service.answer("/v1/queue/count", {"classes": rows})

    assert queue(service, "count") == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == [
        "CLASS     STATE   MESSAGES  RECIPIENTS   SIZE  OLDEST",
        "bulk      queued         2           5  20KiB    1h1m",
        "clinical  hold           1           5   100B    1h1m",
        "3 messages, 10 recipients, 20KiB",
    ]


def test_counts_what_is_asked_for_as_json(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/queue/count?class=x", {"classes": [counts(**{"class": "x"})]})
    service.answer("/v1/queue/count?class=y", {"classes": []})

    assert queue(service, "count", "--class", "x", "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == {
        "schema": "mailshed.queue-count/1",
        "classes": [counts(**{"class": "x"})],
    }
    assert queue(service, "count", "--class", "y") == ExitCode.NO_MATCH


@pytest.mark.parametrize("verb", ["list", "count"])
def test_the_service_gets_the_whole_filter(verb: str, service: ScriptedService) -> None:
    conditions = (
        "class=bulk&class=telework&state=hold&from=%3C%3E&from=%40.x.example"
        "&rcpt=a%40b.example&older-than=90m&younger-than=2d&id=A1"
    )
    limit = "limit=100&" if verb == "list" else ""
    path = "/v1/queue" if verb == "list" else "/v1/queue/count"
    service.answer(f"{path}?{limit}{conditions}", {"messages": [], "classes": []})

    code = queue(
        service,
        *(verb, "--class", "bulk,telework", "--state", "hold", "--from", "<>,@.X.example"),
        *("--rcpt", "A@B.example", "--older-than", "90m", "--younger-than", "48h", "--id", "a1"),
    )
    assert code == ExitCode.NO_MATCH


def test_a_class_that_is_not_there_is_a_mistake_of_the_caller(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"error": "class: no such class: foo; configured: clinical, bulk"}
    service.answer("/v1/queue?limit=100&class=foo", error, 400)

    assert queue(service, "list", "--class", "foo") == ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "mailshed: class: no such class: foo; configured: clinical, bulk\n"


def test_a_condition_that_cannot_be_understood_is_not_sent(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    assert queue(service, "list", "--older-than", "5") == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("mailshed: --older-than: expected a duration")
    assert service.asked == []


def test_a_busy_service_is_not_taken_for_one_that_is_down(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/queue?limit=100", {"error": "the spool does not answer"}, 503)

    assert queue(service, "list") == ExitCode.TRY_AGAIN
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("answered 503: the spool does not answer\n")


def test_without_service_and_without_file_nothing_can_be_read(
    offline: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["queue", "list", "--config", "/nonexistent", "--socket", str(offline.socket)])

    assert code == ExitCode.UNAVAILABLE
    assert "no socket at" in capsys.readouterr().err


def test_with_the_service_down_the_spool_is_read_and_standard_error_says_so(
    offline: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same masking, the same forms, the same exit codes."""
    spool = offline.config.parent / "spool"
    patient = SpoolRecipient(index=0, address=PATIENT.encode())
    records = (
        spool_record(traffic_class="clinical", rank=0, recipients=(patient,)),
        spool_record(traffic_class="bulk", rank=5),
    )
    fill(spool, *records)

    assert queue(offline, "list", "--json", "--class", "clinical") == ExitCode.OK
    captured = capsys.readouterr()
    (listed,) = json.loads(captured.out)["messages"]
    assert set(listed) == set(message())
    assert listed["queue_id"] == records[0].queue_id
    assert listed["recipients"][0]["address"] == "***@patient.mssante.fr"
    assert f"reading the spool at {spool} instead" in captured.err

    assert queue(offline, "list") == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 messages")
    assert queue(offline, "list", "--limit", "1") == ExitCode.OK
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith("showing 1 of 2 (")
    assert captured.err.count("reading the spool") == 1
    assert queue(offline, "count", "--json") == ExitCode.OK
    counted = json.loads(capsys.readouterr().out)["classes"]
    assert {entry["class"] for entry in counted} == {"clinical", "bulk"}
    assert set(counts()) <= set(counted[0])
    assert queue(offline, "list", "--class", "telework") == ExitCode.NO_MATCH
    assert queue(offline, "list", "--from", "@example.org", "--class", "bulk") == ExitCode.OK
    assert queue(offline, "count", "--rcpt", "@.mssante.fr") == ExitCode.OK
    assert queue(offline, "count", "--state", "hold") == ExitCode.NO_MATCH


def test_a_service_that_is_down_and_has_no_spool_is_an_error(
    offline: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    assert queue(offline, "list") == ExitCode.IO_ERROR
    assert "there is no spool in" in capsys.readouterr().err
