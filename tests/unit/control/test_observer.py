"""What is seen of a backend: light samples, censored ones, windows, stalls, tarpits."""

from dataclasses import replace
from math import inf

import pytest

from mailshed.control.baseline import Baseline
from mailshed.control.limit import Flight
from mailshed.control.observer import (
    FIRST_RANK_SECONDS,
    LATE_DOT_SECONDS,
    STALL_SECONDS,
    STALL_X,
    WINDOW_SAMPLES,
    WINDOW_SAMPLES_FEW,
    Observer,
    Seen,
)
from mailshed.mail.delivery import StageTimes

TIMES = StageTimes(mail=0.01, envelope=0.02, content=0.01, service=0.1)
HARMLESS = 3.0


class Watch:
    """An observer, with a baseline of 0.1 s a message, and its time."""

    def __init__(self, *, has_late_dot: bool = False) -> None:
        self.baseline = Baseline()
        for _ in range(40):
            self.baseline.note(
                size=5000,
                recipients=1,
                in_flight=1,
                mail=0.01,
                envelope=0.02,
                data=0.01 if has_late_dot else 0.08,
            )
        self.baseline.learn(4)
        self.observer = Observer(self.baseline, has_late_dot=has_late_dot)
        self.now = 0.0
        self.observer.window.begin(0.0)

    def start(self, *, is_first: bool = False, gate: int = 4, until: float = inf) -> Flight:
        flight = Flight(5000, 1, is_first, self.now, self.observer.in_flight + 1)
        self.is_light = self.observer.start(self.now, flight, gate, until)
        return flight

    def end(self, flight: Flight, times: StageTimes = TIMES) -> None:
        expected, is_light = self.observer.end(self.now, flight)
        self.observer.last_answer = self.now
        self.observer.served(self.now, flight, times, expected, is_light=is_light)

    def serve(self, number: int, seconds: float = 0.1, *, is_first: bool = False) -> None:
        """One after the other."""
        for _ in range(number):
            flight = self.start(is_first=is_first)
            self.now += seconds
            self.end(flight, replace(TIMES, service=seconds))

    def look(self) -> Seen | None:
        return self.observer.look(self.now, HARMLESS)


def test_a_message_is_light_if_few_are_in_flight() -> None:
    watch = Watch()
    seen = []
    for _ in range(6):
        watch.start(gate=4)
        seen.append(watch.is_light)
    assert seen == [True] * 4 + [False] * 2


def test_a_message_that_may_outlast_the_probe_is_not_light() -> None:
    watch = Watch()
    watch.start(until=0.31)
    assert watch.is_light
    watch.start(until=0.29)
    assert not watch.is_light


def test_only_light_messages_teach() -> None:
    watch = Watch()
    for gate, samples in ((0, 0), (4, 1)):
        flight = watch.start(gate=gate)
        watch.now += 0.1
        watch.end(flight)
        assert watch.baseline.samples == samples


def test_a_window_takes_a_second_and_thirty_samples() -> None:
    watch = Watch()
    for _ in range(10):
        flights = [watch.start() for _ in range(4)]
        watch.now += 0.11
        for flight in flights:
            watch.end(flight)
        if watch.now < 1.0:
            assert watch.look() is None
    found = watch.look()
    assert found is not None
    assert len(watch.observer.window.samples) >= WINDOW_SAMPLES
    assert found.x == pytest.approx(1.0)


def test_few_samples_are_enough_after_ten_seconds_or_with_few_in_flight() -> None:
    watch = Watch()
    watch.serve(WINDOW_SAMPLES_FEW, 0.19)
    assert watch.look() is None, "not a second yet"
    watch.now = 1.1
    assert watch.look() is not None
    busy = Watch()
    others = [busy.start() for _ in range(4)]
    for flight in others:
        busy.end(flight)
    busy.serve(1)
    busy.now = 5.0
    assert busy.look() is None
    busy.now = 10.0
    assert busy.look() is not None


def test_a_window_lasts_two_service_times() -> None:
    watch = Watch()
    watch.observer.service = 2.0
    watch.serve(20)
    assert watch.look() is None
    watch.now = 4.0
    assert watch.look() is not None


def test_what_is_late_counts_as_a_sample_of_its_age() -> None:
    watch = Watch()
    for _ in range(40):
        watch.start()
    watch.now = 1.0
    found = watch.look()
    assert found is not None
    assert found.x == pytest.approx(10.0)


def test_what_is_not_late_yet_does_not() -> None:
    watch = Watch()
    watch.serve(9)
    watch.now = 1.0
    watch.start()
    watch.now = 1.1
    found = watch.look()
    assert found is not None
    assert found.x == pytest.approx(1.0)


