"""How full is full: 0 when idle, 1 at the limit, and 1 when the backend is away."""

from hypothesis import given
from hypothesis import strategies as st

from mailshed.control.saturation import Level, disk_level, saturation

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
