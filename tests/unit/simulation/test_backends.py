"""A mail server as its client sees it: what it answers, when, and what goes wrong with it."""

from dataclasses import replace
from math import inf
from typing import Any

import pytest

from mailshed.control.breaker import Step
from mailshed.control.limit import SlotEnding
from mailshed.mail.delivery import Deferred, Delivered
from mailshed.simulation.agenda import Agenda
from mailshed.simulation.backends import QUESTION_TIMEOUT, Backend
from mailshed.simulation.mail import Answer, Job
from mailshed.simulation.scenario import MIB, MONDAY, BackendModel, Change, Server
from tests.support.simulated import SECOND, job, with_change


class Bench:
    """A mail server, and what it answered when."""

    def __init__(self, model: BackendModel = SECOND) -> None:
        self.agenda = Agenda(MONDAY)
        self.answers: dict[Job, tuple[float, Answer]] = {}
        self.backend = Backend(model, self.agenda, self.done)

    def done(self, ended: Job, answer: Answer) -> None:
        self.answers[ended] = (self.agenda.elapsed, answer)

    def start(self, **changes: Any) -> Job:
        started = job(self.agenda, **changes)
        self.backend.start(started)
        return started

    def run(self, until: float = 1000.0) -> None:
        end = self.agenda.now - self.agenda.elapsed + until
        while self.agenda.step(end):
            pass

    def ended(self, which: Job) -> float:
        return self.answers[which][0]

    def ending(self, which: Job) -> SlotEnding:
        return self.answers[which][1].ending

    def replies(self, which: Job) -> list[int | None]:
        """The codes of the recipients, 0 for a refusal without a word."""
        found = []
        for each in self.answers[which][1].results:
            assert isinstance(each, Delivered | Deferred)
            found.append(each.reply.code if each.reply is not None else 0)
        return list(found)


def test_a_message_is_delivered_after_its_work() -> None:
    bench = Bench(replace(SECOND, per_mib=0.5))
    small, large = bench.start(), bench.start(size=2 * MIB)
    bench.run()
    assert bench.ended(small) == pytest.approx(1.0, rel=0.01)
    assert bench.ended(large) == pytest.approx(2.0, rel=0.01)
    assert bench.ending(small) is SlotEnding.COMPLETED
    assert bench.replies(small) == [250]
    assert bench.backend.done_work == pytest.approx(3.0, rel=0.01)


def test_times_are_those_of_the_stages() -> None:
    bench = Bench(replace(SECOND, envelope=0.2))
    started = bench.start()
    bench.run()
    times = bench.answers[started][1].times
    assert (times.mail, times.envelope, times.service) == pytest.approx((0.1, 0.2, 1.0))


def test_what_waits_inside_waits_after_our_dot() -> None:
    bench = Bench(replace(SECOND, servers=1))
    bench.start()
    behind = bench.start()
    assert behind.dot_at - bench.agenda.now == pytest.approx(0.1)
    bench.run()
    assert bench.answers[behind][1].times.service == pytest.approx(2.0)
    assert bench.answers[behind][1].times.envelope == pytest.approx(0.1)


def test_beyond_its_connections_it_says_421() -> None:
    bench = Bench(replace(SECOND, connections_max=2))
    taken, also, refused = bench.start(), bench.start(), bench.start()
    bench.run()
    assert bench.ending(refused) is SlotEnding.REFUSED
    assert bench.replies(refused) == [421]
    assert bench.answers[refused][1].is_away
    assert bench.ending(taken) is bench.ending(also) is SlotEnding.COMPLETED
    assert (bench.backend.attempts, bench.backend.refused) == (3, 1)


def test_a_cap_bounds_what_it_can_do() -> None:
    assert Bench(replace(SECOND, connections_max=2)).backend.capacity == pytest.approx(2.0)
    assert Bench(replace(SECOND, connections_max=9)).backend.capacity == pytest.approx(4.0)


def test_it_refuses_connections_for_a_time_and_finishes_what_it_has() -> None:
    bench = Bench(with_change(0.5, 10.0, is_refusing=True))
    early = bench.start()
    bench.run(5.0)
    assert bench.ending(early) is SlotEnding.COMPLETED
    assert bench.backend.capacity == 0.0
    during = bench.start()
    bench.run(9.0)
    assert bench.ending(during) is SlotEnding.REFUSED
    assert bench.replies(during) == [0]
    bench.run(20.0)
    after = bench.start()
    bench.run(30.0)
    assert bench.ending(after) is SlotEnding.COMPLETED


def test_a_stall_keeps_what_is_there_and_answers_no_mail() -> None:
    bench = Bench(with_change(0.5, 10.0, speed=0.0))
    early = bench.start()
    bench.run(1.0)
    late = bench.start()
    assert (early.dot_at < bench.agenda.now, late.dot_at) == (True, inf)
    bench.run(10.5)
    assert late.dot_at == pytest.approx(bench.agenda.now - 0.5 + 0.1)
    bench.run()
    assert bench.ended(early) == pytest.approx(10.5)
    assert bench.ended(late) == pytest.approx(11.0)


def test_a_message_whose_envelope_the_stall_catches_has_no_dot_before_its_end() -> None:
    bench = Bench(with_change(0.05, 10.0, speed=0.0))
    caught = bench.start()
    bench.run(1.0)
    assert caught.dot_at == inf