def test_slots_that_are_held_before_the_service_make_nobody_late() -> None:
    """As for a new connection for each message."""
    watch = Watch()
    for _ in range(20):
        flight = watch.start()
        watch.now += 0.5
        watch.end(flight)
    watch.start()
    watch.now += 0.55
    found = watch.look()
    assert found is not None
    assert found.tail == pytest.approx(1.0)
    assert watch.observer.window.service_share == pytest.approx(0.2)


def test_the_smoothed_x_is_of_about_three_windows() -> None:
    watch = Watch()
    smoothed = []
    for _ in range(4):
        watch.serve(10, 0.3)
        assert watch.look() is not None
        watch.observer.window.begin(watch.now)
        smoothed.append(watch.observer.x)
    assert smoothed == pytest.approx([2.0, 2.5, 2.75, 2.875])


def test_a_tarpit_is_a_delay_of_mail_alone() -> None:
    watch = Watch()
    for _ in range(10):
        flight = watch.start()
        watch.now += 5.1
        watch.end(flight, StageTimes(mail=5.01, envelope=5.02, content=0.01, service=5.1))
    found = watch.look()
    assert found is not None
    assert watch.observer.is_delayed
    assert found.x == pytest.approx(1.0, abs=0.01)
    assert watch.observer.stages.mail == pytest.approx(501.0)


def test_a_backend_that_is_slow_throughout_is_no_tarpit() -> None:
    watch = Watch()
    for _ in range(10):
        flight = watch.start()
        watch.now += 0.5
        watch.end(flight, StageTimes(mail=0.05, envelope=0.1, content=0.05, service=0.5))
    found = watch.look()
    assert found is not None
    assert not watch.observer.is_delayed
    assert found.x == pytest.approx(5.0)


def test_strangers_are_counted() -> None:
    watch = Watch()
    flight = Flight(30_000_000, 1, is_first=False, started_at=0.0, in_flight=1)
    watch.observer.start(0.0, flight, 4, inf)
    watch.now = 1.0
    watch.end(flight)
    watch.serve(1)
    assert watch.observer.window.strangers == 1


def test_the_slow_ones_of_rank_0_of_the_last_minute() -> None:
    watch = Watch()
    watch.serve(4, 0.4, is_first=True)
    watch.serve(20, 0.1)
    assert watch.observer.first_slow(watch.now) == 0.0, "too few to say"
    watch.serve(1, 0.7, is_first=True)
    assert watch.observer.first_slow(watch.now) == pytest.approx(0.7)
    assert watch.observer.first_slow(watch.now + FIRST_RANK_SECONDS + 1) == 0.0
    watch.observer.forget_first()
    assert watch.observer.first_slow(watch.now) == 0.0


def test_a_stall_is_all_being_late_and_nothing_coming_back() -> None:
    watch = Watch()
    flights = [watch.start() for _ in range(3)]
    watch.now = 0.1 * STALL_X + STALL_SECONDS
    assert watch.observer.is_stalled(watch.now)
    watch.end(flights[0])
    assert not watch.observer.is_stalled(watch.now), "something came back"


def test_two_slow_messages_are_no_stall() -> None:
    watch = Watch()
    watch.start()
    watch.start()
    assert not watch.observer.is_stalled(1000.0)


def test_where_slow_messages_are_usual_a_stall_takes_longer() -> None:
    watch = Watch()
    watch.baseline.tail = 10.0
    for _ in range(5):
        watch.start()
    assert not watch.observer.is_stalled(2.9)
    assert watch.observer.is_stalled(3.1)


def test_what_was_in_flight_during_a_stall_is_not_counted_again() -> None:
    watch = Watch()
    flights = [watch.start(is_first=True) for _ in range(10)]
    watch.now = 60.0
    watch.observer.note_stall(watch.now)
    watch.now = 61.0
    for flight in flights[:8]:
        watch.end(flight, replace(TIMES, service=61.0))
    assert watch.observer.window.samples == []
    assert watch.observer.window.began == 61.0
    assert watch.observer.first_slow(watch.now) == 0.0
    watch.serve(15)
    found = watch.look()
    assert found is not None
    assert found.x == pytest.approx(1.0), "nor are those that are still there late anew"


def test_where_the_reply_to_the_dot_is_late_by_design_it_is_left_out() -> None:
    watch = Watch(has_late_dot=True)
    for _ in range(10):
        flight = watch.start()
        watch.now += 20.0
        watch.end(flight, replace(TIMES, service=20.0))
    found = watch.look()
    assert found is not None
    assert found.x == pytest.approx(1.0)
    for _ in range(5):
        watch.start()
    assert not watch.observer.is_stalled(watch.now + LATE_DOT_SECONDS)
    assert watch.observer.is_stalled(watch.now + LATE_DOT_SECONDS + 1.0)


