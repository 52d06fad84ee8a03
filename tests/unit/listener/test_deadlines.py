"""The deadlines of a session: each of its own, one timer for all, and none while we work."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from mailshed.listener.deadlines import PAUSE_LOOK, Phase, SessionTimer
from tests.support.builders import session_limits


@dataclass(eq=False)
class Handle:
    """What the loop gives for a timer."""

    when: float
    callback: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Loop:
    """A loop whose time the test moves."""

    now: float = 1000.0
    handles: list[Handle] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Handle:
        self.handles.append(Handle(when, callback))
        return self.handles[-1]

    @property
    def armed(self) -> list[float]:
        """When it will wake somebody."""
        return [each.when for each in self.handles if not each.is_cancelled]

    def pass_to(self, when: float) -> None:
        """Let time pass, with all that is due."""
        while due := [each for each in self.handles if not each.is_cancelled and each.when <= when]:
            first = min(due, key=lambda each: each.when)
            self.now = max(self.now, first.when)
            self.handles.remove(first)
            first.callback()
        self.now = when


class Rig:
    """One timer on its loop, and what it found overdue and when."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.overdue: list[tuple[float, Phase]] = []
        self.timer = SessionTimer(cast("Any", self.loop), self._note)

    def _note(self, phase: Phase) -> None:
        self.overdue.append((self.loop.now - 1000.0, phase))

    def at(self, seconds: float) -> "Rig":
        """Let time pass up to so many seconds after the beginning."""
        self.loop.pass_to(1000.0 + seconds)
        return self


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_command_that_does_not_come_is_overdue_once(rig: Rig) -> None:
    rig.timer.expect(5.0)
    assert rig.at(4.9).overdue == []
    assert rig.at(100.0).overdue == [(5.0, Phase.COMMAND)]
    assert rig.loop.armed == []


def test_commands_that_come_in_time_arm_no_timer(rig: Rig) -> None:
    for second in range(10):
        rig.at(second).timer.expect(60.0)
    assert rig.loop.armed == [1060.0]
    assert rig.timer.next_deadline == 1069.0
    assert rig.at(68.9).overdue == []
    assert rig.at(70.0).overdue == [(69.0, Phase.COMMAND)]


def test_an_earlier_deadline_arms_the_timer_anew_and_a_later_one_does_not(rig: Rig) -> None:
    rig.timer.expect(1.0)
    rig.timer.expect(2.0)
    rig.timer.expect(0.5)
    assert rig.loop.armed == [1000.5]
    assert len(rig.loop.handles) == 2


def test_octets_that_drip_do_not_move_the_end_of_a_line(rig: Rig) -> None:
    rig.timer.expect(300.0)
    rig.timer.begin_line(60.0)
    for second in range(1, 60):
        rig.at(second).timer.begin_line(60.0)
    assert rig.timer.is_in_line
    assert rig.at(61.0).overdue == [(60.0, Phase.LINE)]


def test_a_line_that_ends_in_time_leaves_the_deadline_of_the_command(rig: Rig) -> None:
    rig.timer.expect(100.0)
    rig.timer.begin_line(10.0)
    rig.at(9.0).timer.end_line()
    assert not rig.timer.is_in_line
    assert rig.at(101.0).overdue == [(100.0, Phase.COMMAND)]


def test_replies_that_are_not_read_are_overdue(rig: Rig) -> None:
    rig.timer.expect(300.0)
    rig.timer.begin_reply(10.0)
    assert rig.at(11.0).overdue == [(10.0, Phase.REPLY)]


def test_replies_that_are_read_are_not(rig: Rig) -> None:
    rig.timer.expect(300.0)
    rig.timer.begin_reply(10.0)
    rig.at(9.0).timer.end_reply()
    assert rig.at(200.0).overdue == []


def test_a_session_without_mail_ends_however_busy_it_is(rig: Rig) -> None:
    rig.timer.note_mail(100.0)
    for second in range(0, 100, 10):
        rig.at(second).timer.expect(30.0)
    assert rig.at(101.0).overdue == [(100.0, Phase.NO_MAIL)]


