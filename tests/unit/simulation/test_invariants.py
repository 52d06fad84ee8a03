"""Violations say what does not hold, and in which run."""

import pytest

from mailshed.simulation.invariants import Violated, Where, demand


def test_a_demand_that_holds_says_nothing() -> None:
    demand(True, "never said")


def test_one_that_does_not_says_what() -> None:
    with pytest.raises(Violated, match="two and two"):
        demand(False, "two and two")


def test_a_place_names_the_run_and_the_moment() -> None:
    assert str(Where("stall", 7, 12.5)) == "stall, seed 7, after 12.500 s"
