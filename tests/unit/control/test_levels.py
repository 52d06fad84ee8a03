"""The shed level: what the pressure says, as far as it is true; what a forced one keeps back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.control.levels import GAP, MARKS, derive, level_of, reach, waits_at
from mailshed.terms import ShedLevel
from tests.support.builders import traffic_class

CLINICAL = traffic_class("clinical", 0)
CONTINUITY = traffic_class("continuity", 1)
PERSONAL = traffic_class("personal", 1, waits_at_level=4)
TELEWORK = traffic_class("telework", 4, waits_at_level=3)
BULK = traffic_class("bulk", 5, waits_at_level=2)
CLASSES = (CLINICAL, CONTINUITY, PERSONAL, TELEWORK, BULK)

PRESSURES = st.floats(0, 1)
LEVELS = st.sampled_from(ShedLevel)


@pytest.mark.parametrize(
    ("pressure", "level"),
    [(0.0, 0), (0.49, 0), (0.5, 1), (0.69, 1), (0.7, 2), (0.85, 3), (0.94, 3), (0.95, 4), (1.0, 4)],
)
def test_levels_begin_at_their_marks(pressure: float, level: int) -> None:
    assert level_of(pressure, ShedLevel.NORMAL) == level


@pytest.mark.parametrize(
    ("pressure", "level"),
    [
        (0.95, 4),
        (0.75, 4),
        (0.74, 3),
        (0.65, 3),
        (0.64, 2),
        (0.5, 2),
        (0.49, 1),
        (0.3, 1),
        (0.29, 0),
    ],
)
def test_levels_end_below_their_marks(pressure: float, level: int) -> None:
    assert level_of(pressure, ShedLevel.MOST_WAITS) == level


@given(PRESSURES, PRESSURES, LEVELS)
def test_more_pressure_is_never_a_lower_level(one: float, other: float, before: ShedLevel) -> None:
    less, more = sorted((one, other))
    assert level_of(less, before) <= level_of(more, before)


@given(PRESSURES, st.floats(0, GAP - 0.01), LEVELS)
def test_a_pressure_that_wavers_by_less_than_the_gap_settles(
    pressure: float, by: float, before: ShedLevel
) -> None:
    high = min(1.0, pressure + by)
    level = level_of(high, level_of(pressure, before))
    for _ in range(3):
        assert level_of(pressure, level) == level
        level = level_of(high, level)


def test_the_levels_have_marks_in_their_order() -> None:
    assert list(MARKS) == list(ShedLevel)[1:]
    assert list(MARKS.values()) == sorted(MARKS.values())


def test_the_level_says_no_more_than_what_is() -> None:
    """A flood of bulk mail is full pressure, and personal mail passes."""
    assert reach(CLASSES, {"bulk"}, is_away=False) is ShedLevel.BULK_WAITS
    assert derive(1.0, ShedLevel.NORMAL, ShedLevel.BULK_WAITS) is ShedLevel.BULK_WAITS
    assert reach(CLASSES, {"bulk", "telework"}, is_away=False) is ShedLevel.WORK_WAITS
    assert reach(CLASSES, {"personal"}, is_away=False) is ShedLevel.MOST_WAITS
    assert derive(1.0, ShedLevel.NORMAL, ShedLevel.MOST_WAITS) is ShedLevel.MOST_WAITS


def test_a_class_that_waits_at_no_level_raises_none() -> None:
    assert reach(CLASSES, {"continuity"}, is_away=False) is ShedLevel.BULK_WAITS
    assert reach((), (), is_away=False) is ShedLevel.BULK_WAITS


def test_all_levels_are_true_of_a_backend_that_is_away() -> None:
    assert reach(CLASSES, (), is_away=True) is ShedLevel.MOST_WAITS


@given(PRESSURES, LEVELS, LEVELS)
def test_the_level_is_never_above_what_the_pressure_says(
    pressure: float, before: ShedLevel, reached: ShedLevel
) -> None:
    assert derive(pressure, before, reached) <= level_of(pressure, before)


@pytest.mark.parametrize(
    ("level", "waiting"),
    [
        (None, ()),
        (0, ()),
        (1, ()),
        (2, ("bulk",)),
        (3, ("telework", "bulk")),
        (4, ("personal", "telework", "bulk")),
    ],
)
def test_a_forced_level_keeps_its_classes_back(level: int | None, waiting: tuple[str, ...]) -> None:
    assert tuple(each.name for each in CLASSES if waits_at(each, level)) == waiting


def test_the_first_rank_is_kept_back_by_none() -> None:
    assert not waits_at(traffic_class("clinical", 0, waits_at_level=2), 4)
