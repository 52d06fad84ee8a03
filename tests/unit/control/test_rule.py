"""What one window says about the limit."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.control.rule import (
    BUSY_SHARE,
    CUT,
    EASE,
    GROWTH_USED,
    SLOW_START,
    Cause,
    Observation,
    Verdict,
    judge,
    targets,
)

CALM = Observation(
    limit=20.0,
    x=1.05,
    error=0.0,
    tail=2.0,
    tail_usual=2.0,
    in_flight=20.0,
    in_flight_max=20,
    was_backlogged=True,
    busy=0.0,
    first_slow=0.0,
    is_delayed=False,
)


def verdict(seen: Observation, *, factor: float = 1.0, is_slow_start: bool = False) -> Verdict:
    """With clinical mail to take no more than 5 s."""
    return judge(seen, factor=factor, response_max=5.0, is_slow_start=is_slow_start)


def test_the_queue_is_what_littles_law_leaves_over() -> None:
    assert verdict(replace(CALM, x=2.0)).queue == 10.0
    assert verdict(replace(CALM, x=0.5)).queue == 0.0


def test_without_a_queue_it_grows() -> None:
    assert verdict(CALM).cause is Cause.ROOM
    assert verdict(CALM).factor == pytest.approx(1.05)
    assert verdict(replace(CALM, limit=4.0, in_flight=4.0, in_flight_max=4)).factor == 1.25
    few = replace(CALM, limit=4.0, in_flight=4.0, in_flight_max=4)
    fast = verdict(few, is_slow_start=True)
    assert (fast.factor, fast.cause, fast.may_grow_on) == (SLOW_START, Cause.SLOW_START, True)


def test_it_grows_no_further_than_what_is_used_bears_out() -> None:
    """What was let in and has not come yet would come all at once."""
    fast = verdict(CALM, is_slow_start=True)
    assert fast.factor * CALM.limit == pytest.approx(20 / GROWTH_USED + 1)
    assert verdict(replace(CALM, in_flight_max=14)).cause is None


@pytest.mark.parametrize(
    ("x", "factor", "cause"),
    [
        (1.14, 1.05, Cause.ROOM),
        (1.15, 1.0, None),
        (1.33, 1.0, None),
        (1.34, EASE, Cause.QUEUE),
        (1.99, EASE, Cause.QUEUE),
        (2.01, CUT, Cause.QUEUE),
    ],
)
def test_between_the_targets_it_is_left_alone(x: float, factor: float, cause: Cause | None) -> None:
    """With 20 in flight the targets are 2.5 and 5 messages."""
    found = verdict(replace(CALM, x=x))
    assert found.factor == pytest.approx(factor)
    assert found.cause is cause


def test_large_limits_have_targets_by_share() -> None:
    assert targets(20.0, 1.0) == (2.5, 5.0)
    assert targets(200.0, 1.0) == (20.0, 40.0)
    assert targets(200.0, 2.0) == (40.0, 80.0)
    assert targets(20.0, 0.5) == (2.0, 4.0), "the shares are not halved"


def test_samples_that_scatter_are_no_reason_to_cut() -> None:
    assert verdict(replace(CALM, x=1.6)).cause is Cause.QUEUE
    assert verdict(replace(CALM, x=1.6, error=0.3)).cause is None


@pytest.mark.parametrize(
    "changes",
    [
        {"in_flight_max": 15, "was_backlogged": False},
        {"in_flight_max": 9},
        {"tail": 6.5},
        {"busy": 0.01},
        {"is_delayed": True},
    ],
)
def test_what_keeps_it_from_growing(changes: dict[str, float]) -> None:
    found = verdict(replace(CALM, **changes))  # type: ignore[arg-type]
    assert (found.factor, found.cause) == (1.0, None)


def test_a_class_that_may_not_use_the_last_slots_uses_it_all_the_same() -> None:
    assert verdict(replace(CALM, in_flight_max=15)).cause is Cause.ROOM


def test_a_tail_that_is_usual_is_no_reason() -> None:
    assert verdict(replace(CALM, tail=12.0, tail_usual=8.0)).cause is Cause.ROOM


def test_a_backend_without_room_is_believed() -> None:
    assert verdict(replace(CALM, busy=BUSY_SHARE)).cause is None
    found = verdict(replace(CALM, busy=0.2))
    assert (found.factor, found.cause) == (CUT, Cause.BUSY)


def test_the_absolute_rule_needs_a_slow_backend() -> None:
    assert verdict(replace(CALM, first_slow=9.0)).cause is Cause.ROOM
    slow = replace(CALM, x=1.3, first_slow=9.0)
    assert (verdict(slow).factor, verdict(slow).cause) == (CUT, Cause.RESPONSE)
    assert verdict(replace(slow, first_slow=5.0)).cause is None
    assert verdict(replace(slow, error=0.1)).cause is None


@given(
    x=st.floats(0.1, 1000.0),
    more=st.floats(0.0, 1000.0),
    n=st.floats(0.0, 1000.0),
    factor=st.floats(0.5, 6.0),
)
def test_a_slower_backend_never_gets_more(x: float, more: float, n: float, factor: float) -> None:
    seen = replace(CALM, x=x, in_flight=n, limit=max(2.0, n), in_flight_max=int(n))
    slower = verdict(replace(seen, x=x + more), factor=factor)
    assert slower.factor <= verdict(seen, factor=factor).factor
