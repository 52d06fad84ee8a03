"""Overrides over a restart: what was written is read, what is not ours is refused."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.control.override_document import from_document, to_document
from mailshed.control.overrides import (
    CLOCK_SLACK,
    OVERRIDES_MAX,
    SECONDS_MAX,
    Overrides,
    Wish,
)
from mailshed.errors import StateError
from tests.support.builders import CLASSES
from tests.support.overrides import hold, level, limit

NOW, WALL = 50.0, 1_700_000_000.0
HOUR = 3600.0
ONE_HOUR = replace(hold("bulk"), seconds=HOUR)


def add(overrides: Overrides, *wishes: Wish, wall: float = WALL) -> Overrides:
    for wish in wishes:
        overrides = overrides.add(
            wish, CLASSES, user="dupont", request="77aa", now=NOW, wall=wall
        ).overrides
    return overrides


def of(*wishes: Wish) -> Overrides:
    return add(Overrides(), *wishes)


def restarted(overrides: Overrides, now: float, wall: float) -> Overrides:
    """What a new process finds, through a file."""
    text = json.dumps(to_document(overrides), allow_nan=False)
    return from_document(json.loads(text), now, wall)


class TestSurvival:
    def test_a_restart_changes_nothing_but_the_monotonic_time(self) -> None:
        made = of(limit("bulk", 2), level(4), hold("telework"))
        again = restarted(made, 7.0, WALL + 600)

        assert again.last_number == 3
        assert again.in_force == tuple(
            replace(each, ends_at=7.0 + 2 * HOUR - 600) for each in made.in_force
        )

    def test_numbers_go_on_after_a_restart(self) -> None:
        made = of(hold("bulk"), level(2))
        again = restarted(made.without(made.in_force), 0.0, WALL)

        assert add(again, hold("bulk")).in_force[0].number == 3

    def test_what_has_ended_meanwhile_ends(self) -> None:
        again = restarted(of(ONE_HOUR), 0.0, WALL + HOUR + 1)

        assert len(again.expire(0.0, WALL + HOUR + 1).ended) == 1

    def test_no_restart_in_a_clock_that_was_set_back_gives_more_than_was_asked_for(self) -> None:
        again = restarted(of(ONE_HOUR), 0.0, WALL - 30 * 86400)

        assert again.in_force[0].left(0.0, WALL - 30 * 86400) == HOUR

    def test_the_longest_one_survives(self) -> None:
        made = add(Overrides(), replace(ONE_HOUR, seconds=SECONDS_MAX), wall=WALL + 0.1234567)

        assert restarted(made, 0.0, WALL + 1).held == {"bulk"}

    @pytest.mark.parametrize(
        "damage",
        [
            {"version": 2},
            {"version": None},
            {"last_number": -1},
            {"last_number": True},
            {"in_force": {}},
            {"in_force": [{}]},
            {"in_force": [None]},
            {"in_force": "all"},
        ],
    )
    def test_a_document_that_is_not_ours_is_refused(self, damage: dict[str, Any]) -> None:
        with pytest.raises(StateError, match="make no sense"):
            from_document({**to_document(of(ONE_HOUR)), **damage}, 0.0, WALL)

    @pytest.mark.parametrize(
        "damage",
        [
            {"kind": "eternal"},
            {"number": 0.5},
            {"value": -3},
            {"seconds": 1e9},
            {"seconds": "long"},
            {"since": float("inf")},
            {"since": -1},
            {"reason": ""},
            {"reason": "\n"},
            {"kind": "level", "value": 7},
        ],
    )
    def test_a_record_that_is_not_ours_is_refused(self, damage: dict[str, Any]) -> None:
        document = to_document(of(ONE_HOUR))
        document["in_force"][0].update(damage)

        with pytest.raises(StateError, match="make no sense"):
            from_document(document, 0.0, WALL)

    def test_a_record_without_a_part_is_refused(self) -> None:
        for name in to_document(of(ONE_HOUR))["in_force"][0]:
            document = to_document(of(ONE_HOUR))
            del document["in_force"][0][name]
            with pytest.raises(StateError):
                from_document(document, 0.0, WALL)

    @pytest.mark.parametrize("copies", [2, OVERRIDES_MAX + 1])
    def test_the_same_twice_or_too_many_are_refused(self, copies: int) -> None:
        document = to_document(of(ONE_HOUR))
        document["in_force"] *= copies

        with pytest.raises(StateError):
            from_document(document, 0.0, WALL)

    def test_two_of_one_number_are_refused(self) -> None:
        document = to_document(of(hold("bulk"), level(2)))
        document["in_force"][1]["number"] = 1

        with pytest.raises(StateError):
            from_document(document, 0.0, WALL)


@given(
    seconds=st.floats(1.0, SECONDS_MAX),
    steps=st.lists(
        st.tuples(st.floats(0.0, HOUR), st.floats(-1e6, 1e6), st.booleans()), max_size=30
    ),
)
def test_nothing_lasts_longer_than_it_was_to_whatever_the_clock_does(
    seconds: float, steps: list[tuple[float, float, bool]]
) -> None:
    """The clock is set, time passes, the service restarts: what is left is never more than before.

    A restart may give back as much as the clocks may differ without being noticed.
    """
    overrides = of(replace(ONE_HOUR, seconds=seconds))
    now, wall, most = NOW, WALL, seconds
    for passes, jump, is_restart in steps:
        now, wall, most = now + passes, max(0.0, wall + passes + jump), most - passes
        overrides = overrides.expire(now, wall).overrides
        if is_restart:
            now, most = 0.0, most + CLOCK_SLACK
            overrides = restarted(overrides, now, wall).expire(now, wall).overrides
        if not overrides:
            return
        (override,) = overrides.in_force
        assert override.left(now, wall) <= most + 0.01
