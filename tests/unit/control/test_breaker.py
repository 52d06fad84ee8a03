"""The circuit breaker: when it opens, who probes, and the way back."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mailshed.control.backoff import BACKOFF_MAX, JITTER, REFUSED_MAX
from mailshed.control.breaker import (
    CAP_GROWTH,
    FAILED,
    FAILURES_TO_OPEN,
    IDLE_WINDOW_SECONDS,
    QUIET_SECONDS,
    Breaker,
    BreakerState,
    Question,
    Step,
)
from mailshed.control.limit import Flight, SlotEnding
from mailshed.control.outstanding import STUCK_SECONDS

CLOSED, HALF_OPEN, OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN
DONE, REFUSED = SlotEnding.COMPLETED, SlotEnding.REFUSED
STALLED, IN_DOUBT, UNUSED = SlotEnding.STALLED, SlotEnding.IN_DOUBT, SlotEnding.UNUSED
ANSWERS = [each for each in SlotEnding if each not in (*FAILED, UNUSED)]
# The middle of the jitter: the pause as it is.
NONE = 0.5


@dataclass(eq=False)
class Message:
    flight: Flight
    probe: int


@dataclass
class Bench:
    """A breaker, its clock, and a limit that only a test changes."""

    limit: int = 20
    can_ask: bool = False
    now: float = 1000.0
    breaker: Breaker = field(init=False)

    def __post_init__(self) -> None:
        self.breaker = Breaker(can_ask=self.can_ask)

    @property
    def state(self) -> BreakerState:
        return self.breaker.state

    def start(self, sender: bytes = b"a@example.com") -> Message:
        assert self.breaker.try_enter(self.now)
        probe = self.breaker.probe
        flight = Flight(0, 1, is_first=False, started_at=self.now, in_flight=1)
        self.breaker.on_start(flight, sender)
        return Message(flight, probe)

    def end(self, message: Message, ending: SlotEnding = DONE) -> None:
        self.breaker.on_end(
            self.now, message.flight, ending, NONE, limit=self.limit, probe=message.probe
        )

    def one(self, ending: SlotEnding = DONE, sender: bytes = b"a@example.com") -> None:
        """A message comes and ends."""
        self.end(self.start(sender), ending)

    def tick(self, seconds: float = 0.25, *, is_backlogged: bool = True) -> None:
        self.now += seconds
        self.breaker.tick(self.now, limit=self.limit, is_backlogged=is_backlogged)

    def open(self) -> None:
        for _ in range(FAILURES_TO_OPEN):
            self.one(REFUSED)
        assert self.breaker.is_open

    def wait_for_probe(self) -> None:
        self.now += self.breaker.next_probe(self.now)

    def half_open(self) -> None:
        self.open()
        self.wait_for_probe()
        self.one()
        self.one()
        assert self.breaker.state is HALF_OPEN

    def ask(self) -> Question:
        question = self.breaker.try_ask(self.now)
        assert question is not None
        return question

    def answer(self, ending: SlotEnding, took: float = 0.0) -> None:
        """The question that is due is asked and ends."""
        question = self.ask()
        self.now += took
        self.breaker.on_answer(self.now, question, ending, NONE)


# Opening.


def test_closed_everybody_passes() -> None:
    bench = Bench()
    messages = [bench.start() for _ in range(100)]
    assert {message.probe for message in messages} == {0}
    breaker = bench.breaker
    assert (breaker.state, breaker.cap, breaker.stragglers) == (CLOSED, None, 0)
    assert (breaker.next_probe(bench.now), breaker.next_change(bench.now)) == (0.0, 0.0)


@pytest.mark.parametrize("ending", [REFUSED, STALLED])
def test_a_dead_backend_with_little_traffic_is_found_by_the_third_message(
    ending: SlotEnding,
) -> None:
    bench = Bench(limit=200)
    for _ in range(FAILURES_TO_OPEN - 1):
        bench.one(ending)
        assert bench.state is CLOSED
    bench.one(ending)
    assert bench.state is OPEN


def test_a_busy_one_when_a_cohort_has_failed_in_a_row() -> None:
    bench = Bench(limit=20)
    messages = [bench.start() for _ in range(20)]
    failed = 0
    while bench.state is CLOSED:
        bench.end(messages.pop(), REFUSED)
        failed += 1
    assert failed == 13, "1/20 + 1/19 + ... reaches 1"


def test_with_all_slots_in_use_all_the_time_the_limit_is_the_cohort() -> None:
    bench = Bench(limit=10)
    messages = [bench.start() for _ in range(30)]
    for message in messages[:9]:
        bench.end(message, STALLED)
        bench.start()
    assert bench.state is CLOSED
    bench.end(messages[9], STALLED)
    assert bench.state is OPEN


@pytest.mark.parametrize("answer", ANSWERS)
def test_any_answer_in_between_keeps_it_closed(answer: SlotEnding) -> None:
    bench = Bench()
    for _ in range(10):
        for _ in range(FAILURES_TO_OPEN - 1):
            bench.one(STALLED)
        bench.one(answer)
    assert bench.state is CLOSED


def test_what_was_not_sent_says_nothing() -> None:
    bench = Bench()
    for _ in range(FAILURES_TO_OPEN - 1):
        bench.one(REFUSED)
    for _ in range(10):
        bench.one(UNUSED)
    assert bench.state is CLOSED
    bench.one(REFUSED)
    assert bench.state is OPEN


def test_messages_in_doubt_count_once_for_each_sender() -> None:
    """One that the backend chokes on, or one sender of them, does not keep all mail away."""
    bench = Bench(limit=100)
    for _ in range(50):
        bench.one(IN_DOUBT, b"poison@example.com")
    assert bench.state is CLOSED
    bench.one(IN_DOUBT, b"b@example.com")
    bench.one(IN_DOUBT, b"c@example.com")
    assert bench.state is OPEN


def test_an_answer_forgets_who_was_in_doubt() -> None:
    bench = Bench(limit=100)
    for sender in (b"a", b"b"):
        bench.one(IN_DOUBT, sender)
    bench.one()
    for sender in (b"a", b"b"):
        bench.one(IN_DOUBT, sender)
    assert bench.state is CLOSED
    bench.one(IN_DOUBT, b"c")
    assert bench.state is OPEN


# Stuck slots.


def senders(count: int) -> list[bytes]:
    return [b"%d@example.com" % number for number in range(count)]


def test_more_than_half_of_the_slots_without_an_answer_for_a_minute_open_it() -> None:
    bench = Bench(limit=20)
    for sender in senders(11):
        bench.start(sender)
    bench.tick(STUCK_SECONDS)
    bench.one()
    assert (bench.state, bench.breaker.stuck(bench.now)) == (CLOSED, 0)
    bench.tick()
    assert bench.state is OPEN


def test_half_of_them_do_not() -> None:
    bench = Bench(limit=20)
    for sender in senders(10):
        bench.start(sender)
    bench.tick(STUCK_SECONDS + 1)
    assert (bench.state, bench.breaker.stuck(bench.now)) == (CLOSED, 10)


def test_one_sender_with_many_stuck_messages_is_one() -> None:
    bench = Bench(limit=20)
    for _ in range(20):
        bench.start(b"poison@example.com")
    bench.tick(STUCK_SECONDS + 1)
    assert (bench.state, bench.breaker.stuck(bench.now)) == (CLOSED, 1)


def test_with_one_slot_one_stuck_message_is_no_proof() -> None:
    bench = Bench(limit=1)
    bench.start()
    bench.tick(STUCK_SECONDS + 1)
    assert bench.state is CLOSED


def test_messages_in_doubt_count_as_stuck_for_a_minute() -> None:
    bench = Bench(limit=4)
    for sender in senders(3):
        bench.one(IN_DOUBT, sender)
        bench.one()
    assert bench.breaker.stuck(bench.now) == 3
    bench.now += STUCK_SECONDS + 1
    assert bench.breaker.stuck(bench.now) == 0
    bench.tick()
    assert bench.state is CLOSED
    for sender in senders(3):
        bench.one(IN_DOUBT, sender)
        bench.one()
    bench.tick()
    assert bench.state is OPEN
    bench.wait_for_probe()
    bench.one()
    bench.one()
    bench.tick()
    assert bench.state is HALF_OPEN, "they have had their say"


def test_what_has_opened_it_does_not_open_it_again() -> None:
    bench = Bench(limit=4)
    stuck = [bench.start(sender) for sender in senders(3)]
    bench.tick(STUCK_SECONDS + 1)
    assert bench.state is OPEN
    bench.wait_for_probe()
    bench.one()
    bench.one()
    bench.tick()
    assert (bench.state, bench.breaker.stuck(bench.now)) == (HALF_OPEN, 0)
    for message in stuck:
        bench.end(message, IN_DOUBT)
    bench.tick()
    assert bench.state is HALF_OPEN


# Open: messages as probes.


def test_open_one_message_probes_at_a_time() -> None:
    bench = Bench()
    bench.open()
    assert not bench.breaker.may_enter(bench.now)
    bench.wait_for_probe()
    message = bench.start()
    assert message.probe != 0
    assert not bench.breaker.may_enter(bench.now + 1000)
    bench.end(message, STALLED)
    assert bench.breaker.next_probe(bench.now) == 2.0


def test_two_successes_half_open_it_and_the_second_probe_is_due_at_once() -> None:
    bench = Bench()
    bench.open()
    bench.wait_for_probe()
    bench.one()
    assert bench.state is OPEN
    bench.one()
    assert bench.state is HALF_OPEN


def test_a_success_and_a_failure_are_no_two_successes() -> None:
    bench = Bench()
    bench.open()
    for ending in (DONE, STALLED):
        bench.wait_for_probe()
        bench.one(ending)
    bench.wait_for_probe()
    bench.one()
    assert bench.state is OPEN


def test_a_probe_that_was_not_made_leaves_its_place_to_the_next() -> None:
    bench = Bench()
    bench.open()
    bench.wait_for_probe()
    bench.one(UNUSED)
    assert bench.start().probe != 0


def test_stragglers_hold_no_slot_and_their_failures_say_nothing_new() -> None:
    bench = Bench()
    stragglers = [bench.start() for _ in range(5)]
    while bench.state is CLOSED:
        bench.one(REFUSED)
    assert (bench.breaker.stragglers, bench.breaker.cap) == (5, 1)
    before = bench.breaker.next_probe(bench.now)
    bench.end(stragglers[0], STALLED)
    assert bench.breaker.next_probe(bench.now) == before
    bench.wait_for_probe()
    probe = bench.start()
    bench.end(stragglers[1], IN_DOUBT)
    bench.end(stragglers[2], UNUSED)
    assert not bench.breaker.may_enter(bench.now + 1000), "the probe is still out"
    bench.end(probe)
    bench.one()
    assert (bench.state, bench.breaker.stragglers) == (HALF_OPEN, 2)
    bench.end(stragglers[3], STALLED)
    bench.end(stragglers[4], STALLED)
    assert (bench.state, bench.breaker.stragglers) == (HALF_OPEN, 0)


def test_the_success_of_a_straggler_is_one_of_two() -> None:
    bench = Bench()
    stragglers = [bench.start(), bench.start()]
    while bench.state is CLOSED:
        bench.one(REFUSED)
    bench.end(stragglers[0])
    assert bench.state is OPEN
    assert bench.breaker.may_enter(bench.now), "the probe need not wait for its time"
    bench.end(stragglers[1])
    assert bench.state is HALF_OPEN


def test_a_message_without_an_answer_for_a_minute_makes_room_for_another_one() -> None:
    bench = Bench()
    bench.open()
    bench.wait_for_probe()
    poison = bench.start(b"poison@example.com")
    bench.tick(STUCK_SECONDS)
    assert not bench.breaker.may_enter(bench.now)
    bench.tick()
    bench.wait_for_probe()
    assert bench.breaker.stragglers == 1
    bench.one()
    bench.one()
    assert bench.state is HALF_OPEN
    bench.end(poison, IN_DOUBT)
    assert bench.state is HALF_OPEN


# Open: questions.


def test_a_backend_is_asked_before_a_message_is_risked() -> None:
    bench = Bench(can_ask=True)
    bench.open()
    assert bench.breaker.try_ask(bench.now) is None
    bench.wait_for_probe()
    assert not bench.breaker.may_enter(bench.now), "no message yet"
    question = bench.ask()
    assert question.step is Step.EHLO
    assert bench.breaker.try_ask(bench.now) is None, "one at a time"
    bench.breaker.on_answer(bench.now, question, DONE, NONE)
    assert bench.breaker.step is Step.MAIL
    bench.answer(SlotEnding.BUSY)
    assert not bench.breaker.is_asking
    bench.one(SlotEnding.RECIPIENT)
    assert bench.state is HALF_OPEN


@pytest.mark.parametrize("failed", [Step.EHLO, Step.MAIL, Step.MESSAGE])
@pytest.mark.parametrize("ending", FAILED)
def test_a_failure_leads_back_to_the_first_question(failed: Step, ending: SlotEnding) -> None:
    bench = Bench(can_ask=True)
    bench.open()
    for step in Step:
        bench.wait_for_probe()
        assert bench.breaker.step is step
        how = ending if step is failed else DONE
        if step is Step.MESSAGE:
            bench.one(how)
        else:
            bench.answer(how)
        if step is failed:
            break
    assert (bench.state, bench.breaker.step) == (OPEN, Step.EHLO)
    assert not bench.breaker.may_enter(bench.now + 100)
    assert bench.breaker.next_probe(bench.now) == 2.0


def test_a_backend_that_refuses_is_found_within_two_seconds_or_so() -> None:
    bench = Bench(can_ask=True)
    bench.open()
    times = []
    for _ in range(100):
        bench.wait_for_probe()
        times.append(bench.now)
        bench.answer(REFUSED)
    assert max(after - before for before, after in pairwise(times)) == REFUSED_MAX


def test_a_backend_that_says_nothing_is_asked_ever_more_rarely() -> None:
    bench = Bench(can_ask=True)
    bench.open()
    for _ in range(10):
        bench.wait_for_probe()
        bench.answer(STALLED, took=10.0)
    assert bench.breaker.next_probe(bench.now) == BACKOFF_MAX


def test_one_that_chokes_on_each_message_is_asked_ever_more_rarely_too() -> None:
    """It answers questions at once, and that must not count as progress."""
    bench = Bench(can_ask=True)
    bench.open()
    for _ in range(10):
        bench.wait_for_probe()
        bench.answer(DONE)
        bench.answer(DONE)
        bench.one(IN_DOUBT)
    assert bench.breaker.next_probe(bench.now) == BACKOFF_MAX


def test_without_a_message_to_try_two_answers_are_enough() -> None:
    bench = Bench(can_ask=True)
    bench.open()
    bench.wait_for_probe()
    bench.answer(DONE)
    bench.tick(is_backlogged=False)
    assert bench.state is OPEN
    bench.answer(DONE)
    bench.tick(is_backlogged=True)
    assert bench.state is OPEN
    message = bench.start()
    bench.tick(is_backlogged=False)
    assert bench.state is OPEN, "it is just being tried"
    bench.end(message, UNUSED)
    bench.tick(is_backlogged=False)
    assert bench.state is HALF_OPEN


def test_a_question_that_was_not_asked_is_asked_by_the_next() -> None:
    bench = Bench(can_ask=True)
    bench.open()
    bench.wait_for_probe()
    bench.answer(UNUSED)
    assert bench.ask().step is Step.EHLO


@pytest.mark.parametrize("ending", [DONE, STALLED, UNUSED])
def test_an_answer_that_comes_when_it_is_open_no_more_changes_nothing(ending: SlotEnding) -> None:
    bench = Bench(can_ask=True)
    stragglers = [bench.start(), bench.start()]
    while bench.state is CLOSED:
        bench.one(REFUSED)
    bench.wait_for_probe()
    question = bench.ask()
    for straggler in stragglers:
        bench.end(straggler)
    assert bench.state is HALF_OPEN
    bench.breaker.on_answer(bench.now, question, ending, NONE)
    assert bench.state is HALF_OPEN
    assert bench.breaker.may_enter(bench.now)


# The way back.


def caps_of(bench: Bench, windows: int, ending: SlotEnding = DONE) -> list[int | None]:
    """The cap after each window of a second in which all slots that it allows are used."""
    caps = [bench.breaker.cap]
    for _ in range(windows):
        for _ in range(bench.breaker.cap or 0):
            bench.one(ending)
        bench.tick(1.0)
        caps.append(bench.breaker.cap)
    return caps


def test_half_open_half_as_many_more_may_start_with_each_window() -> None:
    bench = Bench(limit=100)
    bench.half_open()
    assert caps_of(bench, 7) == [2, 3, 4, 6, 10, 15, 22, 34]


def test_windows_with_few_answers_are_longer() -> None:
    bench = Bench(limit=100)
    bench.half_open()
    bench.one()
    bench.tick(IDLE_WINDOW_SECONDS - 1)
    assert bench.breaker.cap == 2
    bench.tick(1.0)
    assert bench.breaker.cap == 3


def test_a_window_with_a_failure_brings_nothing() -> None:
    bench = Bench(limit=100)
    bench.half_open()
    first, second = bench.start(), bench.start()
    bench.now += 0.5
    bench.end(first, STALLED)
    bench.end(second)
    bench.one()
    bench.tick(1.0)
    assert (bench.state, bench.breaker.cap) == (HALF_OPEN, 2)
    assert caps_of(bench, 1) == [2, 3]


def test_two_failures_in_a_row_open_it_again() -> None:
    bench = Bench(limit=100)
    bench.half_open()
    messages = [bench.start(), bench.start()]
    for message in messages:
        bench.end(message, REFUSED)
    assert bench.state is OPEN
    assert bench.breaker.next_probe(bench.now) == 1.0


def test_it_closes_when_half_of_what_was_good_is_reached_and_it_has_been_quiet() -> None:
    bench = Bench(limit=20)
    bench.one()
    bench.limit = 3  # as failures have cut it
    bench.half_open()
    caps_of(bench, 4)
    assert (bench.state, bench.breaker.cap) == (HALF_OPEN, 10)
    bench.tick(QUIET_SECONDS - 4.5)
    assert bench.state is HALF_OPEN
    bench.tick(0.5)
    assert (bench.state, bench.breaker.cap) == (CLOSED, None)


def test_it_does_not_close_before_half_of_what_was_good_is_reached() -> None:
    bench = Bench(limit=1000)
    bench.one()
    bench.half_open()
    bench.tick(2 * QUIET_SECONDS)
    assert bench.state is HALF_OPEN
    caps_of(bench, 20)
    assert bench.state is CLOSED


def test_a_failure_makes_the_quiet_begin_anew() -> None:
    bench = Bench(limit=4)
    bench.half_open()
    caps_of(bench, 3)
    bench.tick(QUIET_SECONDS / 2)
    bench.one(STALLED)
    bench.one()
    bench.tick(QUIET_SECONDS - 1)
    assert bench.state is HALF_OPEN
    bench.tick(1.0)
    assert bench.state is CLOSED


def test_a_night_without_mail_ends_closed() -> None:
    bench = Bench(limit=200)
    bench.one()
    bench.half_open()
    for _ in range(120):
        bench.tick(1.0, is_backlogged=False)
    assert bench.state is CLOSED


def test_no_window_brings_more_than_its_share() -> None:
    bench = Bench(limit=1000)
    bench.half_open()
    caps = [cap for cap in caps_of(bench, 12) if cap is not None]
    assert all(after <= before * CAP_GROWTH + 1 for before, after in pairwise(caps))


def test_time_alone_changes_something_while_it_is_not_closed() -> None:
    bench = Bench()
    bench.open()
    assert bench.breaker.next_change(bench.now) == bench.breaker.next_probe(bench.now) == 1.0
    bench.wait_for_probe()
    bench.one()
    bench.one()
    assert bench.breaker.next_probe(bench.now) == 0.0
    assert bench.breaker.next_change(bench.now) == 1.0


# Any course of events.


class BreakerUnderTraffic(RuleBasedStateMachine):
    """Messages and questions come, go, succeed, fail and hang in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(limit=6, can_ask=True)
        self.out: list[Message] = []
        self.questions: list[Question] = []

    @rule(seconds=st.floats(0, 40), is_backlogged=st.booleans())
    def time_passes(self, seconds: float, *, is_backlogged: bool) -> None:
        self.bench.tick(seconds, is_backlogged=is_backlogged)

    @rule(limit=st.integers(1, 12))
    def the_limit_moves(self, limit: int) -> None:
        self.bench.limit = limit

    @precondition(lambda self: self.bench.breaker.may_enter(self.bench.now))
    @rule(sender=st.sampled_from([b"", b"a", b"b", b"c"]))
    def start(self, sender: bytes) -> None:
        message = self.bench.start(sender)
        assert (message.probe != 0) == self.bench.breaker.is_open
        self.out.append(message)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0), ending=st.sampled_from([DONE, *SlotEnding]))
    def end(self, which: int, ending: SlotEnding) -> None:
        self.bench.end(self.out.pop(which % len(self.out)), ending)

    @rule()
    def ask(self) -> None:
        question = self.bench.breaker.try_ask(self.bench.now)
        if question is not None:
            assert self.bench.breaker.is_open
            self.questions.append(question)

    @precondition(lambda self: self.questions)
    @rule(ending=st.sampled_from([DONE, *SlotEnding]))
    def answer(self, ending: SlotEnding) -> None:
        bench = self.bench
        bench.breaker.on_answer(bench.now, self.questions.pop(0), ending, NONE)

    @invariant()
    def at_most_one_probe_is_out(self) -> None:
        probe = self.bench.breaker.probe
        probes = [message.probe for message in self.out]
        probes += [question.probe for question in self.questions]
        assert probes.count(probe) == 1 if probe else True

    @invariant()
    def it_is_never_stuck_itself(self) -> None:
        """Open without a probe out, somebody may try in a while."""
        breaker, now = self.bench.breaker, self.bench.now
        if breaker.is_open and not breaker.probe:
            assert 0 <= breaker.next_probe(now) <= BACKOFF_MAX * (1 + JITTER)
            due = now + breaker.next_probe(now) + 1e-6
            assert breaker.is_asking or breaker.may_enter(due)

    @invariant()
    def stragglers_are_in_flight(self) -> None:
        assert 0 <= self.bench.breaker.stragglers <= len(self.out)

    @invariant()
    def a_cap_leaves_room_for_one(self) -> None:
        cap = self.bench.breaker.cap
        assert (cap is None) == (self.bench.state is CLOSED)
        assert cap is None or cap >= 1


BreakerUnderTraffic.TestCase.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=60
)
TestBreakerUnderTraffic = BreakerUnderTraffic.TestCase
