"""The generator sends what it is told to, says so, and calls a failure one."""

from collections.abc import Iterator
from math import isnan
from pathlib import Path

import pytest

from tests.bench.tools import Mode, Sink, build_or_skip, generate, smtp_source
from tests.support.debian import require
from tests.support.processes import free_port, wait_until


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    """A running sink."""
    build_or_skip()
    with Sink(tmp_path) as running:
        yield running


@pytest.mark.parametrize("is_pipelined", [False, True])
@pytest.mark.parametrize("mode", ["reuse", "new"])
def test_so_many_messages_arrive(sink: Sink, mode: Mode, is_pipelined: bool) -> None:
    run = generate(
        sink.port, connections=3, octets=2000, mode=mode, messages=50, is_pipelined=is_pipelined
    )
    assert (run.messages, run.errors) == (50, 0)
    assert sink.taken == 50
    assert 0 < run.p50_seconds <= run.p99_seconds <= run.seconds


def test_what_begins_in_time_arrives(sink: Sink) -> None:
    run = generate(sink.port, connections=2, octets=1000, mode="reuse", seconds=0.05)
    assert run.messages == sink.taken > 0


def test_at_a_rate_no_more_are_sent_than_are_due(sink: Sink) -> None:
    run = generate(sink.port, connections=5, octets=1000, mode="reuse", messages=40, rate=400.0)
    assert sink.taken == run.messages == 40
    # The times are random and the same in every run: 40 messages take about 0.1 s.
    assert run.seconds > 0.05


def test_a_message_that_waits_for_a_connection_is_timed_from_when_it_was_due(sink: Sink) -> None:
    run = generate(
        sink.port, connections=1, octets=1000, mode="reuse", messages=2000, rate=10_000_000.0
    )
    assert run.p99_seconds > run.seconds / 2


def test_a_refused_connection_is_an_error() -> None:
    build_or_skip()
    with pytest.raises(AssertionError, match="Connection refused"):
        generate(free_port(), connections=1, octets=1000, mode="reuse", messages=1)


def test_nonsense_is_refused() -> None:
    build_or_skip()
    with pytest.raises(AssertionError, match="usage"):
        generate(1, connections=0, octets=1000, mode="reuse", messages=1)


@pytest.mark.parametrize("mode", ["reuse", "new"])
def test_smtp_source_sends_as_many(sink: Sink, mode: Mode) -> None:
    require("postfix")
    run = smtp_source(sink.port, connections=3, octets=2000, mode=mode, messages=30)
    wait_until(lambda: sink.taken == 30, lambda: f"{sink.taken} have arrived")
    assert run.messages == 30
    assert isnan(run.p50_seconds)
