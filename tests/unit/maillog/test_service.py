"""The lines about the service: how bad it is, for how long, and what broke."""

import json

import pytest

from tests.support.log_lines import Log


def test_a_traceback_is_one_escaped_value() -> None:
    log = Log("json")

    def fail() -> None:
        raise RuntimeError("line one\nline two")

    try:
        fail()
    except RuntimeError as error:
        log.maillog.task_failed("drain Q1", error)
    record = json.loads(log.lines[0])
    assert record["error"] == "RuntimeError('line one\\nline two')"
    assert record["traceback"].startswith("Traceback (most recent call last)")
    assert record["traceback"].endswith("RuntimeError: line one\nline two\n")
    assert record["level"] == "error"


def test_an_endless_traceback_keeps_its_end() -> None:
    log = Log("json")
    log.maillog.task_failed("x", ValueError("y" * 20_000 + "THE END"))
    record = json.loads(log.lines[0])
    assert len(record["traceback"]) <= 8192
    assert record["traceback"].endswith("THE END\n")


@pytest.mark.parametrize(("unfinished", "level"), [(0, "info"), (3, "warning")])
def test_the_last_line_warns_of_what_was_cut_off(unfinished: int, level: str) -> None:
    log = Log()
    log.maillog.stopped(seconds=1.234, unfinished=unfinished)
    assert log.lines[0].split(" ", 1)[1] == (
        f"{level} - event=stopped seconds=1.23 unfinished={unfinished}"
    )


def test_a_backend_goes_comes_back_and_has_all_mail_again() -> None:
    log = Log()
    log.maillog.backend_away("exch", detail="connection refused", next_probe_seconds=1.04)
    log.maillog.backend_back("exch", away_seconds=12.34)
    log.maillog.backend_restored("exch", seconds=52.0)
    assert [line.split(" ", 1)[1] for line in log.lines] == [
        'warning - event=backend_away backend=exch next_probe=1.0 detail="connection refused"',
        "warning - event=backend_back backend=exch away=12.3",
        "info - event=backend_restored backend=exch seconds=52.0",
    ]


def test_a_backend_that_is_not_to_be_told_is_a_warning_and_its_end_is_not() -> None:
    log = Log()
    log.maillog.backend_identity_refused("mx", detail="add this host")
    log.maillog.backend_identity_taken("mx")
    assert [line.split(" ", 1)[1] for line in log.lines] == [
        'warning - event=backend_identity_refused backend=mx detail="add this host"',
        "info - event=backend_identity_taken backend=mx",
    ]