def test_times_that_tell_nothing_are_no_sample() -> None:
    watch = Watch()
    flight = watch.start(is_first=True)
    watch.now += 9.0
    watch.end(flight, StageTimes(connect=1.0))
    assert watch.observer.window.samples == []
    assert watch.baseline.samples == 0


# One too many.


def _flight(started_at: float, in_flight: int) -> Flight:
    return Flight(5000, 1, False, started_at, in_flight)


def test_mail_is_answered_late_for_one_too_many() -> None:
    observer = Watch().observer
    assert not observer.is_one_too_many(_flight(0.0, 20), 0.01), "before it, so no comparison"
    for at in (1.0, 2.0, 3.0):
        assert not observer.is_one_too_many(_flight(at, 12), 0.01)
    assert observer.is_one_too_many(_flight(0.5, 13), 5.0)
    assert not observer.is_one_too_many(_flight(0.5, 12), 5.0), "others with 12 were not late"


def test_a_delay_for_all_is_not_for_their_number() -> None:
    observer = Watch().observer
    for at in (1.0, 2.0, 3.0):
        assert not observer.is_one_too_many(_flight(at, 5), 5.0)
    observer.is_one_too_many(_flight(4.0, 13), 0.01)
    assert not observer.is_one_too_many(_flight(3.5, 9), 5.0)


def test_a_reply_that_is_a_little_late_is_no_delay() -> None:
    observer = Watch().observer
    observer.is_one_too_many(_flight(1.0, 5), 0.01)
    assert not observer.is_one_too_many(_flight(0.5, 9), 1.0)
    assert not observer.is_one_too_many(_flight(0.5, 9), 0.0), "nobody told"
    assert observer.is_one_too_many(_flight(0.5, 9), 2.0)


def late(watch: Watch, mail: float) -> Flight:
    """A message with ten in flight whose MAIL takes so long; it was let in now."""
    flight = Flight(5000, 1, is_first=False, started_at=watch.now, in_flight=10)
    watch.observer.start(watch.now, flight, 4, inf)
    watch.now += mail
    return flight


def test_one_too_many_is_late_while_others_are_answered() -> None:
    watch = Watch()
    flight = late(watch, 1.0)
    other = watch.start()
    watch.now += 0.1
    assert not watch.observer.is_one_too_many(other, 0.01)
    watch.now += 3.9
    assert watch.observer.is_one_too_many(flight, 5.0)


def test_a_backend_that_stood_still_for_all_has_not_one_too_many() -> None:
    """The next ones are answered at once, with fewer beside them; that proves nothing."""
    watch = Watch()
    flight = late(watch, 3.0)
    other = watch.start()
    watch.now += 0.1
    assert not watch.observer.is_one_too_many(other, 0.01)
    assert not watch.observer.is_one_too_many(flight, 3.0)


def test_nor_has_one_that_delays_all_alike() -> None:
    watch = Watch()
    flights = [late(watch, 0.5) for _ in range(8)]
    watch.now += 5.0
    assert not any(watch.observer.is_one_too_many(each, 5.0) for each in flights)


def test_others_with_as_many_beside_them_speak_against_it() -> None:
    watch = Watch()
    flight = late(watch, 1.0)
    other = late(watch, 0.1)
    assert not watch.observer.is_one_too_many(other, 0.01)
    watch.now += 4.0
    assert not watch.observer.is_one_too_many(flight, 5.0)


def _crowd(observer: Observer, starts: dict[float, float]) -> list[bool]:
    """12 were answered at once; then the 13th and on, `starts` with their delays, and no other."""
    for number in range(12):
        observer.is_one_too_many(_flight(float(number), number + 1), 0.01)
    return [
        observer.is_one_too_many(_flight(20.0 + began, 13 + number), delay)
        for number, (began, delay) in enumerate(starts.items())
    ]


def test_where_all_are_delayed_by_the_same_time_they_are_too_many() -> None:
    """All slots wait in the tarpit, so that nobody is answered at once."""
    observer = Watch().observer
    assert _crowd(observer, {0.0: 5.0, 0.5: 5.0, 1.0: 5.1}) == [False, True, True]
    assert not observer.is_one_too_many(_flight(21.5, 17), 5.0), "12 is too far from 17"
    assert not observer.is_one_too_many(_flight(60.0, 13), 5.0), "that was long ago"


def test_where_all_are_answered_at_the_same_time_it_was_a_stall() -> None:
    assert not any(_crowd(Watch().observer, {0.0: 5.0, 0.5: 4.5, 1.0: 4.0, 2.0: 3.0}))
