"""`queue hold|release|retry|delete`: what is sent when, and what the answer is turned into."""

import json
from typing import Any

import pytest

from mailshed.cli.exit_codes import ExitCode
from tests.unit.cli.conftest import ScriptedService
from tests.unit.cli.queue.conftest import fill, queue

WHY = ("--reason", "a mistake")


def answer(verb: str = "hold", **changes: Any) -> dict[str, Any]:
    made = {
        "schema": "mailshed.queue-action/1",
        "verb": verb,
        "matched": 1,
        "missing": 0,
        "changed": 1,
        "unchanged": 0,
        "busy": 0,
        "error": "",
        "is_noted": True,
    }
    return made | changes


def preview(verb: str = "hold", matched: int = 3) -> dict[str, Any]:
    return {
        "verb": verb,
        "is_dry_run": True,
        "matched": matched,
        "missing": 0,
        "ids": [f"Q{number}" for number in range(min(matched, 2))],
    }


@pytest.mark.parametrize(
    ("verb", "told"), [("hold", "held"), ("release", "released"), ("retry", "due now")]
)
def test_who_names_messages_by_id_means_them(
    verb: str, told: str, service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer(f"/v1/queue/{verb}", answer(verb, matched=2, changed=2))

    assert queue(service, verb, "a", "b", *WHY) == ExitCode.OK
    assert capsys.readouterr().out == f"2 messages {told}\n"
    document = {
        "filter": {"id": ["A", "B"]},
        "all": False,
        "reason": "a mistake",
        "max": 10_000,
        "dry_run": False,
        "to": "",
    }
    assert service.posted == [(f"/v1/queue/{verb}", document)]


@pytest.mark.parametrize(
    ("verb", "which"),
    [("hold", ["--class", "bulk"]), ("delete", ["a", "b"]), ("retry", ["--all"])],
)
def test_without_yes_it_is_only_said_what_would_be_done(
    verb: str,
    which: list[str],
    service: ScriptedService,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service.answer(f"/v1/queue/{verb}", preview(verb))

    assert queue(service, verb, *which, *WHY) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].startswith("3 messages would be ")
    assert captured.out.splitlines()[1:] == ["    Q0", "    Q1", "    and 1 more"]
    assert captured.err == f"mailshed: nothing was done; to {verb} them, say --yes\n"
    assert [document["dry_run"] for _, document in service.posted] == [True]


@pytest.mark.parametrize("which", [["--class", "bulk"], ["a"], ["--all"]])
def test_with_yes_it_is_done_at_once(which: list[str], service: ScriptedService) -> None:
    service.answer("/v1/queue/delete", answer("delete"))

    assert queue(service, "delete", *which, "--yes", *WHY, "--max", "7") == ExitCode.OK
    ((_, document),) = service.posted
    assert (document["dry_run"], document["max"]) == (False, 7)


def test_a_filter_that_matches_one_message_needs_no_yes_and_changes_no_more(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second one may match by the time it is done."""
    service.answer("/v1/queue/hold", answer() | preview(matched=1) | {"is_dry_run": False})

    assert queue(service, "hold", "--rcpt", "a@b.example", *WHY) == ExitCode.OK
    looked, done = (document for _, document in service.posted)
    assert (looked["dry_run"], done["dry_run"], done["max"]) == (True, False, 1)
    assert looked["filter"] == done["filter"] == {"rcpt": ["a@b.example"]}
    assert capsys.readouterr().out == "1 message held\n"


def test_one_message_is_not_deleted_without_yes_either(service: ScriptedService) -> None:
    service.answer("/v1/queue/delete", preview("delete", matched=1))

    assert queue(service, "delete", "a", *WHY) == ExitCode.USAGE
    assert len(service.posted) == 1


@pytest.mark.parametrize("verb", ["hold", "delete"])
def test_what_matches_nothing_exits_1(
    verb: str, service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer(f"/v1/queue/{verb}", preview(verb, matched=0))
    assert queue(service, verb, "--class", "bulk", *WHY) == ExitCode.NO_MATCH
    assert queue(service, verb, "--class", "bulk", "--dry-run") == ExitCode.NO_MATCH
    assert capsys.readouterr().err == ""

    service.answer(f"/v1/queue/{verb}", {"verb": verb, "matched": 0, "missing": 2})
    assert queue(service, verb, "a", "b", "--yes", *WHY) == ExitCode.NO_MATCH
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "2 messages not in the queue (any more)",
        "no message matches",
    ]


def test_a_dry_run_needs_no_reason_and_says_what_matches(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/queue/release", preview("release", matched=2))

    assert queue(service, "release", "--state", "hold", "--dry-run") == ExitCode.OK
    assert capsys.readouterr().out == "2 messages would be released\n    Q0\n    Q1\n"


def test_what_was_skipped_is_told_with_its_reason(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/queue/hold", answer(matched=6, missing=1, changed=3, unchanged=2, busy=1))

    assert queue(service, "hold", "--all", "--yes", *WHY) == ExitCode.TRY_AGAIN
    assert capsys.readouterr().out.splitlines() == [
        "1 message not in the queue (any more)",
        "3 messages held",
        "1 message skipped: with the backend right now; try again",
        "2 messages skipped: nothing to change, or gone by now",
    ]


def test_doing_it_again_is_no_failure(service: ScriptedService) -> None:
    service.answer("/v1/queue/hold", answer(changed=0, unchanged=1))

    assert queue(service, "hold", "a", *WHY) == ExitCode.OK


def test_as_json(service: ScriptedService, capsys: pytest.CaptureFixture[str]) -> None:
    service.answer("/v1/queue/hold", answer())

    assert queue(service, "hold", "a", *WHY, "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == answer()


def test_an_audit_log_that_has_only_half_is_told(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/queue/hold", answer(is_noted=False))

    assert queue(service, "hold", "a", *WHY) == ExitCode.OK
    assert "the audit log has only that it was asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "code"), [(409, ExitCode.USAGE), (503, ExitCode.TRY_AGAIN), (403, 77)]
)
def test_a_refusal_is_passed_on(
    status: int, code: int, service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("/v1/queue/hold", {"error": "the reason"}, status)

    assert queue(service, "hold", "a", *WHY) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("the reason\n")


def test_nothing_is_changed_without_the_service(
    offline: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(offline.config.parent / "spool")

    assert queue(offline, "hold", "a", *WHY) == ExitCode.UNAVAILABLE
    assert "only the service may change its queue: start it first" in capsys.readouterr().err
