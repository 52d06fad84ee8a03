"""Retries that succeed are free, retries that fail are a tenth of all attempts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.drain.budget import DEPOSIT, TOKENS_MAX, TRICKLE, RetryBudget

MINUTE = 60.0


def emptied(now: float = 0.0) -> RetryBudget:
    budget = RetryBudget()
    while budget.reserve(now):
        pass
    return budget


def test_begins_full_whenever_it_begins() -> None:
    assert RetryBudget().tokens(0.0) == TOKENS_MAX
    assert RetryBudget().tokens(1e9) == TOKENS_MAX


def test_is_as_many_retries_at_a_time_as_there_are_tokens() -> None:
    budget = RetryBudget()
    assert sum(budget.reserve(0.0) for _ in range(1000)) == TOKENS_MAX


def test_a_trickle_comes_by_itself() -> None:
    budget = emptied()
    assert not budget.reserve(1 / TRICKLE - 0.01)
    assert budget.reserve(1 / TRICKLE)
    assert not budget.reserve(1 / TRICKLE)
    assert sum(budget.reserve(1 / TRICKLE + MINUTE) for _ in range(100)) == 10


def test_ten_attempts_pay_for_a_retry() -> None:
    budget = emptied()
    for _ in range(9):
        budget.deposit(0.0)
    assert not budget.reserve(0.0)
    budget.deposit(0.0)
    assert budget.reserve(0.0), "whatever ten times a tenth is"


def test_a_token_comes_back() -> None:
    budget = emptied()
    budget.give_back(0.0)
    assert budget.reserve(0.0)
    assert not budget.reserve(0.0)


def test_a_clock_that_seems_to_go_back_costs_nothing() -> None:
    budget = emptied(100.0)
    assert budget.tokens(50.0) == 0
    assert budget.tokens(100.0 + 1 / TRICKLE) == pytest.approx(1)


@given(st.lists(st.sampled_from(["reserve", "give_back", "deposit"]), max_size=500))
def test_is_never_below_nothing_nor_above_its_size(steps: list[str]) -> None:
    budget = RetryBudget()
    for now, step in enumerate(steps):
        getattr(budget, step)(float(now))
        assert 0 <= budget.tokens(float(now)) <= TOKENS_MAX


@pytest.mark.parametrize("first_a_minute", [0, 60, 6000])
def test_retries_that_fail_are_a_tenth_of_all_attempts_and_the_trickle(first_a_minute: int) -> None:
    """Any number of them is due, all the time, for 100 minutes."""
    rng = random.Random(1)
    budget, retries, now = emptied(), 0, 0.0
    first, minutes = 0, 100
    for _ in range(minutes * 60):
        now += 1.0
        for _ in range(rng.randint(0, 2 * first_a_minute // 60)):
            first += 1
            budget.deposit(now)
        while budget.reserve(now):
            retries += 1
            budget.deposit(now)
    expected = (DEPOSIT * first + TRICKLE * 60 * minutes) / (1 - DEPOSIT)
    assert retries == pytest.approx(expected, rel=0.01)
    if first_a_minute == 6000:
        assert retries / (first + retries) < 0.11


def test_retries_that_succeed_go_at_full_speed() -> None:
    """A backend that recovers: one token is enough to begin with, and each success adds to it."""
    budget = emptied()
    budget.give_back(0.0)
    under_way, rounds = 0, 0
    while under_way < 20:
        rounds += 1
        under_way = 0
        while budget.reserve(0.0):
            under_way += 1
        for _ in range(under_way):
            budget.give_back(0.0)
            budget.deposit(0.0)
    assert rounds < 50
