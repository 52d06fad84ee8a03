"""The bounds, against published values, each other, and a small simulation of their own."""

import heapq
import random
from collections import deque
from collections.abc import Sequence
from math import inf

import pytest

from mailshed.control.reserve import high_wait
from mailshed.simulation import theory

# 20 servers of 0.1 s, 90 % full; rank 0 is a tenth.
SERVERS = 20
SERVICE = 0.1
RATES = (20.0, 160.0)


def _simulate(  # one loop over arrivals and endings
    servers: int, service: float, rates: Sequence[float], count: int
) -> list[list[float]]:
    """Waits by class of `count` arrivals at M/M/c with priorities, sorted."""
    rng = random.Random(7)
    total = sum(rates)
    waits: list[list[float]] = [[] for _ in rates]
    queues: list[deque[float]] = [deque() for _ in rates]
    endings: list[float] = []
    arrival = 0.0
    for _ in range(count):
        arrival += rng.expovariate(total)
        while endings and endings[0] <= arrival:
            now = heapq.heappop(endings)
            rank = next((rank for rank, queue in enumerate(queues) if queue), None)
            if rank is not None:
                waits[rank].append(now - queues[rank].popleft())
                heapq.heappush(endings, now + rng.expovariate(1.0 / service))
        rank = rng.choices(range(len(rates)), rates)[0]
        if len(endings) < servers:
            waits[rank].append(0.0)
            heapq.heappush(endings, arrival + rng.expovariate(1.0 / service))
        else:
            queues[rank].append(arrival)
    return [sorted(each) for each in waits]


def test_erlang_c_has_the_values_of_its_tables() -> None:
    assert theory.erlang_c(1, 0.7) == pytest.approx(0.7)
    assert theory.erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert theory.erlang_c(20, 18.0) == pytest.approx(0.5508, abs=1e-4)
    assert theory.erlang_c(8, 8.0) == theory.erlang_c(8, 20.0) == 1.0


def test_rank_0_waits_3_ms_where_first_come_first_served_waits_27_5() -> None:
    assert theory.priority_waits(SERVERS, SERVICE, RATES)[0] == pytest.approx(0.00306, abs=5e-6)
    fifo = theory.fifo_wait(SERVERS, SERVICE, sum(RATES))
    assert fifo.mean == pytest.approx(0.0275, abs=5e-5)
    first = theory.first_wait(SERVERS, SERVICE, RATES[0], others=RATES[1])
    assert first.mean == pytest.approx(0.00306, abs=5e-6)


def test_order_moves_waits_about_and_does_not_make_them_fewer() -> None:
    """Kleinrock's conservation law: the mean over all classes is that of first come, first."""
    rates = (30.0, 50.0, 90.0)
    waits = theory.priority_waits(SERVERS, SERVICE, rates)
    assert waits == sorted(waits)
    mean = sum(rate * wait for rate, wait in zip(rates, waits, strict=True)) / sum(rates)
    assert mean == pytest.approx(theory.fifo_wait(SERVERS, SERVICE, sum(rates)).mean)


def test_classes_that_fit_have_finite_waits_however_much_comes_below_them() -> None:
    waits = theory.priority_waits(SERVERS, SERVICE, (20.0, 100.0, 500.0, 10.0))
    assert waits[0] == pytest.approx(1 / 180)
    assert waits[1] == pytest.approx(0.005 / (0.9 * 0.4))
    assert waits[2:] == [inf, inf]


def test_a_simulation_of_a_stable_queue_agrees() -> None:
    waits = _simulate(SERVERS, SERVICE, RATES, 150_000)
    expected = theory.priority_waits(SERVERS, SERVICE, RATES)
    for found, mean in zip(waits, expected, strict=True):
        assert sum(found) / len(found) == pytest.approx(mean, rel=0.15)


def test_a_simulation_of_an_overload_agrees() -> None:
    first = _simulate(SERVERS, SERVICE, (RATES[0], 380.0), 150_000)[0]
    bound = theory.first_wait(SERVERS, SERVICE, RATES[0])
    assert bound.mean == pytest.approx(1 / 180)
    assert bound.percentile(0.99) == pytest.approx(0.0256, abs=5e-5)
    assert sum(first) / len(first) == pytest.approx(bound.mean, rel=0.1)
    assert first[int(0.99 * len(first))] == pytest.approx(bound.percentile(0.99), rel=0.15)


