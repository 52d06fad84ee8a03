"""How full is full: 0 when idle, 1 at the limit, and 1 when the backend is away."""

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.control.saturation import (
    USED_UP,
    Level,
    age_ratio,
    backend_saturation,
    binding,
    disk_level,
    saturation,
    wait_ratio,
)

AMOUNTS = st.floats(0, 1e9)
LIMITS = st.floats(1e-3, 1e9)
LEVELS = st.dictionaries(
    st.sampled_from(["backend_slots", "sessions", "spool_bytes", "event_loop"]),
    st.builds(Level, AMOUNTS, LIMITS),
)


@given(LEVELS, st.booleans())
def test_says_something_of_each_resource_and_of_no_other(
    levels: dict[str, Level], is_away: bool
) -> None:
    ratios = saturation(levels, is_backend_away=is_away)
    assert list(ratios) == list(levels)
    assert all(ratio >= 0 for ratio in ratios.values())


@given(st.dictionaries(st.text(), st.builds(Level, st.just(0.0), AMOUNTS)))
def test_is_0_when_idle(levels: dict[str, Level]) -> None:
    assert set(saturation(levels, is_backend_away=False).values()) <= {0.0}


@given(LIMITS)
def test_is_1_at_the_limit_and_not_clipped_above(limit: float) -> None:
    levels = {"spool_bytes": Level(limit, limit), "sessions": Level(2 * limit, limit)}
    assert saturation(levels, is_backend_away=False) == {"spool_bytes": 1.0, "sessions": 2.0}


@given(LEVELS)
def test_slots_are_at_least_full_when_the_backend_is_away_and_nothing_else_changes(
    levels: dict[str, Level],
) -> None:
    here = saturation(levels, is_backend_away=False)
    away = saturation(levels, is_backend_away=True)
    if "backend_slots" in levels:
        assert away.pop("backend_slots") == max(1.0, here.pop("backend_slots"))
    assert away == here


@given(LIMITS, AMOUNTS, AMOUNTS)
def test_more_use_is_never_less_saturation(limit: float, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert Level(less, limit).ratio <= Level(more, limit).ratio


@given(LIMITS, AMOUNTS, AMOUNTS)
def test_less_free_disk_is_never_less_saturation(reserve: float, one: float, other: float) -> None:
    less, more = sorted((one, other))
    levels = [disk_level(free=free, reserve=reserve).ratio for free in (more, less)]
    assert 0 <= levels[0] <= levels[1] <= 1


def test_disk_is_full_from_the_reserve_downwards() -> None:
    assert [disk_level(free=free, reserve=10).ratio for free in (1000, 20, 10, 3, 0)] == [
        *(0.01, 0.5, 1.0, 1.0, 1.0)
    ]
    assert disk_level(free=0, reserve=0).ratio == 0


def test_a_resource_without_room_is_full_once_it_is_asked_for() -> None:
    assert Level(0, 0).ratio == 0.0
    assert Level(1, 0).ratio == 1.0


USES = st.floats(0, 1.5)
OFFERED = st.none() | st.floats(0, 10)
QUEUE = st.floats(0, 100)
QUEUES = st.none() | QUEUE
HIGH = st.floats(0.5, 50)


def of_backend(
    use: float, offered: float | None = None, queue: float | None = None, high: float = 6.0
) -> float:
    return backend_saturation(use=use, offered=offered, queue=queue, queue_high=high)


@given(USES, OFFERED, QUEUES, HIGH)
def test_a_backend_is_between_idle_and_full(
    use: float, offered: float | None, queue: float | None, high: float
) -> None:
    assert 0.0 <= of_backend(use, offered, queue, high) <= 1.0
    assert of_backend(0.0, offered, queue, high) == 0.0


@given(st.tuples(USES, USES), st.tuples(*[st.floats(0, 10)] * 2), st.tuples(*[QUEUE] * 2), HIGH)
def test_more_of_anything_is_never_less_saturation_of_the_backend(
    uses: tuple[float, float],
    offers: tuple[float, float],
    queues: tuple[float, float],
    high: float,
) -> None:
    low = of_backend(min(uses), min(offers), min(queues), high)
    assert low <= of_backend(max(uses), max(offers), max(queues), high)


@given(st.floats(1, 10), QUEUES, HIGH)
def test_a_backend_that_is_offered_all_it_can_do_is_full_at_full_use(
    offered: float, queue: float | None, high: float
) -> None:
    assert of_backend(1.0, offered, queue, high) == 1.0


@given(USES, st.floats(0, 3), st.floats(0, 20), st.sampled_from([1e-6, -1e-6]))
def test_a_backend_has_no_jumps(use: float, offered: float, queue: float, by: float) -> None:
    here = of_backend(use, offered, queue)
    there = of_backend(max(0.0, use + by), max(0.0, offered + by), max(0.0, queue + by))
    assert there == pytest.approx(here, abs=2e-3)


def test_the_queue_against_its_target_is_what_counts_where_the_offer_is_less() -> None:
    assert of_backend(1.0, 0.5, 3.0, 6.0) == 0.5
    assert of_backend(0.25, 0.2, 6.0, 6.0) == 0.5
    assert of_backend(1.0, None, 3.0, 6.0) == 0.5
    assert of_backend(1.0, 0.8, None, 6.0) == 0.8


def test_of_an_unknown_backend_the_use_alone_counts() -> None:
    assert of_backend(0.64) == pytest.approx(0.64 * sqrt(0.64))
    assert of_backend(1.0) == 1.0


def test_waits_are_full_at_two_targets_and_nothing_without_one() -> None:
    assert wait_ratio(0.5, 0.5) == 0.5
    assert wait_ratio(1.0, 0.5) == 1.0
    assert wait_ratio(9.0, None) == wait_ratio(9.0, 0.0) == 0.0


def test_spooled_mail_is_too_old_at_four_objectives() -> None:
    assert age_ratio(0.0, 10.0) == 0.0
    assert age_ratio(20.0, 10.0) == 0.5
    assert age_ratio(80.0, 10.0) == 2.0


def test_what_is_there_to_be_used_up_does_not_bind() -> None:
    ratios = dict.fromkeys(USED_UP, 1.0) | {"spool_disk": 0.3, "backend": 0.3, "sessions": 0.1}
    assert binding(ratios) == "spool_disk", "the first of equals"
    assert binding(dict.fromkeys(USED_UP, 1.0)) is None
