"""The bench itself works: peers pass mail on, and the figures come out as table and JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bench.__main__ import main
from tests.bench.loads import HAPROXY, LOADS, MAILSHED, NAIVE, POSTFIX, SINK, Load, load
from tests.bench.measure import Effort, measure
from tests.bench.record import Record
from tests.bench.results import Measured
from tests.bench.tools import build_or_skip
from tests.support.debian import require, require_root

_PEERS = (SINK, HAPROXY, POSTFIX, NAIVE, MAILSHED)
_LOADS = ("10k-reuse", "10k-tls-new", "10k-away", "10k-half")


def test_a_quick_bench_measures_and_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_or_skip()
    require_root()
    require("postfix")
    require("haproxy")
    arguments = ["--quick", "--json", str(tmp_path / "all.json")]
    arguments += [word for name in _LOADS for word in ("--load", name)]
    arguments += [word for name in _PEERS for word in ("--peer", name)]

    assert main(arguments) == 0

    found = Record.from_tree(json.loads((tmp_path / "all.json").read_text()))
    assert set(found.loads) == set(_LOADS)
    text = capsys.readouterr().out
    for name, measured in found.loads.items():
        wanted = [peer for peer in load(name).peers if peer in _PEERS]
        assert [each.peer for each in measured.results] == wanted
        assert not measured.missing
        assert all(each.rate > 0 for each in measured.results)
        assert f"{name}: {load(name).title}" in text
    assert found.loads["10k-half"].paced_rate
    assert "10k-reuse         rate, times that of postfix" in text
    assert "not measured  25m-reuse" in text


def test_a_load_that_fails_is_named_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build_or_skip()
    first, second = LOADS[0].name, LOADS[1].name

    def fail_first(wanted: Load, peers: Sequence[str], effort: Effort) -> Measured:
        assert wanted.name != first, "the sink lacks 3 messages"
        return measure(wanted, peers, effort)

    monkeypatch.setattr("tests.bench.__main__.measure", fail_first)
    status = main(["--quick", "--load", first, "--load", second, "--peer", SINK])

    assert status == 1
    text = capsys.readouterr().out
    assert f"{first} FAILED: the sink lacks 3 messages" in text
    assert f"{second}: {LOADS[1].title}" in text
