"""From rounds to figures, verdicts, tables and the page, without measuring anything."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench import plots, record, report
from tests.bench.loads import HAPROXY, LOADS, MAILSHED, NAIVE, PEERS, POSTFIX, SINK, load
from tests.bench.record import Record
from tests.bench.results import Measured, Result, Round
from tests.bench.targets import Target, judge


def _round(
    rate: float = 1000.0,
    *,
    cpu: float | None = 100e-6,
    p50: float | None = 0.001,
    p99: float | None = 0.004,
) -> Round:
    """A round of a second; `cpu` is seconds for one message."""
    return Round(
        messages=round(rate),
        seconds=1.0,
        cpu_seconds=None if cpu is None else cpu * round(rate),
        p50_seconds=p50,
        p99_seconds=p99,
    )


def _measured(name: str, rounds: Mapping[str, Round], **other: Any) -> Measured:
    results = tuple(Result(peer=peer, rounds=(each,)) for peer, each in rounds.items())
    return Measured(load=name, results=results, **{"missing": {}, **other})


def _record(loads: Mapping[str, Measured], *, date: str = "2026-03-01", cores: int = 2) -> Record:
    machine = {
        "cpu": "Some CPU",
        "cores": cores,
        "kernel": "6.1",
        "python": "3.11.7",
        "load_average": 0.1,
    }
    return Record(
        command="python -m tests.bench --record",
        machine=machine,
        effort="3 rounds of 2 s",
        dates=dict.fromkeys(loads, date),
        loads=loads,
    )


def test_a_rate_is_the_median_and_cpu_time_the_least() -> None:
    rounds = (
        _round(100, cpu=300e-6, p50=0.003, p99=0.030),
        _round(300, cpu=200e-6, p50=0.001, p99=0.010),
        _round(200, cpu=400e-6, p50=0.002, p99=0.020),
    )
    result = Result(peer=MAILSHED, rounds=rounds)
    assert result.rate == 200
    assert result.cpu_microseconds == pytest.approx(200)
    assert result.p50_milliseconds == pytest.approx(2)
    assert result.p99_milliseconds == pytest.approx(20)


def test_what_nobody_knows_is_no_figure() -> None:
    result = Result(peer="exim", rounds=(_round(cpu=None, p50=None, p99=None),))
    assert result.rate == 1000
    assert result.cpu_microseconds is None
    assert result.p50_milliseconds is None
    assert result.p99_milliseconds is None


def _judged(**loads: Measured) -> dict[tuple[str, str], Target]:
    found = judge({name.replace("_", "-").lstrip("-"): each for name, each in loads.items()})
    return {(each.load, each.name): each for each in found}


def test_rates_are_judged_beside_the_peer() -> None:
    rounds = {HAPROXY: _round(10_000), POSTFIX: _round(500), MAILSHED: _round(6000)}
    found = _judged(_10k_reuse=_measured("10k-reuse", rounds))
    beside_postfix = found["10k-reuse", "rate, times that of postfix"]
    assert beside_postfix.value == pytest.approx(12)
    assert beside_postfix.verdict == "reached"
    beside_haproxy = found["10k-reuse", "rate, times that of haproxy"]
    assert beside_haproxy.value == pytest.approx(0.6)
    assert beside_haproxy.verdict == "MISSED"


def test_cpu_time_is_judged_by_how_much_more_the_peer_takes() -> None:
    rounds = {NAIVE: _round(cpu=600e-6), MAILSHED: _round(cpu=100e-6)}
    found = _judged(_1k_reuse=_measured("1k-reuse", rounds))
    target = found["1k-reuse", "CPU time of naive, times ours"]
    assert target.value == pytest.approx(6)
    assert target.is_reached is True


def test_added_latency_is_a_difference_and_has_to_be_small() -> None:
    slow = {SINK: _round(p99=0.001), MAILSHED: _round(p99=0.0035)}
    name = "p99 more than direct, ms"
    found = _judged(_10k_half=_measured("10k-half", slow))["10k-half", name]
    assert found.value == pytest.approx(2.5)
    assert found.is_reached is False
    fast = {SINK: _round(p99=0.001), MAILSHED: _round(p99=0.0025)}
    assert _judged(_10k_half=_measured("10k-half", fast))["10k-half", name].is_reached is True


def test_a_target_without_figures_stays_in_the_list() -> None:
    nothing, some = judge({}), _judged(_10k_new=_measured("10k-new", {MAILSHED: _round()}))
    assert len(nothing) == len(some)
    assert {each.verdict for each in (*nothing, *some.values())} == {"not measured"}


def test_every_target_is_of_a_load_that_both_sides_get() -> None:
    everything = {
        each.name: _measured(each.name, dict.fromkeys(each.peers, _round())) for each in LOADS
    }
    assert all(each.value is not None for each in judge(everything))


def test_loads_are_known_by_name_and_go_to_peers_there_are() -> None:
    assert len({each.name for each in LOADS}) == len(LOADS)
    assert len({each.title for each in LOADS}) == len(LOADS)
    for each in LOADS:
        assert load(each.name) is each
        assert MAILSHED in each.peers
        assert list(each.peers) == [peer for peer in PEERS if peer in each.peers]
        # What the bench cannot do: the sink has no TLS and cannot be away from itself, and
        # smtp-source has neither TLS nor a rate.
        if each.tls != "none" or each.backend == "away":
            assert SINK not in each.peers
        if each.client == "smtp-source":
            assert each.tls == "none"
            assert not each.is_paced


def test_tables_show_ratios_and_name_who_is_missing() -> None:
    rounds = {HAPROXY: _round(2000, cpu=50e-6), MAILSHED: _round(1000, cpu=100e-6)}
    missing = {"nginx": "nginx is missing; install it with: apt-get install nginx"}
    measured = _measured("1m-reuse", rounds, missing=missing)
    text = report.text(load("1m-reuse"), measured).splitlines()
    assert text[0] == "1m-reuse: 1 MiB, 20 connections, reused"
    assert text[1].split("  ")[0:2] == ["", "peer"]
    assert "MB/s" in text[1]
    assert text[2].split() == [
        *("haproxy", "2,000", "2,097", "50.0", "1.00", "4.00", "0.50x", "2.00x")
    ]
    assert text[4] == f"  without nginx: {missing['nginx']}"
    page = report.markdown(load("1m-reuse"), measured)
    assert "| **mailshed** | **1,000** | **1,049** | **100** |" in page
    assert f"Without nginx: {missing['nginx']}" in page


def test_all_take_the_same_where_the_rate_is_given() -> None:
    rounds = {SINK: _round(500), MAILSHED: _round(499)}
    text = report.text(load("10k-half"), _measured("10k-half", rounds, paced_rate=500.0))
    assert "(500 a second)" in text
    assert text.splitlines()[2].split()[-2:] == ["-", "1.00x"]


def test_targets_are_printed_with_their_verdicts() -> None:
    target = Target(load="10k-half", name="p99 more, ms", value=1.5, limit=2.0, at_most=True)
    assert report.targets_text([target]).split() == [
        *("reached", "10k-half", "p99", "more,", "ms", "1.50", "<=", "2")
    ]
    unknown = replace(target, value=None)
    assert "| 10k-half | p99 more, ms | - | <= 2 | not measured |" in report.targets_markdown(
        [unknown]
    )


def test_a_record_survives_json_and_a_newer_one_replaces_its_loads_only() -> None:
    old = _record(
        {name: _measured(name, {MAILSHED: _round(100)}) for name in ("1k-new", "10k-new")}
    )
    assert Record.from_tree(old.as_tree()) == old
    new = _record({"1k-new": _measured("1k-new", {MAILSHED: _round(200)})}, date="2026-03-02")
    both = new.over(old)
    assert both.dates == {"1k-new": "2026-03-02", "10k-new": "2026-03-01"}
    assert both.loads["1k-new"] == new.loads["1k-new"]
    assert both.loads["10k-new"] == old.loads["10k-new"]
    elsewhere = _record(new.loads, cores=64)
    assert elsewhere.over(old) == elsewhere


def test_a_page_gets_new_tables_between_its_marks() -> None:
    found = _record({"1k-new": _measured("1k-new", {MAILSHED: _round(200)})})
    page = f"Before.\n{record.BEGIN}\nold\n{record.END}\nAfter.\n"
    written = record.rewrite(page, found)
    assert written.startswith(f"Before.\n{record.BEGIN}\n\nRecorded 2026-03-01 by `python -m")
    assert written.endswith(f"{record.END}\nAfter.\n")
    assert "old" not in written
    assert "**1k-new**: 1 KiB, 20 connections, one message each" in written
    assert record.rewrite(written, found) == written


def test_the_page_shows_what_was_recorded() -> None:
    found = record.load()
    assert found is not None
    page = record.PAGE.read_text()
    assert record.rewrite(page, found) == page, "run: python -m tests.bench --record"


def test_plots_of_the_same_figures_are_the_same(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    measured = {
        each.name: _measured(each.name, dict.fromkeys(each.peers, _round(700.0 + len(each.name))))
        for each in LOADS
    }
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        plots.draw(measured, folder)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["cpu.svg", "rates.svg", "ratios.svg"]
    for name in names:
        drawn = (tmp_path / "a" / name).read_bytes()
        assert drawn == (tmp_path / "b" / name).read_bytes()
        assert len(drawn) < 100_000
