"""Stamps and priorities of lines, and how journald is known."""

import io
import os
from pathlib import Path

import pytest

from mailshed.maillog import LogFormat, MailLog, is_journal
from mailshed.maillog.writer import rounded
from tests.support.log_lines import WALL, Log


def test_the_stamp_follows_the_clock() -> None:
    times = iter([0.0, 0.9994, 1.0, 1795339862.5, 59.0])
    stream = io.StringIO()
    log = MailLog(stream, wall=lambda: next(times))
    for _ in range(5):
        log.reloaded(config="x")
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == [
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T00:00:00.999Z",
        "1970-01-01T00:00:01.000Z",
        "2026-11-22T09:31:02.500Z",
        "1970-01-01T00:00:59.000Z",
    ]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_journald_gets_each_line_with_its_priority(log_format: LogFormat) -> None:
    """And nobody else: without priorities the same lines come out bare."""
    plain, stream = Log(log_format), io.StringIO()
    journal = MailLog(stream, log_format, "debug", wall=lambda: WALL, has_priorities=True)
    for log in (plain.maillog, journal):
        log.session_ended("S1", listener="l", client="c", how="quit", seconds=1.0, messages=0)
        log.reloaded(config="x")
        log.spool_recovered(sick_seconds=1.0)
        log.spool_sick(detail="I/O error")
    assert all(line[0] != "<" for line in plain.lines)
    lines = stream.getvalue().splitlines()
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>"]
    assert [line[3:] for line in lines] == plain.lines


def test_journald_is_known_by_the_descriptor_and_not_by_the_variable_alone(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as ours, (tmp_path / "b").open("w") as other:
        status = os.fstat(ours.fileno())
        stream = f"{status.st_dev}:{status.st_ino}"
        assert is_journal(ours.fileno(), stream)
        assert not is_journal(other.fileno(), stream), "redirected"
        assert not is_journal(ours.fileno(), "")
    assert not is_journal(-1, stream)


def test_seconds_are_told_to_a_tenth_if_they_are_known() -> None:
    assert [rounded(1.26), rounded(60), rounded(None)] == [1.3, 60, None]
