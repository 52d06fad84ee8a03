"""When everything is looked at, and what the interpreter is told."""

import gc
from collections.abc import Iterator

import pytest

from mailshed import allocator, garbage
from mailshed.garbage import FEW_SESSIONS, INTERVAL, LONG, YOUNG_INTERVAL, Rounds


@pytest.fixture
def interpreter() -> Iterator[None]:
    """Give back what a test changes."""
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


def full_rounds(sessions: int, seconds: float) -> list[float]:
    """When everything is looked at within so many seconds."""
    rounds = Rounds(0.0)
    moments = [YOUNG_INTERVAL * number for number in range(int(seconds / YOUNG_INTERVAL) + 1)]
    return [now for now in moments if rounds.is_full_due(now, sessions)]


def test_with_few_sessions_everything_is_looked_at_every_minute() -> None:
    assert full_rounds(FEW_SESSIONS, 3 * INTERVAL) == [INTERVAL, 2 * INTERVAL, 3 * INTERVAL]


def test_with_many_sessions_it_is_seldom_and_comes_all_the_same() -> None:
    assert full_rounds(FEW_SESSIONS + 1, 3 * LONG) == [LONG, 2 * LONG, 3 * LONG]


def test_what_is_young_is_collected_each_time_and_what_is_old_in_its_round() -> None:
    noted: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            noted.append(info["generation"])

    rounds = Rounds(0.0)
    gc.disable()
    gc.callbacks.append(note)
    try:
        rounds.collect(YOUNG_INTERVAL, 0)
        rounds.collect(INTERVAL, 0)
        rounds.collect(INTERVAL + YOUNG_INTERVAL, 0)
    finally:
        gc.callbacks.remove(note)
        gc.enable()
    assert noted == [1, 2, 1]


def test_memory_is_given_back_after_everything_was_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_back: list[float] = []
    now = 0.0
    monkeypatch.setattr(allocator, "give_back", lambda: given_back.append(now))
    rounds = Rounds(0.0)
    for number in range(1, 4 * 60):
        now = number * YOUNG_INTERVAL + INTERVAL / 2
        rounds.collect(now, 0)
    assert given_back == [INTERVAL + YOUNG_INTERVAL]


@pytest.mark.usefixtures("interpreter")
def test_the_old_generation_is_ours_and_the_young_ones_are_not() -> None:
    before = gc.get_threshold()
    garbage.begin()
    assert gc.get_threshold()[:2] == before[:2]
    assert gc.get_threshold()[2] > 10**8
    assert gc.get_freeze_count() > 0
