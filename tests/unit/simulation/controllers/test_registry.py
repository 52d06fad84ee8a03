"""Every controller by its name, on the same mail."""

import pytest

from mailshed.simulation.controllers.registry import CONTROLLERS, ORACLE, OURS
from tests.simulation.worlds import world


def test_ours_and_the_oracle_are_there() -> None:
    assert {OURS, ORACLE} <= set(CONTROLLERS)
    assert [each.name for each in CONTROLLERS.values()] == list(CONTROLLERS)


def test_only_the_oracle_has_no_thresholds() -> None:
    scenario = world("short", load=1.0, duration=10.0)
    for name, controller in CONTROLLERS.items():
        thresholds = {each.threshold for each in controller.scenario(scenario).classes}
        assert (thresholds == {1.0}) is (name == ORACLE)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_each_handles_the_same_mail(name: str) -> None:
    scenario = world("short", load=0.5, duration=20.0, settle=60.0)
    result = CONTROLLERS[name].run(scenario, 1)
    again = CONTROLLERS[name].run(scenario, 1)
    assert result.to_json() == again.to_json()
    ours = CONTROLLERS[OURS].run(scenario, 1)
    assert [part.offered for part in result.classes] == [part.offered for part in ours.classes]
    assert sum(part.lost for part in result.classes) == 0
