"""The way out of the spool: in order, held back where it must be, and complete."""

from dataclasses import replace

from mailshed.simulation.drain import OFFERS_BEYOND_LIMIT
from mailshed.simulation.engine import Simulation, fixed
from mailshed.simulation.ledger import Account
from mailshed.simulation.mail import Job, Mail, Place
from mailshed.simulation.scenario import SpoolModel
from tests.support.builders import BULK, CLINICAL, PERSONAL
from tests.support.simulated import SECOND, mixed, scenario, simulate, stream, with_change


def account(simulation: Simulation, name: str) -> Account:
    return next(each for each in simulation.ledger.accounts if each.stream.name == name)


def test_classes_leave_the_spool_the_best_first() -> None:
    backend = with_change(10.0, 60.0, is_refusing=True)
    simulation = simulate(*mixed(1.0), backend=backend, duration=60.0)
    emptied = [account(simulation, name).drained_at for name in ("clinical", "personal", "bulk")]
    assert None not in emptied
    assert emptied == sorted(emptied, key=lambda at: at or 0.0)


def test_of_each_class_two_more_than_there_are_slots_are_in_hand() -> None:
    simulation = Simulation(scenario(stream(BULK, rate=20.0)), 1, fixed(4))
    most = 0
    while simulation.agenda.elapsed < 50.0:
        simulation.agenda.step(float("inf"))
        most = max(most, simulation.drain._in_hand["bulk"])
    assert most == 4 + OFFERS_BEYOND_LIMIT
    assert simulation.ledger.spool_messages > 100


def test_mail_of_one_class_leaves_in_the_order_of_its_arrival() -> None:
    simulation = Simulation(
        scenario(stream(BULK, rate=20.0, senders=1), duration=20.0), 1, fixed(1)
    )
    order: list[float] = []
    delivered = simulation.drain._delivered

    def note(mail: Mail, job: Job, recipients: int) -> None:
        order.append(mail.arrived)
        delivered(mail, job, recipients)

    simulation.drain._delivered = note  # type: ignore[method-assign]
    simulation.run()
    assert len(order) > 50
    assert order == sorted(order)


def test_full_mailboxes_are_not_tried_all_the_time() -> None:
    backend = replace(SECOND, full_share=0.3)
    simulation = simulate(stream(rate=2.0), backend=backend, duration=600.0, settle=0.0)
    found = account(simulation, "personal")
    in_vain = simulation.backend.attempts - sum(found.by_sender.values())
    assert 0.3 * found.messages * 0.5 < in_vain < 3 * found.messages
    assert simulation.drain.postponed > 0


def test_a_mailbox_that_is_emptied_gets_its_mail() -> None:
    backend = with_change(0.0, 300.0, full_share=0.3)
    simulation = simulate(stream(rate=1.0), backend=backend, duration=200.0, settle=20_000.0)
    found = account(simulation, "personal")
    assert found.places[Place.DELIVERED] == found.offered


def test_in_doubt_is_tried_once_more_and_then_held() -> None:
    """A server that takes mail and never answers: no third copy, and nothing is lost."""
    backend = with_change(5.0, 100_000.0, speed=0.0)
    simulation = simulate(stream(rate=2.0, ends=5.5), backend=backend, duration=10.0, settle=9000.0)
    found = account(simulation, "personal")
    assert found.in_doubt > 0
    assert found.places[Place.SPOOL] > 0
    assert sum(found.places) == found.offered


def test_expired_mail_is_returned() -> None:
    backend = replace(SECOND, full_share=1.0)
    spool = replace(SpoolModel(), lifetime=3600.0)
    made = stream(CLINICAL, rate=0.1, client=replace(stream().client, retry_min=1e6))
    simulation = simulate(made, backend=backend, spool=spool, duration=100.0, settle=9000.0)
    found = account(simulation, "clinical")
    assert found.places[Place.DELIVERED] == 0
    assert found.places[Place.BOUNCED] == found.offered - found.places[Place.SENDER]


def test_it_knows_since_when_untried_mail_waits() -> None:
    simulation = Simulation(scenario(stream(BULK, rate=20.0)), 1, fixed(1))
    assert simulation.drain.totals().by_class == ()
    while simulation.agenda.elapsed < 30.0:
        simulation.agenda.step(float("inf"))
    (part,) = simulation.drain.totals().by_class
    assert part.traffic_class == "bulk"
    assert part.messages == simulation.ledger.spool_messages > 100
    assert 0 < simulation.agenda.wall - part.oldest_wall < 30.0
    assert simulation.drain.has_due


def test_retries_are_counted() -> None:
    backend = replace(SECOND, busy_above=3)
    simulation = simulate(stream(PERSONAL, rate=3.0), backend=backend, limit=fixed(8))
    assert simulation.drain.attempts > simulation.drain.retries >= 0
