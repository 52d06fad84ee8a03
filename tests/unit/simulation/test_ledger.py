"""Books that balance, and that say so when they do not."""

import pytest

from mailshed.simulation.invariants import Violated
from mailshed.simulation.ledger import Fluid, Ledger
from mailshed.simulation.mail import Mail, Place
from tests.support.simulated import mail


def opened(*mails: Mail) -> Ledger:
    ledger = Ledger(each.account for each in mails)
    for each in mails:
        ledger.arrived(each, 1.0)
    return ledger


def test_a_move_changes_two_places() -> None:
    message = mail(recipients=3)
    ledger = opened(message)
    ledger.move(message, Place.HAND)
    ledger.move(message, Place.SPOOL)
    assert message.account.places == [0, 0, 3, 0, 0, 0]
    assert ledger.total(Place.SPOOL) == 3
    ledger.audit()


def test_recipients_end_one_by_one_and_the_last_one_closes_the_message() -> None:
    message = mail(recipients=3)
    ledger = opened(message)
    ledger.move(message, Place.SPOOL)
    ledger.end(message, 2, Place.DELIVERED)
    assert (message.left, message.place, message in ledger.open) == (1, Place.SPOOL, True)
    ledger.end(message, 1, Place.BOUNCED)
    assert message.account.places == [0, 0, 0, 2, 1, 0]
    assert message not in ledger.open
    ledger.audit()


def test_what_leaves_a_place_must_have_been_there() -> None:
    message = mail()
    ledger = opened(message)
    message.place = Place.SPOOL  # nobody moved it
    with pytest.raises(Violated, match="more recipients left SPOOL"):
        ledger.move(message, Place.HAND)


def test_an_audit_finds_a_message_that_is_lost() -> None:
    message = mail()
    ledger = opened(message)
    del ledger.open[message]
    with pytest.raises(Violated, match="1 count as SENDER, 0 are"):
        ledger.audit()


def test_an_audit_finds_a_message_that_nobody_counted() -> None:
    message = mail()
    ledger = opened(message)
    message.account.offered += 1
    with pytest.raises(Violated, match="2 offered"):
        ledger.audit()


def test_an_audit_finds_a_spool_that_counts_what_it_does_not_have() -> None:
    message = mail()
    ledger = opened(message)
    ledger.enters_spool(message)
    with pytest.raises(Violated, match="counts 1 messages and has 0"):
        ledger.audit()


def test_the_spool_is_counted_by_class() -> None:
    message = mail()
    ledger = opened(message)
    ledger.enters_spool(message)
    assert (ledger.spooled("personal"), ledger.spool_octets) == (1, 4096)
    ledger.leaves_spool(message, 12.0)
    assert (ledger.spooled("personal"), ledger.spool_octets) == (0, 0)
    assert message.account.drained_at == 12.0


def test_the_ideal_server_does_what_there_is_up_to_its_capacity() -> None:
    fluid = Fluid()
    fluid.offered = 10.0
    fluid.update(1.0, 4.0)
    assert (fluid.done, fluid.backlog) == (4.0, 6.0)
    fluid.update(2.0, 4.0)
    fluid.update(3.0, 4.0)
    assert (fluid.done, fluid.backlog) == (10.0, 0.0)


def test_the_ideal_server_remembers_its_peak_and_when_it_was_empty_after_it() -> None:
    fluid = Fluid()
    for second in range(1, 11):
        fluid.offered += 6.0 if second <= 5 else 0.0
        fluid.update(float(second), 4.0)
    assert (fluid.peak, fluid.peak_at) == (14.0, 5.0)
    assert fluid.empty_at == 8.0


def test_work_that_comes_later_has_a_peak_of_its_own() -> None:
    fluid = Fluid()
    fluid.offered = 8.0
    fluid.update(1.0, 4.0)
    fluid.update(2.0, 4.0)
    assert fluid.empty_at == 2.0
    fluid.offered += 40.0
    fluid.update(3.0, 4.0)
    assert fluid.peak_at == 3.0
    assert fluid.empty_at is None
