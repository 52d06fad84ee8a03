"""The plot of a simulation, with Matplotlib and without."""

import sys
from pathlib import Path

import pytest

from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.simulation import plot
from mailshed.simulation.engine import fixed, run
from tests.support.simulated import mixed, scenario


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run(scenario(*mixed(2.0), duration=30.0), 1, limit=fixed(4))
    for suffix, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        file = tmp_path / f"plot{suffix}"
        plot.check(file)
        plot.draw(result, file)
        assert file.read_bytes().startswith(magic)


def test_without_matplotlib_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(VerbFailed, match=r"pip install 'mailshed\[plots\]'") as caught:
        plot.check(tmp_path / "plot.png")
    assert caught.value.code is ExitCode.UNAVAILABLE


def test_a_file_that_cannot_be_drawn_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(VerbFailed, match=r"ends in one of \.png, \.svg, \.pdf"):
        plot.check(tmp_path / "plot.jpeg")
    with pytest.raises(VerbFailed, match="no such folder"):
        plot.check(tmp_path / "nowhere" / "plot.png")
