"""The bench of one process works: it measures, tells and judges."""

import json
from pathlib import Path

import pytest

from tests.bench.process import report
from tests.bench.process.__main__ import main
from tests.bench.process.blocks import Beat, Blocks
from tests.bench.process.idle import Idle
from tests.bench.process.memory import Large, Peak, TlsRest
from tests.bench.process.place import SPILL
from tests.bench.process.targets import judge_blocks, judge_idle, judge_large, judge_tls
from tests.bench.tools import build_or_skip
from tests.support.debian import require

MEBIBYTE = 1024 * 1024


def test_a_quick_bench_measures_and_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_or_skip()
    require("openssl")
    file = tmp_path / "all.json"
    loads = ("coming", "stored", "drained")
    words = ["--quick", "--stacks", "--json", str(file)]
    words += [word for load in loads for word in ("--load", load)]

    assert main(words) in (0, 1)

    found = json.loads(file.read_text())
    assert [each["load"] for each in found["loop"]] == list(loads)
    assert all(each["seconds"] > 0 for each in found["loop"])
    text = capsys.readouterr().out
    assert "loop   drained, ms:" in text


def beat(late: float, ran: float, queued: float) -> Beat:
    return Beat(at=1.0, late=late, ran=ran, queued=queued, collected=0.0, seen=["here"])


def blocks(*beats: Beat) -> Blocks:
    return Blocks(load="letters", text="10 KiB", seconds=5.0, late=beats)


def test_what_the_machine_took_is_no_block() -> None:
    found = blocks(beat(0.050, 0.002, 0.045), beat(0.019, 0.019, 0.0), beat(0.012, 0.001, 0.0))
    assert found.worst == found.late[1]
    assert found.latest == 0.050
    assert not found.over
    (target,) = judge_blocks([found])
    assert target.value == pytest.approx(19.0)
    assert target.verdict == "reached"


def test_what_the_loop_ran_or_waited_for_is() -> None:
    found = blocks(beat(0.030, 0.030, 0.0), beat(0.031, 0.001, 0.005))
    assert found.over == list(found.late)
    (target,) = judge_blocks([found])
    assert target.verdict == "MISSED"
    text = report.blocks([found]) + report.stacks([found])
    assert "letters: 30.0 ms, 0.0 of them waited" in text
    assert "letters: 26.0 ms, 25.0 of them waited" in text
    (row,) = [line for line in text.splitlines() if line.startswith("  letters")]
    assert row.split()[1:7] == ["30.0", "30.0", "0.0", "2", "0.0", "31.0"]


def test_a_load_in_which_nothing_was_late_has_a_row() -> None:
    (target,) = judge_blocks([blocks()])
    assert target.value == 0.0
    (row,) = [line for line in report.blocks([blocks()]).splitlines() if "letters" in line]
    assert row.split()[1:5] == ["0.0", "0.0", "0.0", "0"]


def test_idle_sessions_are_judged_by_memory_and_by_the_mail_beside_them() -> None:
    found = Idle(
        sessions=10_000,
        rest=60 * MEBIBYTE,
        resident=257 * MEBIBYTE,
        left=70 * MEBIBYTE,
        messages=100,
        p50_alone=0.002,
        p50_beside=0.002,
        p99_alone=0.004,
        p99_beside=0.006,
    )
    memory, delay = judge_idle(found)
    assert (memory.value, memory.verdict) == (257.0, "MISSED")
    assert delay.value == pytest.approx(1.5)
    assert delay.verdict == "reached"
    assert "10,000 idle sessions:" in report.idle(found)


def test_a_large_message_may_have_what_the_spill_limit_allows_and_one_mebibyte() -> None:
    rest = 60 * MEBIBYTE
    most = SPILL + MEBIBYTE
    peaks = [
        Peak(way="plain", messages=8, rest=rest, peak=rest + 8 * most),
        Peak(way="spooled", messages=8, rest=rest, peak=rest + 9 * most),
    ]
    found = Large(peaks=peaks, rest=rest, left=rest)
    assert [each.verdict for each in judge_large(found)] == ["reached", "MISSED"]
    assert "passed on and forgotten: 60.0 MiB" in report.large(found)


def test_plain_sessions_are_beside_those_under_tls_and_not_judged() -> None:
    found = [
        TlsRest(way="plain", sessions=10, octets=9e3),
        TlsRest(way="starttls", sessions=10, octets=40e3),
        TlsRest(way="implicit", sessions=10, octets=50e3),
    ]
    assert [each.verdict for each in judge_tls(found)] == ["reached", "MISSED"]
    assert report.tls(found).count("\n") == 4
