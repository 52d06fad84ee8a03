"""The adaptive limit: against models of backends in virtual time, and in detail.

Figures are ratios to what the model can do. Each holds for the seeds that were tried with room to
spare; the seed is fixed here so that a change of the code is what turns a test red.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit import Flight, LimitChange, Measuring, SlotEnding
from mailshed.mail.delivery import StageTimes
from tests.support.closed_loop import Loop, Mail, Model, Span, contended, servers, sharing

MOST = 200
SLOW_MAIL = Mail(base=0.2)
"""A quarter of the messages, so that more time passes in a test."""
UNLOADED = StageTimes(mail=0.01, envelope=0.02, content=0.01, service=0.1)


def loop(model: Model, **changes: Any) -> Loop:
    """A loop with a new limit."""
    return Loop(AdaptiveLimit(highest=MOST), model, **changes)


def settled(model: Model, seconds: float = 120.0, **changes: Any) -> Loop:
    """A loop after it has found its way."""
    made = loop(model, **changes)
    made.run(seconds)
    return made


def limit_of(made: Loop) -> AdaptiveLimit:
    """Its limit."""
    assert isinstance(made.limit, AdaptiveLimit)
    return made.limit


def seconds_until(made: Loop, is_so: Callable[[AdaptiveLimit], bool], most: int) -> int:
    """How many seconds it took."""
    for second in range(most):
        if is_so(limit_of(made)):
            return second
        made.run(1.0)
    raise AssertionError(f"not within {most} s: {limit_of(made).picture()}")


# Under twice and more of what the backend can do.


@pytest.mark.parametrize(
    ("make", "mail"),
    [
        (lambda: servers(8), Mail(base=0.1)),
        (lambda: sharing(8), Mail(base=0.1)),
        (lambda: servers(8), Mail(base=0.1, noise=1.0)),
        (lambda: servers(1), SLOW_MAIL),
        (lambda: servers(2), Mail(base=1.0)),
        (lambda: servers(50), Mail(base=1.0)),
    ],
)
def test_the_backend_is_kept_busy(make: Callable[[], Model], mail: Mail) -> None:
    made = settled(make(), 300.0, mail=mail)
    assert made.run(300.0).use >= 0.98


def test_with_few_more_than_it_needs() -> None:
    """Whatever waits inside the backend is beyond the reach of classes."""
    made = settled(servers(8))
    span = made.run(120.0)
    assert 8 <= span.limit_mean <= 13
    assert span.limit_max <= 17


def test_a_contended_backend_is_kept_at_nine_tenths_of_its_best() -> None:
    made = settled(contended(0.05, 0.001), 1200.0, mail=SLOW_MAIL)
    assert made.run(600.0).use >= 0.90
    assert limit_of(made).picture().queue_factor > 1.2, "its queue may be longer than usual"


def test_a_backend_that_gains_nothing_gets_a_shorter_queue() -> None:
    made = settled(servers(8), 600.0, mail=SLOW_MAIL)
    assert limit_of(made).picture().queue_factor < 0.8


def test_a_tenth_of_slow_messages_starves_nobody() -> None:
    """One database of the backend is ten times as slow: a median does not see it, a tail does."""
    made = settled(servers(8), mail=Mail(slow_share=0.2))
    assert made.run(300.0).use >= 0.95


def test_six_hours_of_overload_do_not_move_it() -> None:
    made = loop(servers(8), mail=Mail(base=1.5), rate=7.0)
    made.run(600.0)
    hours = [made.run(3600.0) for _ in range(6)]
    assert hours[5].limit_mean == pytest.approx(hours[0].limit_mean, rel=0.10)
    assert min(hour.use for hour in hours) >= 0.98


# When something changes.


def test_messages_of_twenty_times_the_size_are_no_congestion() -> None:
    made = settled(servers(8), mail=Mail(base=0.1))
    before = made.run(120.0).limit_mean
    made.mail = replace(made.mail, size_min=20 * made.mail.size_min)
    span = made.run(240.0)
    assert span.limit_mean == pytest.approx(before, rel=0.20)
    assert span.use >= 0.97


@pytest.mark.parametrize(("c", "base"), [(8, 0.05), (100, 0.2)])
def test_a_stall_is_seen_without_a_single_answer(c: int, base: float) -> None:
    made = settled(servers(c), mail=Mail(base=base))
    made.model.set_speed(made.now, 0.0)
    assert seconds_until(made, lambda limit: limit.picture().limit <= 2, 16) <= 15
    made.run(45.0)
    assert made.flying <= max(2 * c, 20)
    made.model.set_speed(made.now, 1.0)
    made.run(80.0)  # a hundred processes are found again from two slots on
    assert made.run(60.0).use >= 0.95


def test_half_of_the_capacity_is_used_while_there_is_no_more() -> None:
    made = settled(servers(8), mail=Mail(base=0.1))
    made.model.set_speed(made.now, 0.5)
    made.run(60.0)
    assert made.run(300.0).use >= 0.95 * 0.5
    made.model.set_speed(made.now, 1.0)
    assert made.run(120.0).use >= 0.95


@pytest.mark.parametrize("speed", [0.5, 0.25])
def test_a_large_backend_that_becomes_slow_is_not_starved(speed: float) -> None:
    """All messages take longer, with few in flight too: that is no queue of ours."""
    made = settled(servers(50), mail=Mail(base=0.2))
    made.model.set_speed(made.now, speed)
    made.run(150.0)
    assert made.run(60.0).use >= 0.85 * speed


def test_a_backend_that_is_slower_for_good_is_used_in_full_within_two_epochs() -> None:
    made = settled(servers(8), 900.0, mail=Mail(base=0.5))
    before = made.run(600.0).limit_mean
    made.model.set_speed(made.now, 1 / 1.3)
    made.run(1200.0)
    after = made.run(600.0)
    assert after.limit_mean >= 0.85 * before
    assert after.use >= 0.98 / 1.3


def test_a_cap_on_connections_is_learned_and_used() -> None:
    made = loop(servers(20), cap=10, mail=Mail(base=0.1))
    made.run(20.0)
    span = made.run(600.0)
    assert span.refused <= 0.001 * span.attempts
    assert limit_of(made).picture().learned_ceiling in (10, 11)
    assert span.work >= 0.98 * 10 * span.seconds


def test_a_cap_that_is_raised_is_found_within_two_hours() -> None:
    made = loop(servers(20), cap=10, mail=Mail(base=3.0))
    made.run(900.0)
    made.cap = 20
    made.run(7200.0)
    assert made.limit.ceiling >= 19
    assert made.run(600.0).refused <= 2


def test_at_night_nothing_happens_to_it() -> None:
    made = loop(servers(8), rate=0.05)
    night = made.run(8 * 3600.0)
    assert night.limit_min >= 2
    assert made.waiting == 0
    made.set_rate(None)
    assert made.run(10.0).use >= 0.9


def test_a_tarpit_is_no_reason_to_send_more_or_much_less() -> None:
    made = settled(servers(8), mail=Mail(base=0.1))
    before = made.run(60.0)
    made.tarpit = 1.0
    made.run(30.0)
    span = made.run(60.0)
    assert limit_of(made).picture().is_delayed
    assert span.limit_max <= 1.1 * before.limit_max
    assert span.limit_mean >= 0.5 * before.limit_mean


@pytest.mark.parametrize(("share", "least", "most"), [(0.01, 7.0, 16.0), (0.5, 2.0, 3.0)])
def test_room_that_the_backend_does_not_have(share: float, least: float, most: float) -> None:
    """One message in a hundred is an oddity of that message; half of them are not."""
    made = settled(servers(8), 60.0, mail=Mail(busy_share=share))
    assert least <= made.run(60.0).limit_mean <= most


def test_after_an_outage_it_begins_with_few_and_forgets_no_ceiling() -> None:
    made = settled(servers(8), mail=Mail(base=0.02))
    made.is_away = True
    made.run(3.0)
    made.set_rate(1e-9)
    made.run(60.0)
    assert limit_of(made).picture().cause == "away"
    assert made.limit.limit(made.now) == 2
    made.is_away = False
    made.set_rate(None)
    assert limit_of(made).picture().learned_ceiling is None
    made.run(20.0)
    assert made.run(20.0).use >= 0.95


def test_a_probe_holds_all_but_what_overdraws() -> None:
    made = settled(servers(8), 100.0)
    seconds_until(made, lambda limit: limit.picture().is_probing, 60)
    assert made.limit.limit(made.now) <= 4
    assert made.limit.ceiling == MOST
    seconds_until(made, lambda limit: not limit.picture().is_probing, 5)
    assert made.limit.limit(made.now) >= 7


def test_probes_cost_less_than_a_hundredth() -> None:
    made = settled(servers(8), 600.0, mail=Mail(base=0.4))
    probing = sum(_is_probing(made) for _ in range(1200))
    assert 0 < probing <= 12


def _is_probing(made: Loop) -> bool:
    made.run(1.0)
    return limit_of(made).picture().is_probing


def test_the_same_seed_gives_the_same_run() -> None:
    def run() -> tuple[Span, Any]:
        made = loop(servers(8), seed=7)
        return made.run(60.0), limit_of(made).picture()

    assert run() == run()


# In detail.


class Hands:
    """Messages by hand: all take as long as said, `in_flight` at a time."""

    def __init__(self, limit: AdaptiveLimit) -> None:
        self.limit = limit
        self.now = 0.0

    def start(self, *, in_flight: int = 1, is_first: bool = False, size: int = 5000) -> Flight:
        flight = Flight(size, 1, is_first, self.now, in_flight)
        self.limit.on_start(self.now, flight)
        return flight

    def end(
        self,
        flight: Flight,
        ending: SlotEnding = SlotEnding.COMPLETED,
        times: StageTimes = UNLOADED,
    ) -> None:
        self.limit.on_end(self.now, flight, ending, times)

    def tick(self, seconds: float = 0.25, *, is_backlogged: bool = True) -> LimitChange | None:
        self.now += seconds
        return self.limit.tick(self.now, is_backlogged=is_backlogged)

    def serve(
        self, number: int, *, together: int = 1, seconds: float = 0.1, is_first: bool = False
    ) -> list[LimitChange]:
        """So many rounds of `together` messages that take `seconds`, with their ticks."""
        times = replace(UNLOADED, service=seconds)
        changes = []
        for _ in range(number):
            flights = [self.start(in_flight=n + 1, is_first=is_first) for n in range(together)]
            self.now += seconds
            for flight in flights:
                self.end(flight, times=times)
            change = self.limit.tick(self.now, is_backlogged=True)
            changes += [change] if change is not None else []
        return changes


def learned(**changes: Any) -> Hands:
    """With expected times of 0.1 s."""
    hands = Hands(AdaptiveLimit(**({"highest": MOST} | changes)))
    hands.tick()
    hands.serve(40)
    assert hands.limit.picture().is_baseline_known
    return hands


def test_until_it_knows_what_to_expect_it_holds_the_lowest_limit() -> None:
    hands = Hands(AdaptiveLimit(highest=MOST, start=8))
    assert hands.limit.limit(0.0) == 2
    assert hands.limit.expected(5000, 1) is None
    assert hands.limit.reading(0.0).capacity is None
    assert hands.limit.reading(0.0).queue is None
    hands.tick()
    hands.serve(40)
    assert hands.limit.limit(hands.now) == 8
    assert hands.limit.expected(5000, 1) == pytest.approx(0.1)


def test_few_messages_are_enough_after_ten_seconds() -> None:
    hands = Hands(AdaptiveLimit(highest=MOST))
    hands.start()
    hands.tick()
    hands.serve(6, seconds=2.0)
    assert hands.limit.expected(5000, 1) == pytest.approx(2.0)


def test_it_grows_by_half_and_then_step_by_step() -> None:
    hands = learned()
    changes = hands.serve(60, together=4)
    assert changes[0] == LimitChange(before=4, after=6, cause="slow_start")
    assert {change.cause for change in changes} == {"slow_start"}


def test_what_is_not_used_does_not_grow() -> None:
    hands = learned(start=20)
    assert hands.serve(60, together=4) == []
    assert hands.limit.limit(hands.now) == 20


def test_it_never_exceeds_its_bounds() -> None:
    hands = learned(highest=5)
    hands.serve(100, together=5)
    assert (hands.limit.limit(hands.now), hands.limit.ceiling) == (5, 5)


def test_a_queue_inside_the_backend_cuts_it() -> None:
    hands = learned(start=20)
    changes = hands.serve(1, together=40, seconds=1.5)
    assert changes[0].cause == "queue"
    assert changes[0].after == 14


def test_one_cut_is_not_made_twice_for_what_it_let_in_before() -> None:
    hands = learned(start=40)
    early = [hands.start(in_flight=n + 1) for n in range(80)]
    hands.serve(1, together=40, seconds=1.5)
    cut = hands.limit.limit(hands.now)
    hands.now += 0.5
    for flight in early:
        hands.end(flight, times=replace(UNLOADED, service=2.0))
    hands.tick(0.75)
    assert hands.limit.limit(hands.now) == cut


def test_the_absolute_rule_needs_a_slow_backend_and_goes_no_lower_than_half() -> None:
    hands = learned(start=5, response_max=0.14)
    hands.serve(200, together=4, seconds=0.12, is_first=True)
    assert hands.limit.picture().cause != "response", "not slow enough to be blamed"
    hands = learned(start=5, response_max=1.0)
    changes = hands.serve(40, together=5, seconds=1.2, is_first=True)
    falls = [change for change in changes if change.after < change.before]
    assert {change.cause for change in falls} == {"response"}
    assert min(change.after for change in falls) == 2


def test_a_limit_on_response_that_cannot_be_kept_is_not_tried() -> None:
    """Mail takes longer than that on the unloaded backend."""
    hands = learned(start=5, response_max=0.01)
    hands.serve(40, together=4, seconds=0.14, is_first=True)
    assert hands.limit.picture().cause != "response"


def test_a_command_that_timed_out_cuts_once_a_second() -> None:
    hands = learned(start=20)
    flights = [hands.start(in_flight=n + 1) for n in range(4)]
    hands.now += 30.0
    hands.end(flights[0], SlotEnding.STALLED)
    assert hands.limit.limit(hands.now) == 14
    hands.now += 1.5
    hands.end(flights[1], SlotEnding.STALLED)
    assert hands.limit.limit(hands.now) == 14, "it was let in before the cut"


def test_nothing_but_failures_means_to_start_again() -> None:
    hands = learned(start=4)
    for _ in range(4):
        hands.now += 0.1
        hands.end(hands.start(), SlotEnding.REFUSED)
    change = hands.tick()
    assert change == LimitChange(before=4, after=2, cause="away")
    assert hands.limit.ceiling == MOST


def test_a_refusal_lowers_the_ceiling_at_once() -> None:
    hands = learned(start=12)
    first = hands.start(in_flight=1)
    refused = hands.start(in_flight=11)
    hands.end(refused, SlotEnding.REFUSED)
    hands.end(first)
    assert (hands.limit.limit(hands.now), hands.limit.ceiling) == (10, 10)
    assert hands.tick() == LimitChange(before=12, after=10, cause="refused")


def test_a_backend_that_greets_no_more_connections_lowers_it_too() -> None:
    hands = learned(start=12)
    first = hands.start(in_flight=1)
    hands.limit.on_crowded(hands.now, 4)
    hands.end(first)
    assert (hands.limit.limit(hands.now), hands.limit.ceiling) == (4, 4)
    assert hands.tick() == LimitChange(before=12, after=4, cause="refused")


@pytest.mark.parametrize(
    "ending",
    [SlotEnding.RECIPIENT, SlotEnding.POLICY, SlotEnding.UNUSED, SlotEnding.IN_DOUBT],
)
def test_what_is_about_single_messages_moves_nothing(ending: SlotEnding) -> None:
    hands = learned(start=10)
    before = hands.limit.picture()
    for _ in range(50):
        flight = hands.start()
        hands.now += 0.1
        hands.end(flight, ending, StageTimes())
        hands.tick(0.1)
    after = hands.limit.picture()
    assert (after.limit, after.baseline, after.x) == (10, before.baseline, before.x)


def test_a_refusal_before_the_data_teaches_the_envelope_alone() -> None:
    hands = learned(start=10)
    for _ in range(60):
        flight = hands.start()
        hands.now += 0.1
        hands.end(flight, SlotEnding.REJECTED, StageTimes(envelope=0.06))
    hands.now += 130.0
    hands.tick()
    taught = {scale: seconds for scale, low, seconds in hands.limit.picture().baseline if low == 1}
    assert taught["envelope"] > 0.035
    assert hands.limit.picture().x == 1.0


def test_times_that_tell_nothing_are_no_samples() -> None:
    hands = learned(start=10)
    for _ in range(60):
        flight = hands.start()
        hands.now += 9.0
        hands.end(flight, times=StageTimes())
        hands.tick()
    assert hands.limit.picture().x == pytest.approx(1.0)


def test_a_late_reply_to_the_final_dot_is_not_looked_at() -> None:
    hands = learned(start=10, has_late_dot=True)
    assert hands.limit.expected(5000, 1) == pytest.approx(0.03)
    flights = [hands.start(in_flight=n + 1) for n in range(9)]
    for _ in range(80):
        hands.tick()
    assert hands.limit.limit(hands.now) == 10, "20 s are nothing to wonder at"
    for _ in range(80):
        hands.tick()
    assert hands.limit.picture().cause == "stall"
    for flight in flights:
        hands.end(flight)


def test_a_single_slow_message_is_no_stall() -> None:
    hands = learned(start=10)
    flights = [hands.start(), hands.start(in_flight=2)]
    for _ in range(400):
        hands.tick()
    assert hands.limit.limit(hands.now) == 10
    for flight in flights:
        hands.end(flight)


def test_what_it_can_tell_others() -> None:
    made = settled(servers(8), 60.0)
    limit = limit_of(made)
    assert isinstance(limit, Measuring)
    reading = limit.reading(made.now)
    assert reading.capacity == limit.capacity > 0
    assert reading.queue is not None
    assert 0 < reading.queue_low < reading.queue_high
    assert reading.windows > 20


def test_the_capacity_is_what_the_servers_do() -> None:
    """In expected seconds of service, so it is their number, whatever the mix of sizes."""
    made = settled(servers(8), 240.0, mail=Mail(noise=0.1))
    assert limit_of(made).capacity == pytest.approx(8.0, rel=0.15)


def test_what_it_knows_survives_a_restart() -> None:
    hands = learned(start=8)
    again = AdaptiveLimit(highest=MOST, start=8)
    assert again.restore(hands.limit.to_document(), 3600.0) is None
    assert again.limit(0.0) == 8
    assert again.expected(5000, 1) == hands.limit.expected(5000, 1)
    assert not again.picture().is_baseline_stale
    assert again.tick(0.25, is_backlogged=False) is None


def test_after_a_day_it_is_only_a_beginning() -> None:
    hands = learned()
    again = AdaptiveLimit(highest=MOST)
    assert again.restore(hands.limit.to_document(), 2 * 86400.0) is None
    assert again.picture().is_baseline_stale
    assert again.expected(5000, 1) is not None


@pytest.mark.parametrize("document", [{}, {"version": 99}, {"version": 1, "tail": "x"}])
def test_a_document_of_no_use_is_ignored_with_a_reason(document: Mapping[str, Any]) -> None:
    limit = AdaptiveLimit(highest=MOST)
    reason = limit.restore(document, 0.0)
    assert reason is not None
    assert "baseline" in reason
    assert limit.expected(1, 1) is None


def test_what_few_messages_to_different_numbers_of_recipients_teach_is_enough_or_nothing() -> None:
    hands = Hands(AdaptiveLimit(highest=MOST))
    now = hands.now
    for recipients in (1, 1, 1, 4, 4):
        flight = Flight(2000, recipients, is_first=False, started_at=now, in_flight=1)
        hands.limit.on_start(now, flight)
        times = StageTimes(envelope=0.05, content=0.01, service=0.1)
        hands.limit.on_end(now + 0.1, flight, SlotEnding.COMPLETED, times)
        now += 0.5
        hands.limit.tick(now, is_backlogged=False)
    hands.limit.tick(now + 11.0, is_backlogged=False)
    assert hands.limit.expected(2000, 1) is None


def test_what_an_outage_has_left_hanging_is_no_stall_of_what_came_after_it() -> None:
    hands = learned(start=12)
    hanging = [hands.start(in_flight=number) for number in range(1, 6)]
    for _ in range(40):
        hands.now += 0.25
        hands.tick()
    assert hands.limit.limit(hands.now) == 2, "a stall"
    hands.serve(4, together=1)
    for _ in range(120):  # half a minute in which nobody sends anything, and those still hang
        hands.now += 0.25
        hands.tick()
    hands.serve(200, together=8)
    assert hands.limit.limit(hands.now) > 2
    assert len(hanging) == 5


# A loop of ours that is late.

FAST_MAIL = Mail(base=0.002, per_mib=0.0)
"""Its backend answers much faster than a busy loop turns."""


def test_a_busy_loop_of_ours_does_not_cut_the_limit() -> None:
    """Else what is not relayed is spooled, which is more work, and the loop is busier still."""
    made = settled(servers(8), 60.0, mail=FAST_MAIL, rate=100.0)
    before = made.run(30.0).limit_mean
    made.late = 0.01
    span = made.run(60.0)
    assert span.limit_min >= 0.9 * before
    assert limit_of(made).picture().x == pytest.approx(1.0, abs=0.05)


def test_what_is_first_learned_from_a_busy_loop_is_put_right_when_it_is_in_time() -> None:
    made = loop(servers(8), mail=FAST_MAIL, rate=30.0, late=0.01)
    made.run(60.0)
    assert limit_of(made).expected(5000, 1) == pytest.approx(0.042, rel=0.1)
    made.late = 0.0
    made.run(900.0)
    assert limit_of(made).expected(5000, 1) == pytest.approx(0.002, rel=0.3)


def test_a_backend_that_is_overloaded_is_seen_by_a_busy_loop() -> None:
    """Only as much of its queue is hidden as our own loop may have added."""
    made = settled(servers(8), 300.0, mail=SLOW_MAIL, late=0.01)
    span = made.run(300.0)
    assert span.use >= 0.98
    assert span.limit_mean <= 20
    made.model.set_speed(made.now, 0.5)
    made.run(60.0)
    span = made.run(300.0)
    assert span.limit_mean <= 20
    assert span.use >= 0.95 * 0.5


def test_a_stall_is_seen_by_a_busy_loop() -> None:
    made = settled(servers(8), mail=Mail(base=0.1), late=0.01)
    made.model.set_speed(made.now, 0.0)
    assert seconds_until(made, lambda limit: limit.picture().limit <= 2, 16) <= 15
