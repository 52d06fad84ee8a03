"""From the file to the scenario."""

from math import inf
from pathlib import Path

import pytest

from mailshed.config.scenario import load_scenario
from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit import FixedLimit
from mailshed.simulation.backends import Backend
from mailshed.simulation.build import limit_of, scenario_of
from mailshed.simulation.engine import Simulation, run
from mailshed.simulation.scenario import MONDAY, Scenario, Server, Stream
from mailshed.terms import ClientKind

ROOT = Path(__file__).parents[3]
TEXT = """\
version: 1
name: whole
start_day: friday
start_time: 8h
duration: 2h
settle: 1h
scale: 2.0
in_flight_max: 12
backend:
  model: contended
  servers: 6
  base: 500ms
  changes:
    - {from: 30m, refusing: true}
streams:
  - name: staff
    class: personal
    per_hour: 1800
    profile: office
    clients: user_agent
    factors:
      - {from: 1h, factor: 3, every: 2h, to: 90m}
  - {name: news, class: bulk, per_hour: 3600, retry_min: 10m, synchronised: true}
  - {name: own, class: bulk, per_hour: 1, profile: [%s]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "scenario.yaml"
    file.write_text(TEXT % ", ".join(str(float(hour)) for hour in range(24)))
    return file


@pytest.fixture
def made(path: Path) -> Scenario:
    return scenario_of(*load_scenario(path))


def stream(made: Scenario, name: str) -> Stream:
    return next(each for each in made.streams if each.name == name)


def test_hours_become_seconds_and_the_scale_counts(made: Scenario) -> None:
    assert stream(made, "staff").rate == 1.0
    assert stream(made, "news").rate == 2.0
    assert (made.duration, made.settle) == (7200.0, 3600.0)


def test_it_begins_on_its_day_and_hour(made: Scenario) -> None:
    assert made.start_wall == MONDAY + 4 * 86400 + 8 * 3600


def test_profiles_are_those_of_a_week(made: Scenario) -> None:
    office = stream(made, "staff").profile
    assert len(office) == 168
    assert (office[7], office[17], office[18], office[5 * 24 + 12]) == (1.0, 1.0, 0.1, 0.1)
    assert stream(made, "news").profile == (1.0,)
    own = stream(made, "own").profile
    assert (len(own), own[3], own[24 + 3]) == (168, 3.0, 3.0)


def test_clients_are_what_they_are_called(made: Scenario) -> None:
    staff, news = stream(made, "staff").client, stream(made, "news").client
    assert (staff.kind, staff.patience) == (ClientKind.USER_AGENT, 100.0)
    assert (news.kind, news.retry_min, news.is_synchronised) == (ClientKind.MTA, 600.0, True)


def test_factors_and_changes_have_their_times(made: Scenario) -> None:
    (factor,) = stream(made, "staff").factors
    assert (factor.start, factor.end, factor.factor, factor.every) == (3600, 5400, 3.0, 7200)
    (change,) = made.backend.changes
    assert (change.start, change.end, change.is_refusing) == (1800.0, inf, True)
    assert (made.backend.server, made.backend.base) == (Server.CONTENDED, 0.5)


def test_rules_are_those_of_the_configuration(path: Path) -> None:
    file, config = load_scenario(path)
    made = scenario_of(file, config)
    assert [each.name for each in made.classes] == [each.name for each in config.classes]
    assert made.spool.lifetime == config.spool.lifetime
    assert made.respond_by == config.limits.respond_by


@pytest.mark.parametrize("configured", ["adaptive", "fixed"])
@pytest.mark.parametrize("limit", ["adaptive", "fixed", None])
def test_the_limit_is_that_of_the_service_unless_it_says_otherwise(
    limit: str | None, configured: str, path: Path
) -> None:
    file, config = load_scenario(path)
    backend = config.backends[0].model_copy(update={"limit": configured})
    config = config.model_copy(update={"backends": (backend,)})
    changed = file.model_copy(update={"limit": limit})
    made = scenario_of(changed, config)
    simulation = Simulation(made, 1, limit_of(changed, config))
    is_adaptive = (limit or configured) == "adaptive"
    assert isinstance(simulation.limit, AdaptiveLimit if is_adaptive else FixedLimit)
    assert isinstance(simulation.backend, Backend)
    assert simulation.limit.ceiling == made.in_flight_max == 12


def test_a_shipped_scenario_runs(path: Path) -> None:
    file, config = load_scenario(ROOT / "config/scenarios/half-capacity.yaml")
    short = file.model_copy(update={"duration": 300.0, "settle": 600.0})
    result = run(scenario_of(short, config), 1, limit=limit_of(short, config))
    assert result.is_drained
    assert result.of_class("clinical").delivered > 10
