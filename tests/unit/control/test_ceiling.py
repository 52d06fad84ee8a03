"""The learned ceiling: what a refusal teaches, and what it does not."""

from mailshed.control.ceiling import (
    PROOF_SECONDS,
    QUIET_DELAYED,
    QUIET_MAX,
    QUIET_MIN,
    Ceiling,
)


def capped(at: int = 11) -> Ceiling:
    """A ceiling after the `at`-th message was refused at 100 s and an older one was answered."""
    ceiling = Ceiling(2, 50)
    assert ceiling.on_refused(100.0, 99.9, at)
    ceiling.on_answer(99.5)
    return ceiling


def quiet(ceiling: Ceiling, now: float) -> float:
    """Seconds until it rises."""
    before = ceiling.value
    for second in range(2000):
        ceiling.tick(now + second, is_binding=True)
        if ceiling.value != before:
            return float(second)
    raise AssertionError("it does not rise")


def test_without_refusals_there_is_none() -> None:
    ceiling = Ceiling(2, 50)
    ceiling.tick(1e6, is_binding=True)
    assert (ceiling.value, ceiling.learned) == (50, None)


def test_one_less_than_were_in_flight_are_allowed() -> None:
    assert capped(11).value == 10
    assert capped(1).value == 2, "never below the lowest"


def test_those_let_in_before_the_cut_cut_no_more() -> None:
    ceiling = capped()
    assert not ceiling.on_refused(105.0, 99.95, 5)
    assert ceiling.on_refused(105.0, 104.0, 9)
    assert ceiling.value == 8


def test_there_is_one_cut_a_second() -> None:
    ceiling = capped()
    assert not ceiling.on_refused(100.9, 100.5, 5)
    assert ceiling.value == 10


def test_a_refusal_never_raises_it() -> None:
    ceiling = capped()
    assert not ceiling.on_refused(105.0, 104.0, 30)
    assert ceiling.value == 10


def test_it_rises_by_one_after_a_quiet_time() -> None:
    ceiling = capped()
    assert quiet(ceiling, 100.0) == 2 * QUIET_MIN
    assert ceiling.value == 11


def test_it_rises_only_if_it_binds() -> None:
    ceiling = capped()
    ceiling.tick(1e5, is_binding=False)
    assert ceiling.value == 10


def test_each_refusal_doubles_the_quiet_time_up_to_ten_minutes() -> None:
    ceiling, now, waits = capped(), 100.0, []
    for _ in range(5):
        waits.append(quiet(ceiling, now))
        now += waits[-1] + 1.0
        assert ceiling.on_refused(now, now - 0.1, 11)
        ceiling.on_answer(now - 0.2)
    assert waits == [120.0, 240.0, 480.0, QUIET_MAX, QUIET_MAX]


def test_each_rise_that_was_used_halves_it() -> None:
    ceiling, now = capped(), 100.0
    for _ in range(5):
        now += quiet(ceiling, now) + 1.0
        ceiling.on_refused(now, now - 0.1, ceiling.value)
        ceiling.on_answer(now - 0.2)
    waits = []
    for _ in range(6):
        waits.append(quiet(ceiling, now))
        now += waits[-1]
    assert waits == [600.0, 600.0, 300.0, 150.0, 75.0, 60.0]


def test_at_the_highest_there_is_none_again() -> None:
    ceiling = Ceiling(2, 12)
    ceiling.on_refused(100.0, 99.9, 12)
    ceiling.on_answer(99.5)
    found = ceiling.learned
    assert found == 11
    quiet(ceiling, 100.0)
    found = ceiling.learned
    assert (ceiling.value, found) == (12, None)


def test_a_server_that_is_restarted_has_no_cap() -> None:
    ceiling = Ceiling(2, 50)
    ceiling.on_refused(100.0, 99.9, 11)
    ceiling.on_refused(102.0, 101.9, 3)
    assert ceiling.value == 2
    ceiling.on_answer(105.0)  # it is back, and none of those in flight was answered
    ceiling.tick(100.0 + PROOF_SECONDS + 1, is_binding=False)
    assert ceiling.learned is None


def test_one_that_finishes_what_it_has_and_goes_away_has_none_either() -> None:
    ceiling = capped()
    ceiling.on_refused(102.0, 101.9, 3)
    ceiling.on_away()
    assert ceiling.learned is None


def test_a_cap_outlives_an_outage() -> None:
    ceiling = capped()
    ceiling.on_answer(101.0)
    ceiling.on_away()
    assert ceiling.learned == 10
    ceiling.on_refused(200.0, 199.0, 4)
    ceiling.on_away()
    assert ceiling.learned == 10


def test_a_delay_at_the_nth_allows_one_less_and_is_not_tried_again_soon() -> None:
    ceiling = Ceiling(2, 50)
    assert ceiling.on_delayed(100.0, 14)
    assert ceiling.on_delayed(100.1, 13), "they started together, and each says something"
    assert not ceiling.on_delayed(100.2, 16)
    assert ceiling.value == 12
    assert quiet(ceiling, 100.2) == QUIET_DELAYED > QUIET_MAX
    assert ceiling.value == 13
    assert Ceiling(2, 50).on_delayed(0.0, 1)


def test_a_delay_is_no_sign_that_the_backend_is_away() -> None:
    ceiling = Ceiling(2, 50)
    ceiling.on_delayed(100.0, 13)
    ceiling.tick(100.0 + 2 * PROOF_SECONDS, is_binding=True)
    ceiling.on_away()
    assert ceiling.value == 12


def test_one_too_many_that_is_delayed_is_tried_again_after_half_an_hour() -> None:
    ceiling = Ceiling(2, 50)
    assert ceiling.on_delayed(100.0, 11)
    assert ceiling.value == 10
    ceiling.tick(100.0 + QUIET_DELAYED - 1, is_binding=True)
    assert ceiling.value == 10
    ceiling.tick(100.0 + QUIET_DELAYED, is_binding=True)
    assert ceiling.value == 11