def test_a_message_that_is_taken_gives_it_time_anew(rig: Rig) -> None:
    rig.timer.note_mail(100.0)
    for second in range(0, 180, 10):
        rig.at(second).timer.expect(30.0)
        if second == 90:
            rig.timer.note_mail(100.0)
    rig.timer.expect(30.0)
    assert rig.at(191.0).overdue == [(190.0, Phase.NO_MAIL)]


def test_mail_data_that_arrives_is_mail(rig: Rig) -> None:
    """However long it takes at its least rate."""
    rig.timer.note_mail(100.0)
    for second in range(0, 200, 10):
        rig.at(second).timer.expect(30.0, Phase.DATA)
    assert rig.overdue == []
    assert rig.at(221.0).overdue == [(220.0, Phase.DATA)]


def test_our_own_work_is_nobodys_delay(rig: Rig) -> None:
    rig.timer.expect(10.0)
    rig.timer.note_mail(20.0)
    rig.timer.is_paused = True
    assert rig.at(10.0 + 5 * PAUSE_LOOK).overdue == []
    rig.timer.is_paused = False
    rig.timer.note_mail(1000.0)
    rig.timer.expect(10.0)
    assert rig.at(25.0 + 5 * PAUSE_LOOK).overdue == [(20.0 + 5 * PAUSE_LOOK, Phase.COMMAND)]


def test_a_cancelled_timer_is_not_armed(rig: Rig) -> None:
    rig.timer.expect(10.0)
    rig.timer.cancel()
    rig.timer.cancel()
    assert rig.at(100.0).overdue == []


def test_last_words_are_all_that_is_expected_at_the_end(rig: Rig) -> None:
    rig.timer.expect(1.0)
    rig.timer.begin_line(2.0)
    rig.timer.begin_reply(3.0)
    rig.timer.note_mail(4.0)
    rig.timer.is_paused = True
    rig.timer.close(10.0)
    assert rig.at(11.0).overdue == [(10.0, Phase.CLOSE)]


# Stress.

HURRIED = session_limits(
    command_timeout=10.0,
    line_timeout=9.0,
    reply_timeout=8.0,
    data_timeout=7.0,
    session_idle_max=60.0,
)
PATIENT = session_limits(command_timeout=300.0, session_idle_max=3600.0)


@pytest.mark.parametrize(
    ("begin", "seconds", "phase"),
    [
        (lambda timer: timer.expect(300.0), 10.0, Phase.COMMAND),
        (lambda timer: timer.expect(300.0, Phase.DATA), 7.0, Phase.DATA),
        (lambda timer: (timer.expect(300.0), timer.begin_line(60.0)), 9.0, Phase.LINE),
        (lambda timer: (timer.expect(300.0), timer.begin_reply(60.0)), 8.0, Phase.REPLY),
    ],
)
def test_when_stress_begins_every_deadline_comes_nearer(
    rig: Rig, begin: Callable[[SessionTimer], object], seconds: float, phase: Phase
) -> None:
    begin(rig.timer)
    rig.at(5.0).timer.fit(HURRIED)
    assert rig.at(50.0).overdue == [(5.0 + seconds, phase)]


def test_stress_puts_nothing_off(rig: Rig) -> None:
    rig.timer.expect(2.0)
    rig.timer.fit(HURRIED)
    assert rig.at(3.0).overdue == [(2.0, Phase.COMMAND)]


def test_a_session_that_was_idle_for_long_has_the_time_of_one_command_left(rig: Rig) -> None:
    rig.timer.note_mail(3600.0)
    rig.at(1000.0).timer.expect(300.0)
    rig.timer.fit(HURRIED)
    for second in range(1000, 1010):
        rig.at(second).timer.expect(10.0)
    assert rig.at(1011.0).overdue == [(1010.0, Phase.NO_MAIL)]


def test_when_it_ends_an_idle_session_has_its_hour_again(rig: Rig) -> None:
    rig.timer.note_mail(3600.0)
    rig.timer.expect(300.0)
    rig.timer.fit(HURRIED)
    rig.at(5.0).timer.fit(PATIENT)
    for second in range(5, 3600, 5):
        rig.at(second).timer.expect(300.0)
    assert rig.overdue == []
    assert rig.at(3601.0).overdue == [(3600.0, Phase.NO_MAIL)]