def test_a_tarpit_answers_mail_late_and_nothing_else() -> None:
    bench = Bench(replace(SECOND, tarpit_above=1, tarpit_seconds=5.0))
    quick, slow = bench.start(), bench.start()
    bench.run()
    assert bench.ended(quick) == pytest.approx(1.0)
    times = bench.answers[slow][1].times
    assert (times.mail, times.envelope, times.service) == pytest.approx((5.05, 5.1, 6.0))


def test_with_too_much_to_do_it_says_452_for_the_whole_server() -> None:
    bench = Bench(replace(SECOND, busy_above=1))
    taken, busy = bench.start(), bench.start()
    bench.run()
    assert bench.ending(taken) is SlotEnding.COMPLETED
    assert bench.ending(busy) is SlotEnding.BUSY
    assert bench.replies(busy) == [452]


def test_full_mailboxes_are_told_apart() -> None:
    bench = Bench(replace(SECOND, full_share=0.5, mailboxes=10))
    full, other = bench.start(mailboxes=(2,)), bench.start(mailboxes=(7,))
    bench.run()
    assert (bench.ending(full), bench.replies(full)) == (SlotEnding.RECIPIENT, [452])
    assert (bench.ending(other), bench.replies(other)) == (SlotEnding.COMPLETED, [250])
    assert bench.backend.done_work == pytest.approx(1.0)


def test_of_a_mixed_message_nothing_is_sent_unless_parts_are_welcome() -> None:
    bench = Bench(replace(SECOND, full_share=0.5, mailboxes=10))
    whole = bench.start(mailboxes=(2, 7))
    parts = bench.start(mailboxes=(2, 7), is_partial_ok=True)
    bench.run()
    assert bench.replies(whole) == [452, 0]
    assert bench.replies(parts) == [452, 250]
    assert bench.ended(whole) < 1.0


def test_what_we_break_off_is_never_delivered_and_frees_its_server() -> None:
    bench = Bench(replace(SECOND, servers=1, connections_max=1))
    gone = bench.start()
    bench.run(0.05)
    bench.backend.abort(gone)
    next_one = bench.start()
    bench.run()
    assert gone not in bench.answers
    assert bench.ended(next_one) == pytest.approx(1.05)


def test_what_we_break_off_in_the_tarpit_never_enters() -> None:
    bench = Bench(replace(SECOND, tarpit_above=1))
    bench.start()
    gone = bench.start()
    bench.backend.abort(gone)
    bench.run()
    assert gone not in bench.answers
    assert bench.backend.in_flight == 0


def test_latency_passes_before_the_work_and_needs_more_in_flight() -> None:
    bench = Bench(replace(SECOND, servers=1, latency=2.0))
    first, second = bench.start(), bench.start()
    bench.run()
    assert (bench.ended(first), bench.ended(second)) == pytest.approx((3.0, 4.0))
    assert bench.backend.best_in_flight == 3


def test_half_of_the_servers_do_half() -> None:
    bench = Bench(with_change(10.0, 20.0, servers=0.5))
    seen = []
    for when in (5.0, 15.0, 25.0):
        bench.run(when)
        seen.append((bench.backend.capacity, bench.backend.best_in_flight))
    assert seen == [(4.0, 4), (2.0, 2), (4.0, 4)]


def test_the_latest_change_that_names_something_decides() -> None:
    changes = (
        Change(start=0.0, end=30.0, servers=0.5, full_share=0.5),
        Change(start=10.0, end=20.0, servers=0.25),
    )
    bench = Bench(replace(SECOND, changes=changes))
    seen = []
    for when in (5.0, 15.0, 25.0, 35.0):
        bench.run(when)
        seen.append(bench.backend.capacity)
    assert seen == [2.0, 1.0, 2.0, 4.0]


@pytest.mark.parametrize("server", list(Server))
def test_each_kind_of_server_does_what_it_says_it_can(server: Server) -> None:
    bench = Bench(replace(SECOND, servers=8, server=server))
    backend = bench.backend
    best = backend.best_in_flight
    for _ in range(40 * best):
        while backend.in_flight < best:
            bench.start()
        bench.agenda.step(inf)
    assert backend.done_work / bench.agenda.elapsed == pytest.approx(backend.capacity, rel=0.1)


def test_questions_are_answered_as_messages_would_be() -> None:
    heard: list[tuple[float, SlotEnding]] = []
    bench = Bench(with_change(10.0, 20.0, speed=0.0))

    def hear(ending: SlotEnding) -> None:
        heard.append((round(bench.agenda.elapsed, 1), ending))

    bench.backend.ask(Step.MAIL, hear)
    bench.run(11.0)
    bench.backend.ask(Step.EHLO, hear)
    bench.backend.ask(Step.MAIL, hear)
    bench.run(25.0)
    assert heard == [
        (0.0, SlotEnding.COMPLETED),
        (11.0, SlotEnding.COMPLETED),
        (11.0 + QUESTION_TIMEOUT, SlotEnding.STALLED),
    ]


@pytest.mark.parametrize("how", [{"is_refusing": True}, {"connections_max": 1}])
def test_questions_to_a_server_that_lets_nobody_in_are_refused(how: dict[str, Any]) -> None:
    bench = Bench(with_change(0.0, 50.0, **how))
    heard: list[SlotEnding] = []
    if "connections_max" in how:
        bench.start()
    bench.backend.ask(Step.EHLO, heard.append)
    bench.run(0.5)
    assert heard == [SlotEnding.REFUSED]
