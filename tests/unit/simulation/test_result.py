"""What a run tells: numbers, their ratios, and the same as JSON."""

import json
from itertools import pairwise
from math import inf

import pytest

from mailshed.simulation import result as module
from mailshed.simulation.engine import fixed, run
from mailshed.simulation.result import Result
from tests.support.builders import BULK, PERSONAL
from tests.support.simulated import mixed, scenario, stream


@pytest.fixture(scope="module")
def overload() -> Result:
    """Three times too much for 60 s, with slots for all classes."""
    return run(scenario(*mixed(3.0), duration=60.0), 1, limit=fixed(8))


def test_a_class_is_all_of_its_streams() -> None:
    streams = (stream(PERSONAL, name="a"), stream(PERSONAL, name="b", rate=2.0), stream(BULK))
    found = run(scenario(*streams), 1, limit=fixed(4))
    a, b, personal = found.of_stream("a"), found.of_stream("b"), found.of_class("personal")
    assert personal.offered == a.offered + b.offered > 0
    assert personal.sojourn.count == a.sojourn.count + b.sojourn.count
    assert [part.name for part in found.classes] == ["personal", "bulk"]


def test_work_is_compared_with_what_was_possible(overload: Result) -> None:
    assert 0.9 < overload.work_ratio <= 1.001
    assert overload.work_ratio_between(10.0, 50.0) == pytest.approx(1.0, abs=0.05)


def test_the_drain_is_compared_with_the_soonest_that_is_possible(overload: Result) -> None:
    assert overload.peak_at == pytest.approx(60.0, abs=1.0)
    assert overload.drain_bound == pytest.approx(120.0, rel=0.15)
    assert overload.drain_bound * 0.98 < overload.drain_time < inf


def test_limits_can_be_asked_for_a_span(overload: Result) -> None:
    assert overload.limits(10.0, 20.0) == (8, 8.0, 8)


def test_refusals_are_of_all_attempts(overload: Result) -> None:
    assert (overload.refused, overload.refused_ratio) == (0, 0.0)
    assert overload.attempts == sum(part.messages for part in overload.classes)


def test_deliveries_to_each_sender_are_known_when_the_last_mail_has_come(overload: Result) -> None:
    personal = overload.trace.at_close["personal"]
    assert 0 < sum(personal.values()) <= overload.of_stream("personal").messages
    assert sum(overload.trace.at_close["bulk"].values()) < overload.of_stream("bulk").messages


def test_json_has_all_of_it_and_is_finite(overload: Result) -> None:
    document = json.loads(overload.to_json())
    assert document["scenario"] == "test"
    assert {part["name"] for part in document["classes"]} >= {"clinical", "bulk"}
    assert document["classes"][0]["sojourn"]["p99"] > 0
    assert document["trace"]["columns"][0] == "time"
    assert len(document["trace"]["points"]) == len(overload.trace.points)
    never = run(scenario(*mixed(3.0), duration=30.0, settle=0.0), 1, limit=fixed(4))
    assert json.loads(never.to_json())["drain_time"] is None


def test_the_trace_tells_spooled_mail_by_class(overload: Result) -> None:
    fullest = max(overload.trace.points, key=lambda point: point.spooled)
    assert len(fullest.spooled_by_class) == len(overload.class_names) == 4
    assert sum(fullest.spooled_by_class) == fullest.spooled > 50
    by_name = dict(zip(overload.class_names, fullest.spooled_by_class, strict=True))
    assert by_name["bulk"] > by_name["personal"]
    assert by_name["clinical"] < 10


def test_a_trace_is_thinned_out_rather_than_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POINTS_MAX", 20)
    found = run(scenario(stream(rate=2.0), duration=200.0), 1, limit=fixed(4))
    times = [point.time for point in found.trace.points]
    assert 10 <= len(times) <= 21
    gaps = {round(later - earlier) for earlier, later in pairwise(times)}
    assert max(gaps) >= 8
    assert times[-1] > 150.0
