"""The share of spooled mail: it grows step by step, and is no smaller than live mail needs."""

from hypothesis import given
from hypothesis import strategies as st

from mailshed.control.ramp import LIVE_WINDOW_SECONDS, Queue, Ramp

LIMIT = 20


def grown(windows: int, queue: Queue = Queue.FINE, *, limit: int = LIMIT, reserve: int = 0) -> Ramp:
    ramp = Ramp()
    for _ in range(windows):
        ramp.window(queue, limit=limit, reserve=reserve, is_draining=True)
    return ramp


def cap(ramp: Ramp, now: float = 0.0, *, live: int = 0) -> int:
    return ramp.cap(now, limit=LIMIT, reserve=0, live_in_flight=live)


def test_it_grows_by_half_in_each_window_to_all_but_the_reserve_and_one() -> None:
    sizes = [grown(windows).slots for windows in range(10)]
    assert sizes == [1, 2, 3, 4, 6, 9, 13, 19, 19, 19]
    assert grown(20, reserve=5).slots == 14
    assert grown(20, limit=1).slots == grown(20, limit=2).slots == 1


def test_it_halves_when_the_queue_is_far_too_long_and_waits_while_it_is_long() -> None:
    ramp = grown(20)
    ramp.window(Queue.LONG, limit=LIMIT, reserve=0, is_draining=True)
    assert ramp.slots == 19
    ramp.window(Queue.TOO_LONG, limit=LIMIT, reserve=0, is_draining=True)
    assert ramp.slots == 9
    for _ in range(9):
        ramp.window(Queue.TOO_LONG, limit=LIMIT, reserve=0, is_draining=True)
    assert ramp.slots == 1


def test_it_follows_a_limit_that_falls() -> None:
    ramp = grown(20)
    ramp.window(Queue.LONG, limit=6, reserve=1, is_draining=True)
    assert ramp.slots == 4


def test_it_begins_anew_after_an_outage_or_a_time_without_spooled_mail() -> None:
    ramp = grown(20)
    ramp.restart()
    assert ramp.slots == 1
    ramp = grown(20)
    for _ in range(5):
        ramp.window(Queue.FINE, limit=LIMIT, reserve=0, is_draining=False)
    assert ramp.slots == 1


def test_without_live_mail_the_drain_has_all_slots_from_the_start() -> None:
    assert cap(Ramp()) == LIMIT


def test_it_has_what_the_busiest_moment_of_live_mail_leaves_but_one() -> None:
    ramp = Ramp()
    ramp.note_live(4, 0.0)
    ramp.note_live(7, 1.0)
    ramp.note_live(2, 2.0)
    assert cap(ramp, 2.0, live=2) == LIMIT - 7 - 1
    assert cap(ramp, 2.0, live=9) == LIMIT - 9 - 1


def test_a_busy_moment_of_live_mail_is_forgotten_after_a_while() -> None:
    ramp = Ramp()
    ramp.note_live(7, 0.0)
    assert cap(ramp, LIVE_WINDOW_SECONDS) == 12, "of the window before"
    assert cap(ramp, 2 * LIVE_WINDOW_SECONDS) == LIMIT
    ramp.note_live(7, 100.0)
    assert cap(ramp, 1000.0) == LIMIT, "long ago"


@given(
    st.integers(1, 200),
    st.integers(0, 100),
    st.lists(st.tuples(st.sampled_from(Queue), st.booleans()), max_size=30),
    st.integers(0, 250),
)
def test_there_is_always_a_slot_for_the_drain_and_never_more_than_there_are(
    limit: int, reserve: int, windows: list[tuple[Queue, bool]], live: int
) -> None:
    ramp = Ramp()
    for queue, is_draining in windows:
        ramp.window(queue, limit=limit, reserve=reserve, is_draining=is_draining)
        assert 1 <= ramp.slots <= max(1, limit - reserve - 1)
    found = ramp.cap(0.0, limit=limit, reserve=reserve, live_in_flight=live)
    assert 1 <= found <= max(1, limit - reserve)
    assert found >= min(ramp.slots, max(1, limit - reserve))
