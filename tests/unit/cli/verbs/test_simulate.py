"""`mailshed simulate`, from the file to the table."""

import json
import sys
from pathlib import Path

import pytest

from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.main import main

TEXT = """\
version: 1
name: a busy minute
duration: 60s
settle: 10m
limit: fixed
in_flight_max: 4
backend: {servers: 4, base: 1s}
streams:
  - {name: laboratory, class: clinical, per_hour: 3600, sizes: {largest: 1MiB}}
  - {name: news, class: bulk, per_hour: 20000}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "scenario.yaml"
    made.write_text(TEXT)
    return made


def test_prints_a_table_and_no_bar_where_nobody_looks(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", str(file)]) == ExitCode.OK
    captured = capsys.readouterr()
    assert captured.out.startswith("a busy minute (seed 1): ")
    assert "clinical" in captured.out
    assert captured.err == ""


def test_the_same_seed_gives_the_same_document(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for seed in ("3", "3", "4"):
        assert main(["simulate", str(file), "--seed", seed, "--json"]) == ExitCode.OK
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]
    assert json.loads(outputs[0])["seed"] == 3


def test_faults_of_the_file_exit_78(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(TEXT.replace("bulk", "bukl"))
    assert main(["simulate", str(file)]) == ExitCode.CONFIG
    said = capsys.readouterr().err
    assert f"{file}:10:" in said
    assert 'streams[1].class: no such class, did you mean "bulk"?' in said


def test_a_plot_without_its_library_fails_at_once(
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["simulate", str(file), "--plot", str(tmp_path / "x.png")]) == ExitCode.UNAVAILABLE
    captured = capsys.readouterr()
    assert "pip install 'mailshed[plots]'" in captured.err
    assert captured.out == ""


def test_a_plot_is_drawn_beside_the_table(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert main(["simulate", str(file), "--plot", str(tmp_path / "x.svg")]) == ExitCode.OK
    assert (tmp_path / "x.svg").stat().st_size > 1000
    assert "clinical" in capsys.readouterr().out
