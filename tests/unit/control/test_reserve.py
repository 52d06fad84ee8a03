"""The reserve for rank 0: against the published numbers, and against a simulation."""

import heapq
import random
from math import inf, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.control.reserve import (
    REFRESH_SECONDS,
    SERVICE_TIMES_MIN,
    TARGET_WAIT,
    WINDOW_SECONDS,
    WINDOWS,
    Reserve,
    high_wait,
    next_slot,
    smallest_reserve,
)


@pytest.mark.parametrize(
    ("limit", "reserve", "rate", "service", "wait"),
    [
        (20, 0, 20.0, 0.1, 0.0256),
        (20, 1, 20.0, 0.1, 0.0128),
        (4, 0, 0.08, 5.0, 6.4),
        (4, 1, 0.08, 5.0, 3.2),
        (4, 2, 0.08, 5.0, 0.35),
    ],
)
def test_the_wait_of_rank_0(
    limit: int, reserve: int, rate: float, service: float, wait: float
) -> None:
    assert high_wait(limit, reserve, rate, service) == pytest.approx(wait, rel=0.02)


def test_without_a_reserve_everybody_waits_for_the_next_completion() -> None:
    """ln(100) / (c s - a), the form of a queue in which all servers are always busy."""
    assert high_wait(10, 0, 3.0, 1.0) == pytest.approx(log(100) / 7)


def test_a_backend_that_rank_0_alone_overloads_makes_it_wait_for_ever() -> None:
    assert high_wait(4, 2, 4.0, 1.0) == inf
    assert smallest_reserve(4, 4.0, 1.0) == 0


def test_nothing_is_reserved_where_that_buys_nothing() -> None:
    assert smallest_reserve(20, 1.0, 0.1) == 0
    assert smallest_reserve(20, 0.0, 2.0) == 0
    assert smallest_reserve(1, 0.1, 10.0) == 0
    assert smallest_reserve(20, 1.0, 0.0) == 0


def test_few_slots_and_a_slow_backend_need_a_reserve() -> None:
    assert smallest_reserve(4, 0.08, 5.0) == 2
    assert smallest_reserve(4, 0.0, 5.0) == 1
    assert smallest_reserve(20, 0.1, 20.0) == 2


