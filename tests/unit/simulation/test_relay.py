"""Transactions: what times out and when, and that no message is sent twice by mistake."""

from dataclasses import replace

import pytest

from mailshed.simulation.engine import Simulation, fixed
from mailshed.simulation.invariants import Violated
from mailshed.simulation.mail import Mail
from tests.support.builders import BULK
from tests.support.simulated import scenario, simulate, stream, with_change


def until_in_flight(simulation: Simulation) -> Mail:
    while not simulation.relay.under_way:
        simulation.agenda.step(float("inf"))
    return next(iter(simulation.relay.under_way)).mail


def test_a_slot_comes_back_with_its_transaction() -> None:
    simulation = simulate(stream(rate=3.0))
    assert simulation.relay.under_way == {}
    assert simulation.station.in_flight == 0
    assert simulation.backend.in_flight == 0


def test_a_message_that_is_with_the_server_is_not_sent_again() -> None:
    simulation = Simulation(scenario(stream()), 1, fixed(4))
    mail = until_in_flight(simulation)
    with pytest.raises(Violated, match="twice at the same time"):
        simulation.front.submit(mail)


def test_a_message_whose_dot_was_never_answered_is_in_doubt_or_not_sent() -> None:
    simulation = Simulation(scenario(stream()), 1, fixed(4))
    mail = until_in_flight(simulation)
    mail.job, mail.unanswered = None, 1
    with pytest.raises(Violated, match="may have been delivered"):
        simulation.front.submit(mail)


def test_no_answer_before_our_dot_is_a_stall_after_the_command_timeout() -> None:
    stalled = with_change(0.0, 1000.0, speed=0.0)
    made = scenario(stream(rate=1.0), backend=stalled, command_timeout=30.0)
    simulation = Simulation(made, 1, fixed(4))
    job = next(iter(_job_of(until_in_flight(simulation))))
    while job in simulation.relay.under_way:
        simulation.agenda.step(float("inf"))
    assert simulation.agenda.now - job.started == pytest.approx(30.0, abs=0.6)
    assert job.is_gone
    assert job.mail.unanswered == 0


def test_no_answer_to_our_dot_is_a_doubt_after_its_timeout_and_may_be_delivered_twice() -> None:
    stalled = with_change(0.5, 2000.0, speed=0.0)
    made = stream(BULK, rate=20.0, ends=0.4)
    simulation = simulate(made, backend=stalled, duration=1.0, settle=6000.0)
    (account,) = simulation.ledger.accounts
    assert account.in_doubt >= account.adopted > 0
    # The server comes back and has them all; those that were sent again are there twice.
    assert account.duplicates == account.sent_again > 0


def test_refusals_are_counted() -> None:
    refusing = with_change(10.0, 20.0, is_refusing=True)
    simulation = simulate(stream(rate=2.0), backend=replace(refusing, connections_max=9))
    assert simulation.relay.refused == simulation.backend.refused > 0


def _job_of(mail: Mail) -> list:  # type: ignore[type-arg]
    return [mail.job]
