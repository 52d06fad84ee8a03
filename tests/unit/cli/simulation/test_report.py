"""The table of a simulation."""

from dataclasses import replace

import pytest

from mailshed.cli.simulation import report
from mailshed.cli.table import WIDTH
from mailshed.simulation.engine import fixed, run
from mailshed.simulation.result import Result
from mailshed.simulation.scenario import SpoolModel
from tests.support.builders import BULK
from tests.support.simulated import DEVICE, mixed, scenario, stream, with_change


@pytest.fixture(scope="module")
def overload() -> Result:
    return run(scenario(*mixed(2.0), duration=60.0), 1, limit=fixed(4))


def test_each_class_has_a_line(overload: Result) -> None:
    lines = list(report.lines(overload))
    assert lines[0].startswith("test (seed 1): ")
    rows = {line.split()[0]: line.split() for line in lines[3:7]}
    assert set(rows) == {"clinical", "personal", "telework", "bulk"}
    clinical = overload.of_class("clinical")
    assert rows["clinical"][1:3] == [str(clinical.offered), str(clinical.delivered)]


def test_it_fits_a_terminal(overload: Result) -> None:
    assert max(map(len, report.lines(overload))) <= WIDTH


def test_work_limit_and_drain_are_said(overload: Result) -> None:
    text = "\n".join(report.lines(overload))
    assert f"did {overload.work_ratio:.1%} of what it could have done" in text
    assert "a limit of 4 to 4 messages in flight, 4.0 on average" in text
    assert "the backlog was gone after" in text
    assert "doubt" not in text


def test_what_is_left_at_the_end_is_said() -> None:
    result = run(scenario(*mixed(3.0), duration=30.0, settle=0.0), 1, limit=fixed(4))
    text = "\n".join(report.lines(result))
    assert "At the end mail still waits" in text
    assert " never" in text


def test_doubts_copies_and_losses_are_said() -> None:
    stalled = with_change(5.0, 3000.0, speed=0.0)
    lossy = scenario(
        stream(rate=2.0, client=DEVICE),
        stream(BULK, rate=2.0),
        backend=stalled,
        spool=SpoolModel(messages_max=30),
        duration=30.0,
        settle=9000.0,
    )
    text = "\n".join(report.lines(run(lossy, 1, limit=fixed(4))))
    assert "ended in doubt" in text
    assert "of devices got a 4xx" in text


def test_short_times_are_written_exactly_and_long_ones_as_ages(overload: Result) -> None:
    spans = {0.0: "0s", 0.0524: "0.052s", 1.234: "1.23s", 59.04: "59.0s", 250.0: "4m10s"}
    assert {seconds: report._span(seconds) for seconds in spans} == spans
    assert report._empty(replace(overload.classes[0], in_spool=0, drained_at=None)) == "-"