@given(st.integers(1, 60), st.floats(0.0, 20.0), st.floats(0.01, 60.0))
def test_the_reserve_is_the_smallest_that_meets_the_target(
    limit: int, rate: float, service: float
) -> None:
    reserve = smallest_reserve(limit, rate, service)
    assert 0 <= reserve <= limit // 2
    waits = [high_wait(limit, each, rate, service) for each in range(limit // 2 + 1)]
    if min(waits) <= TARGET_WAIT:
        assert waits[reserve] <= TARGET_WAIT
        assert all(wait > TARGET_WAIT for wait in waits[:reserve])
    else:
        assert waits[reserve] == min(waits)


def simulated_wait(limit: int, reserve: int, rate: float, service: float, seed: int) -> float:
    """The 99th percentile of rank 0's wait, with everybody else always waiting."""
    rng = random.Random(seed)
    ends: list[float] = []
    waiting: list[float] = []
    waits: list[float] = []
    now, arrival = 0.0, rng.expovariate(rate)
    while len(waits) < 8_000:
        while len(ends) < limit and waiting:
            waits.append(now - waiting.pop(0))
            heapq.heappush(ends, now + rng.expovariate(1 / service))
        while len(ends) < limit - reserve:
            heapq.heappush(ends, now + rng.expovariate(1 / service))
        if arrival < ends[0]:
            now = arrival
            waiting.append(now)
            arrival = now + rng.expovariate(rate)
        else:
            now = heapq.heappop(ends)
    waits.sort()
    return waits[int(0.99 * len(waits))]


@pytest.mark.parametrize(("limit", "reserve"), [(8, 0), (8, 1), (8, 2)])
def test_the_formula_agrees_with_a_simulation(limit: int, reserve: int) -> None:
    simulated = simulated_wait(limit, reserve, 2.0, 1.0, seed=1)
    assert simulated == pytest.approx(high_wait(limit, reserve, 2.0, 1.0), rel=0.15)


# Learning.


def fed(*, service: float, arrivals_a_minute: int, minutes: int = 10) -> tuple[Reserve, float]:
    """A reserve that has seen some minutes of traffic, and the time."""
    made, now = Reserve(), 0.0
    for _ in range(SERVICE_TIMES_MIN):
        made.note_service(service)
    for number in range(minutes * arrivals_a_minute):
        now = number * 60 / arrivals_a_minute
        made.note_arrival(now)
    return made, now


def test_nothing_is_reserved_before_there_is_anything_to_go_by() -> None:
    made = Reserve()
    for _ in range(SERVICE_TIMES_MIN - 1):
        made.note_service(30.0)
    assert made.slots(0.0, 4) == 0
    made.note_service(30.0)
    assert made.slots(REFRESH_SECONDS, 4) > 0


def test_a_slow_backend_with_few_slots_keeps_one_for_clinical_mail() -> None:
    made, now = fed(service=5.0, arrivals_a_minute=6)
    assert made.slots(now, 4) == 2
    assert made.slots(now, 100) == 0, "another limit is worked out at once"


def test_a_fast_backend_keeps_none() -> None:
    made, now = fed(service=0.1, arrivals_a_minute=60)
    assert [made.slots(now, limit) for limit in (2, 4, 20)] == [0, 0, 0]


def test_the_median_ignores_a_few_that_took_for_ever() -> None:
    made, now = fed(service=0.1, arrivals_a_minute=6)
    for _ in range(3):
        made.note_service(600.0)
    assert made.slots(now, 4) == 0


def test_the_number_is_worked_out_anew_only_now_and_then() -> None:
    made, now = fed(service=0.1, arrivals_a_minute=6)
    assert made.slots(now, 4) == 0
    for _ in range(1000):
        made.note_service(5.0)
    assert made.slots(now + REFRESH_SECONDS - 0.1, 4) == 0
    assert made.slots(now + REFRESH_SECONDS, 4) == 2


def test_the_busiest_time_of_the_last_hour_counts() -> None:
    """The rate is not averaged over quieter minutes, and is forgotten after the hour."""
    made = Reserve()
    for number in range(600):
        made.note_arrival(number / 6)  # six a second for a hundred seconds
    assert made._rate(100.0) == pytest.approx(6.0)
    for second in range(100, 1700):
        for part in range(4):
            made.note_arrival(second + part / 4)
    assert made._rate(1700.0) == pytest.approx(6.0)
    for second in range(1700, 4000):
        for part in range(4):
            made.note_arrival(second + part / 4)
    assert made._rate(4000.0) == pytest.approx(4.0)


def test_after_a_surge_the_others_get_their_slots_back() -> None:
    made = Reserve()
    for number in range(600):
        made.note_arrival(number / 6)
    for second in range(100, 200):
        made.note_arrival(float(second))
    assert made._rate(200.0) == pytest.approx(2.0), "twice the busiest of the last minute"
    assert made._rate(200.0 + 7 * WINDOW_SECONDS) == 0.0


def test_a_single_message_is_not_a_rate() -> None:
    made = Reserve()
    for number in range(WINDOWS):
        made._roll(number * WINDOW_SECONDS)
    made.note_arrival(WINDOWS * WINDOW_SECONDS)
    assert made._rate(WINDOWS * WINDOW_SECONDS) == 0.0


def test_what_is_remembered_is_bounded_over_any_pause() -> None:
    made = Reserve()
    made.note_arrival(0.0)
    made.note_arrival(1e9)
    assert len(made._arrivals) == WINDOWS
    assert sum(made._arrivals) == 1


def test_the_next_of_many_slots_comes_back_soon() -> None:
    """ln(100) means of the exponential law: 20 slots of 0.1 s, 4 of 5 s."""
    assert next_slot(20, 0.1) == pytest.approx(0.023, abs=1e-3)
    assert next_slot(4, 5.0) == pytest.approx(5.76, abs=0.01)


@pytest.mark.parametrize(
    ("limit", "service", "is_brisk"), [(8, 0.5, True), (8, 1.0, False), (1, 0.1, True)]
)
def test_a_backend_is_brisk_if_a_slot_comes_back_within_a_normal_wait(
    limit: int, service: float, is_brisk: bool
) -> None:
    reserve = Reserve()
    assert reserve.slots(0.0, limit) == 0
    assert not reserve.is_brisk, "nothing is known yet"
    for _ in range(SERVICE_TIMES_MIN):
        reserve.note_service(service)
    reserve.slots(REFRESH_SECONDS, limit)
    assert reserve.is_brisk is is_brisk


def test_the_answer_costs_no_more_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a thousand slots all reserves there could be would cost a tick of the event loop."""
    asked: list[int] = []

    def note(limit: int, slots: int, rate: float, service: float) -> float:
        asked.append(slots)
        return high_wait(limit, slots, rate, service)

    monkeypatch.setattr("mailshed.control.reserve.high_wait", note)
    assert smallest_reserve(1000, 0.5, 0.1) == 0
    assert asked == [0]
