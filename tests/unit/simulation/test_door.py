"""The gate on the virtual clock: who waits is served, gives up, or is told that nobody answers."""

from typing import Any

import pytest

from mailshed.control.breaker import BreakerState, Step
from mailshed.control.limit import FixedLimit, SlotEnding
from mailshed.simulation.agenda import Agenda
from mailshed.simulation.door import NO_TIMES, Door
from mailshed.simulation.mail import Mail
from mailshed.simulation.scenario import MONDAY
from mailshed.work import Slot, Work
from tests.support.builders import PERSONAL
from tests.support.simulated import mail


class Bench:
    """A door with one slot, and what it did."""

    def __init__(self) -> None:
        self.agenda = Agenda(MONDAY)
        self.served: list[tuple[float, Mail, Slot]] = []
        self.none: list[tuple[float, Mail]] = []
        self.asked: list[tuple[float, Step, Any]] = []
        self.door = Door(
            self.agenda,
            FixedLimit(1),
            _Half(),  # type: ignore[arg-type]
            on_slot=lambda who, slot: self.served.append((self.agenda.elapsed, who, slot)),
            on_none=lambda who: self.none.append((self.agenda.elapsed, who)),
            ask=lambda step, done: self.asked.append((self.agenda.elapsed, step, done)),
        )

    def take(self) -> Slot:
        slot = self.door.station.try_start(work(), self.agenda.now)
        assert slot is not None
        return slot

    def wait(self, seconds: float | None = None) -> Mail:
        waiting = mail()
        self.door.wait(waiting, work(is_live=seconds is not None), seconds)
        return waiting

    def pass_time(self, seconds: float) -> None:
        end = self.agenda.now + seconds
        while self.agenda.step(end):
            pass


class _Half:
    def random(self) -> float:
        return 0.5


def work(*, is_live: bool = True) -> Work:
    return Work(traffic_class=PERSONAL, arrived_wall=MONDAY, is_live=is_live)


def test_who_waits_is_served_when_the_slot_comes_back() -> None:
    bench = Bench()
    slot, waiting = bench.take(), bench.wait(10.0)
    bench.pass_time(3.0)
    bench.door.release(slot, SlotEnding.COMPLETED, NO_TIMES)
    assert [(when, who) for when, who, _ in bench.served] == [(3.0, waiting)]
    bench.pass_time(20.0)
    assert bench.none == []


def test_who_has_waited_long_enough_is_told_so() -> None:
    bench = Bench()
    bench.take()
    waiting = bench.wait(10.0)
    bench.pass_time(20.0)
    assert bench.none == [(10.0, waiting)]
    assert bench.door.station.waiting == 0


def test_spooled_mail_waits_without_bound() -> None:
    bench = Bench()
    slot, waiting = bench.take(), bench.wait()
    bench.pass_time(5000.0)
    bench.door.release(slot, SlotEnding.COMPLETED, NO_TIMES)
    assert bench.served[0][1] is waiting


def test_a_tick_serves_whom_the_limit_lets_in_now() -> None:
    bench = Bench()
    bench.take()
    waiting = bench.wait(60.0)
    bench.door.station._limit = FixedLimit(2)
    bench.pass_time(1.0)
    assert bench.served == []
    bench.door.tick(has_spooled=False)
    assert bench.served[0][1] is waiting


def fail(bench: Bench) -> None:
    """Let transactions fail until the breaker opens."""
    for _ in range(20):
        if bench.door.station.breaker.state is not BreakerState.CLOSED:
            return
        bench.door.release(bench.take(), SlotEnding.REFUSED, NO_TIMES)
    pytest.fail("the breaker stays closed")


def test_live_mail_is_sent_away_from_a_server_that_is_away_and_spooled_mail_stays() -> None:
    bench = Bench()
    slot = bench.take()
    live, spooled = bench.wait(60.0), bench.wait()
    bench.door.release(slot, SlotEnding.REFUSED, NO_TIMES)
    while bench.door.station.breaker.state is BreakerState.CLOSED:
        _, who, granted = bench.served.pop()
        if who is live:
            live = bench.wait(60.0)
        else:
            spooled = bench.wait()
        bench.door.release(granted, SlotEnding.REFUSED, NO_TIMES)
    bench.pass_time(0.1)
    assert live in [who for _, who in bench.none]
    assert spooled not in [who for _, who in bench.none]


def test_a_server_that_is_away_is_asked_when_it_is_time_step_by_step() -> None:
    bench = Bench()
    fail(bench)
    bench.pass_time(60.0)
    ((first, step, done),) = bench.asked
    assert (first > 0.0, step) == (True, Step.EHLO)
    done(SlotEnding.COMPLETED)
    bench.pass_time(60.0)
    assert [asked[1] for asked in bench.asked] == [Step.EHLO, Step.MAIL]


def test_after_its_questions_are_answered_one_message_is_tried() -> None:
    bench = Bench()
    fail(bench)
    waiting = bench.wait()
    answered = 0
    for _ in range(4):
        bench.pass_time(40.0)
        while answered < len(bench.asked):
            bench.asked[answered][2](SlotEnding.COMPLETED)
            answered += 1
    assert answered == 2
    assert [who for _, who, _ in bench.served] == [waiting]