@pytest.mark.parametrize(
    ("reserve", "percentile"), [(0, 6.40), (1, 3.2), (2, 0.35)], ids=["none", "one", "two"]
)
def test_a_reserve_buys_much_where_slots_are_few_and_slow(reserve: int, percentile: float) -> None:
    wait = theory.first_wait(4, 5.0, 0.08, reserve=reserve)
    assert wait.percentile(0.99) == pytest.approx(percentile, rel=0.05)


def test_the_reserve_of_the_service_is_worked_out_by_the_same_law() -> None:
    for servers, service, rate in ((4, 5.0, 0.08), (20, 0.1, 20.0), (8, 1.0, 5.0)):
        for reserve in range(servers // 2):
            wait = theory.first_wait(servers, service, rate, reserve=reserve)
            ours = high_wait(servers, reserve, rate, service)
            assert wait.percentile(0.99) == pytest.approx(ours)


def test_the_parts_of_a_wait_belong_together() -> None:
    wait = theory.Wait(chance=0.5, speed=2.0)
    assert wait.mean == 0.25
    assert wait.percentile(0.4) == 0.0
    assert wait.exceeds(0.0) == 0.5
    assert wait.exceeds(wait.percentile(0.9)) == pytest.approx(0.1)
    endless = theory.first_wait(4, 1.0, 5.0)
    assert endless.mean == endless.percentile(0.99) == inf
    assert endless.exceeds(1e9) == 1.0


def test_one_server_by_cobham() -> None:
    """Exponential service, 0.3 and 0.5 full: R = 0.8, so 0.8 / 0.7 and 0.8 / (0.7 * 0.2)."""
    waits = theory.single_server_waits((0.3, 0.5, 0.9), (1.0, 1.0, 1.0), (2.0, 2.0, 0.0))
    assert waits[:2] == pytest.approx([0.8 / 0.7, 0.8 / 0.14])
    assert waits[2] == inf


def test_constant_service_waits_half_of_exponential() -> None:
    assert theory.blocking_factor(2.0, 4.0) == 0.5
    assert theory.blocking_factor(2.0, 8.0) == 1.0


def test_an_hour_at_twice_the_capacity_is_an_hour_of_delay_and_two_and_a_half_to_drain() -> None:
    assert theory.fluid_delay(2.0, 3600.0) == 3600.0
    assert theory.fluid_delay(0.9, 3600.0) == 0.0
    assert theory.drain_time(3600.0, 1.0, 0.6) == pytest.approx(2.5 * 3600)
    assert theory.drain_time(0.0, 1.0, 2.0) == 0.0
    assert theory.drain_time(1.0, 1.0, 1.0) == inf


def test_no_more_is_done_than_is_offered_or_can_be() -> None:
    assert (theory.goodput(5.0, 8.0), theory.goodput(12.0, 8.0)) == (5.0, 8.0)


def test_a_contended_server_is_best_at_the_square_root_of_cost_over_coherence() -> None:
    best, most = theory.contended_best(0.05, 0.001)
    assert best == pytest.approx((0.95 / 0.001) ** 0.5, abs=1)  # 30.8
    assert most == pytest.approx(31 / (1 + 0.05 * 30 + 0.001 * 31 * 30))
    assert theory.contended_best(0.0, 0.0, most=64) == (64, 64.0)


def test_postfix_at_a_cap_defers_what_its_documentation_says() -> None:
    """SCHEDULER_README: 16.5 % for feedback 1/5 and 49.7 % for 1, measured."""
    assert theory.postfix_deferral(1 / 5) == pytest.approx(0.165, abs=0.005)
    assert theory.postfix_deferral(1.0) == pytest.approx(0.497, abs=0.005)


def test_fairness_is_between_one_nth_and_one() -> None:
    assert theory.jain([3.0, 3.0, 3.0]) == pytest.approx(1.0)
    assert theory.jain([3.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert theory.jain([1.0, 2.0]) == pytest.approx(0.9)
    assert theory.jain([0.0, 0.0]) == 1.0


def test_a_doubling_of_50_a_minute_is_noticed_in_0_6_minutes_at_best() -> None:
    assert theory.detection_delay(12.0, 50.0, 2.0) == pytest.approx(0.62, abs=0.005)
    assert theory.detection_delay(12.0, 10.0, 2.0) == pytest.approx(3.1, abs=0.05)
