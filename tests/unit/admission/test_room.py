"""Who may start: thresholds, guarantees, reserve, overdraft, elephants."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.admission.room import (
    ELEPHANT_OCTETS,
    Occupancy,
    guaranteed_slots,
    is_elephant,
    is_pressed,
    may_start,
    places_to_wait,
    threshold_slots,
)
from mailshed.terms import TrafficClass
from tests.support.builders import BULK, CLASSES, CLINICAL, PERSONAL, traffic_class

SLIM = traffic_class("slim", 1)
"""A class with a threshold and no guarantee; below eight slots it has none at all."""


def slots(
    in_flight: int = 0,
    limit: int = 20,
    *,
    elephants: int = 0,
    ceiling: int | None = None,
    reserve: int = 0,
) -> Occupancy:
    return Occupancy(in_flight, elephants, limit, ceiling or limit, reserve)


def last_start(made: TrafficClass, limit: int, own: int = 99, **state: int) -> int:
    """The most slots in use at which the class may still start; -1 if it never may."""
    allowed = [
        may_start(made, own, slots(in_flight, limit, **state)) for in_flight in range(limit * 2 + 4)
    ]
    last = allowed.index(False) - 1
    assert not any(allowed[last + 1 :]), "more room with more in flight"
    return last


# Thresholds.


@pytest.mark.parametrize(
    ("threshold", "limit", "last"),
    [
        (1.0, 20, 19),
        (0.95, 20, 18),
        (0.6, 20, 11),
        (0.6, 1, 0),
        (0.6, 2, 1),
        (0.01, 20, 0),
        (1.0, 1, 0),
        (0.55, 20, 10),  # 11.000000000000002 in floating point
        (0.07, 100, 6),  # 7.000000000000001
        (0.29, 100, 28),  # 28.999999999999996
    ],
)
def test_a_class_may_start_while_the_slots_in_use_stay_below_its_share(
    threshold: float, limit: int, last: int
) -> None:
    assert last_start(traffic_class(threshold=threshold), limit) == last


def test_where_slots_come_back_fast_no_class_is_kept_from_the_last_ones() -> None:
    slow, brisk = slots(19), slots(19)._replace(is_brisk=True)
    assert not may_start(BULK, 19, slow)
    assert may_start(BULK, 19, brisk)
    assert not may_start(BULK, 19, brisk._replace(reserve=1)), "the reserve is another matter"
    assert threshold_slots(BULK, 20, 3, is_brisk=True) == 17
    assert threshold_slots(CLINICAL, 20, 3, is_brisk=True) == 20


@given(st.integers(1, 100), st.integers(1, 500), st.integers(0, 600))
def test_shares_are_exact_for_thresholds_as_people_write_them(
    percent: int, limit: int, in_flight: int
) -> None:
    threshold = Decimal(percent) / 100
    expected = in_flight == 0 or in_flight < threshold * limit
    made = traffic_class(threshold=float(threshold))
    assert may_start(made, 99, slots(in_flight, limit)) == expected


@given(
    st.sampled_from(CLASSES),
    st.integers(1, 30),
    st.integers(0, 15),
    st.integers(0, 99),
    st.booleans(),
)
def test_an_idle_backend_takes_anything(
    made: TrafficClass, limit: int, reserve: int, own: int, is_large: bool
) -> None:
    assert may_start(made, own, slots(0, limit, reserve=reserve), is_large=is_large)


# Guarantees.


def test_a_guarantee_holds_whatever_the_others_have() -> None:
    made = traffic_class(threshold=0.5, guarantee=0.2)
    assert [may_start(made, own, slots(19)) for own in range(6)] == [True] * 4 + [False] * 2
    assert not may_start(made, 0, slots(20)), "a slot there is not cannot be guaranteed"


def test_from_eight_slots_on_every_class_has_one() -> None:
    assert [guaranteed_slots(BULK, limit) for limit in (1, 7, 8, 200)] == [0, 0, 1, 1]
    assert may_start(BULK, 0, slots(7, 8))
    assert not may_start(BULK, 1, slots(7, 8))
    assert not may_start(BULK, 0, slots(6, 7))


def test_a_class_that_starves_has_one_slot_however_few_there_are() -> None:
    assert may_start(BULK, 0, slots(3, 4), is_starving=True)
    assert not may_start(BULK, 1, slots(3, 4), is_starving=True)
    assert not may_start(BULK, 0, slots(4, 4), is_starving=True)


def test_guarantees_are_exact_too() -> None:
    assert guaranteed_slots(traffic_class(guarantee=0.29), 100) == 29


# The reserve.


def test_the_reserve_is_kept_from_all_but_rank_0() -> None:
    assert last_start(SLIM, 20, reserve=3) == 16
    assert last_start(PERSONAL, 20, reserve=3) == 15, "of its 19 slots"
    assert last_start(CLINICAL, 20, reserve=3) == 19


def test_guarantees_do_not_reach_into_the_reserve() -> None:
    made = traffic_class(threshold=0.1, guarantee=0.5)
    assert last_start(made, 20, own=0, reserve=3) == 16


# Overdraft.


@pytest.mark.parametrize(
    ("limit", "ceiling", "last"),
    [
        (20, 20, 19),  # a fixed limit is its own ceiling
        (20, 100, 24),  # a quarter more
        (4, 100, 5),  # two more at least
        (1, 2, 1),
        (20, 22, 21),
    ],
)
def test_rank_0_may_overdraw_the_limit_up_to_the_ceiling(
    limit: int, ceiling: int, last: int
) -> None:
    assert last_start(CLINICAL, limit, ceiling=ceiling) == last
    assert last_start(SLIM, limit, ceiling=ceiling) == limit - 1


# Elephants.


def test_elephants_have_a_quarter_of_the_slots() -> None:
    allowed = [
        may_start(SLIM, 0, slots(10, elephants=number), is_large=True) for number in range(7)
    ]
    assert allowed == [True] * 5 + [False] * 2
    assert may_start(SLIM, 0, slots(10, elephants=5)), "others are not held back"
    assert may_start(CLINICAL, 0, slots(10, elephants=5), is_large=True)


def test_of_few_slots_one_may_be_an_elephant_s() -> None:
    assert may_start(SLIM, 0, slots(1, 3), is_large=True)
    assert not may_start(SLIM, 0, slots(1, 3, elephants=1), is_large=True)


def test_what_an_elephant_is() -> None:
    assert not is_elephant(ELEPHANT_OCTETS)
    assert is_elephant(ELEPHANT_OCTETS + 1)


# Ordered classes are ordered here.

states = st.builds(
    slots,
    st.integers(0, 60),
    st.integers(1, 50),
    elephants=st.integers(0, 20),
    ceiling=st.integers(50, 80),
    reserve=st.integers(0, 25),
)


@given(states, st.booleans())
def test_without_its_guarantee_no_class_has_more_room_than_a_better_one(
    state: Occupancy, is_large: bool
) -> None:
    may = [may_start(each, 99, state, is_large=is_large) for each in CLASSES]
    assert may == sorted(may, reverse=True)


@given(states, st.sampled_from(CLASSES[1:]), st.integers(0, 60), st.booleans())
def test_only_rank_0_may_have_the_last_slots(
    state: Occupancy, made: TrafficClass, own: int, is_starving: bool
) -> None:
    if state.in_flight > 0 and may_start(made, own, state, is_starving=is_starving):
        assert state.in_flight < state.limit - state.reserve or state.in_flight == 0
        assert may_start(CLINICAL, 0, state)


# What goes by the same counts.


def test_pressure_is_most_slots_in_use_or_somebody_waiting() -> None:
    assert not is_pressed(14, 20, 0)
    assert is_pressed(15, 20, 0)
    assert is_pressed(0, 20, 1)


def test_half_as_many_as_there_are_slots_may_wait() -> None:
    assert [places_to_wait(limit) for limit in (1, 8, 9, 20, 200)] == [4, 4, 4, 10, 100]


def test_up_to_which_slot_a_class_may_start_can_be_shown() -> None:
    assert threshold_slots(CLINICAL, 20, 3) == 20
    assert threshold_slots(SLIM, 20, 3) == 17
