"""Mail has not become older by a clock that was set."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.drain.ages import STEP_MIN, AgeClock
from mailshed.mail.reply import make
from tests.support.builders import CLASSES, WALL, classification_policy, spool_record
from tests.support.clock import ManualClock
from tests.support.fake_backend import be_away, defer, take
from tests.support.middle import BY_HEADER, Middle, drain_policy
from tests.support.virtual_time import in_virtual_time, until

HOUR, DAY = 3600.0, 86400.0
NOT_NOW = make(451, "4.3.2 System busy")
REPORTING = classification_policy(
    *BY_HEADER, classes=[replace(each, report_after=HOUR) for each in CLASSES]
)
"""Classes whose senders are told of a delay after an hour."""


class Watched:
    """A clock that is set by hand, and what was told of it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.steps: list[float] = []
        self.ages = AgeClock(self.clock, self.steps.append)
        self.ages.look()

    def step(self, seconds: float) -> None:
        """Set the wall clock, and look."""
        self.clock.set_wall(self.clock.wall() + seconds)
        self.ages.look()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with a look once a minute."""
        while seconds > 0:
            self.clock.advance(min(60.0, seconds))
            self.ages.look()
            seconds -= 60.0

    def behind(self, memory: float = 4 * DAY) -> float:
        """By how much ages are judged behind the wall clock."""
        return self.clock.wall() - self.ages.wall(memory)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_clock_that_goes_evenly_is_followed(watched: Watched) -> None:
    watched.pass_time(5 * DAY)
    assert watched.behind() == 0
    assert watched.steps == []


def test_a_clock_that_is_slewed_is_followed(watched: Watched) -> None:
    for _ in range(1000):
        watched.pass_time(60)
        watched.step(0.03)
    assert watched.behind() == 0
    assert watched.steps == []


def test_a_jump_forwards_ages_nothing(watched: Watched) -> None:
    before = watched.ages.wall(DAY)
    watched.step(5 * DAY)
    assert watched.ages.wall(DAY) == pytest.approx(before)
    assert watched.steps == [pytest.approx(5 * DAY)]


def test_a_jump_is_seen_whoever_looks_first(watched: Watched) -> None:
    """An attempt may end right after it, before the drain has looked."""
    watched.clock.set_wall(watched.clock.wall() + DAY)
    assert watched.behind() == pytest.approx(DAY)
    assert len(watched.steps) == 1


def test_a_jump_backwards_is_followed(watched: Watched) -> None:
    watched.step(-HOUR)
    assert watched.behind() == 0
    assert watched.steps == [pytest.approx(-HOUR)]


def test_a_jump_is_forgotten_when_all_mail_from_before_it_is_gone(watched: Watched) -> None:
    watched.step(HOUR)
    watched.pass_time(DAY - 60)
    assert watched.behind(DAY) == pytest.approx(HOUR)
    watched.pass_time(180)
    assert watched.behind(DAY) == 0
    assert watched.behind(4 * DAY) == pytest.approx(HOUR), "others may remember longer"


def test_a_jump_that_is_taken_back_leaves_nothing_behind(watched: Watched) -> None:
    watched.step(DAY)
    watched.pass_time(600)
    watched.step(-DAY)
    assert watched.behind() == pytest.approx(0, abs=1e-3)


def test_mail_that_came_while_the_clock_was_behind_is_not_aged_by_its_correction(
    watched: Watched,
) -> None:
    watched.step(-DAY)
    watched.pass_time(600)
    watched.step(DAY)
    assert watched.behind() == pytest.approx(DAY)


@given(
    st.lists(
        st.tuples(
            st.floats(1, 3000),
            st.one_of(st.just(0.0), st.floats(61, 1e6), st.floats(-1e6, -61)),
        ),
        max_size=20,
    ),
    st.integers(0, 20),
)
def test_no_message_seems_older_than_it_is(moves: list[tuple[float, float]], at: int) -> None:
    """Wherever it came in between the jumps."""
    watched = Watched()
    received_wall, received_at = watched.clock.wall(), watched.clock.monotonic()
    for number, (seconds, step) in enumerate(moves):
        if number == at:
            received_wall, received_at = watched.clock.wall(), watched.clock.monotonic()
        watched.pass_time(seconds)
        watched.step(step)
    seeming = watched.ages.wall(1e9) - received_wall
    assert seeming <= watched.clock.monotonic() - received_at + STEP_MIN * (len(moves) + 1)


def test_small_jumps_are_not_told(watched: Watched) -> None:
    watched.step(STEP_MIN)
    assert watched.steps == []
    watched.step(STEP_MIN + 1)
    assert len(watched.steps) == 1


class TestDrain:
    """Somebody sets the wall clock while the service runs."""

    @in_virtual_time
    async def test_set_back_leaves_no_mail_unattended(self, middle: Middle) -> None:
        deferred_before = [await middle.keep(spool_record(f"r{n}@example.net")) for n in range(300)]
        middle.backend.always(defer(NOT_NOW))
        async with middle.draining():
            await until(lambda: len(middle.backend.asked) >= 300)
            middle.backend.always(take)
            middle.clock.ahead = -DAY
            began = middle.clock.monotonic()
            await until(lambda: len(middle.backend.handed) == 300)
            assert middle.clock.monotonic() - began < 2 * 60
        assert sorted(middle.backend.handed_ids) == sorted(deferred_before)
        (line,) = middle.log.of("clock_stepped")
        assert line["seconds"] == pytest.approx(-DAY)
        assert (await middle.spool.totals()).ledger == {
            "personal": {"accepted": 300, "delivered": 300}
        }

    @in_virtual_time
    async def test_set_back_while_the_host_was_down_neither(self, middle: Middle) -> None:
        await middle.keep(spool_record(next_attempt_wall=WALL + 900, attempts=1))
        middle.clock.ahead = -DAY
        async with middle.draining():
            await until(lambda: middle.backend.handed, 10)

    @in_virtual_time
    async def test_set_back_does_not_undo_the_pauses_of_now(self, middle: Middle) -> None:
        middle.clock.ahead = -DAY
        middle.backend.always(defer(NOT_NOW))
        await middle.keep(spool_record())
        async with middle.draining():
            await asyncio.sleep(HOUR)
        assert 5 <= len(middle.backend.asked) <= 12

    @in_virtual_time
    async def test_set_forwards_expires_and_reports_nothing_early(self, middle: Middle) -> None:
        """While the backend is away, so that nothing but age decides."""
        record = spool_record(expires_wall=WALL + 10 * HOUR, report_wall=WALL + HOUR)
        await middle.keep(record)
        middle.drainer.policy = drain_policy(classification=REPORTING)
        middle.backend.always(be_away)
        async with middle.draining():
            await asyncio.sleep(600)
            middle.clock.ahead = 5 * DAY
            await asyncio.sleep(HOUR - 600 - 1)
            assert middle.log.of("delayed") == []
            await until(lambda: middle.log.of("delayed"), 120)
            assert middle.clock.monotonic() == pytest.approx(HOUR, abs=61)
            await asyncio.sleep(9 * HOUR - 121)
            assert middle.log.of("expired") == []
            await until(lambda: middle.log.of("expired"), 240)
            assert middle.clock.monotonic() == pytest.approx(10 * HOUR, abs=61)
        assert len(middle.log.of("clock_stepped")) == 1

    @in_virtual_time
    async def test_set_forwards_does_not_make_an_attempt_the_last(self, middle: Middle) -> None:
        """The backend is there, and says not yet."""
        await middle.keep(spool_record(expires_wall=WALL + 10 * HOUR))
        middle.backend.always(defer(NOT_NOW))
        async with middle.draining():
            await until(lambda: middle.backend.asked)
            middle.clock.ahead = 5 * DAY
            await asyncio.sleep(HOUR)
            assert middle.log.of("expired") == []
            assert 5 <= len(middle.backend.asked) <= 13, "nor does it spin"
            middle.backend.always(take)
            await until(lambda: middle.backend.handed)

    @in_virtual_time
    async def test_set_right_is_followed(self, middle: Middle) -> None:
        """A wrong hour that was taken back counts for nothing."""
        middle.backend.always(be_away)
        async with middle.draining():
            await asyncio.sleep(100)
            middle.clock.ahead = DAY
            await asyncio.sleep(100)
            middle.clock.ahead = 0.0
            await middle.keep(spool_record(expires_wall=middle.clock.wall() + HOUR))
            await until(lambda: middle.log.of("expired"), HOUR + 61)
