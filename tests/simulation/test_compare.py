"""The comparison itself: what is run and measured, and that the page shows what was recorded."""

from dataclasses import replace

import pytest

from mailshed.simulation.controllers.registry import CONTROLLERS
from mailshed.simulation.scenario import Scenario
from tests.simulation import compare, figures, report
from tests.simulation.experiments import EXPERIMENTS, KINDS, Cell, Experiment, matrix
from tests.simulation.worlds import phases, world

QUICK = Experiment(
    name="quick",
    title="a minute of twice the capacity",
    scenario=lambda model: world(
        "quick",
        load=2.0,
        duration=120.0,
        settle=600.0,
        model=model,
        factors=phases((0.0, 30.0, 0.25), (60.0, 120.0, 0.0)),
    ),
    span=(30.0, 60.0),
    controllers=("fixed-20", "fifo", "oracle"),
    healed=60.0,
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> dict[str, compare.Done]:
    """All runs of one quick experiment, by controller."""
    monkeypatch.setitem(EXPERIMENTS, "quick", QUICK)
    cells = [
        Cell(experiment="quick", model="servers", controller=name, seed=1)
        for name in QUICK.controllers
    ]
    return {cell.controller: compare.measure(cell) for cell in cells}


def test_the_matrix_has_controllers_and_servers_that_there_are() -> None:
    cells = list(matrix(2))
    assert len(cells) == len(set(cells))
    for experiment in EXPERIMENTS.values():
        assert set(experiment.controllers) <= set(CONTROLLERS)
        assert set(experiment.models) <= set(KINDS)
        assert "mailshed" in experiment.controllers
        assert "oracle" in experiment.controllers
    assert {cell.controller for cell in cells} == set(CONTROLLERS)
    assert {cell.seed for cell in cells} == {1, 2}


def test_few_seeds_are_a_part_of_many() -> None:
    assert set(matrix(1)) < set(matrix(20))
    assert sum(cell.experiment == "E2" for cell in matrix(20)) == 4 * 5


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_makes_its_scenario(name: str) -> None:
    experiment = EXPERIMENTS[name]
    for model in experiment.models:
        scenario: Scenario = experiment.scenario(KINDS[model])
        start, end = experiment.span
        assert 0 < start < end <= scenario.duration
        assert experiment.healed is None or experiment.healed < scenario.duration + scenario.settle


def test_the_step_is_to_twice_the_capacity() -> None:
    scenario = EXPERIMENTS["E1"].scenario(KINDS["servers"])
    calm = sum(stream.rate for stream in scenario.streams)
    high = sum(stream.rate * stream.factors[0].factor for stream in scenario.streams)
    assert high / calm == pytest.approx(2.0 / 0.6, rel=0.01)


def test_a_run_has_its_figures_and_their_ratio_to_the_oracles(
    quick: dict[str, compare.Done],
) -> None:
    rows = {done.cell: done.figures for done in quick.values()}
    figures.with_ratios(rows)
    oracle, fifo = quick["oracle"].figures, quick["fifo"].figures
    assert oracle["ratio"] == oracle["ratio50"] == 1.0
    assert fifo["ratio"] > 5.0, "clinical mail waits in line"
    assert oracle["work"] == pytest.approx(1.0, abs=0.05)
    assert oracle["limit_min"] == oracle["limit_max"] == 8
    assert 0.9 < oracle["drain"] < 1.3
    assert quick["oracle"].messages == quick["fifo"].messages > 500


def test_a_run_is_a_function_of_its_cell(quick: dict[str, compare.Done]) -> None:
    again = compare.measure(quick["fixed-20"].cell)
    assert replace(again, seconds=0.0).figures == quick["fixed-20"].figures


def test_tables_are_made_of_means_and_worst_seeds(quick: dict[str, compare.Done]) -> None:
    found = compare.document(quick.values(), "by hand")
    text = report.tables(found)
    assert "**quick, servers: a minute of twice the capacity** (1 seeds)" in text
    assert "| oracle | " in text
    assert "by `by hand`: 3 runs" in text
    page = report.rewrite(f"before {report.BEGIN} old {report.END} after", found)
    assert page.startswith(f"before {report.BEGIN}\n\nRecorded")
    assert page.endswith(f"{report.END} after")
    with pytest.raises(AssertionError, match="no mark"):
        report.rewrite("nothing", found)


def test_a_summary_has_mean_least_and_most() -> None:
    found = figures.summary([{"work": 0.9, "drain": 2.0}, {"work": 1.0}])
    assert found == {"work": (0.95, 0.9, 1.0), "drain": (2.0, 2.0, 2.0)}


def test_the_page_shows_the_figures_that_were_recorded() -> None:
    page = report.PAGE.read_text()
    assert page == report.rewrite(page, report.load()), (
        "python -m tests.simulation.compare --record"
    )
