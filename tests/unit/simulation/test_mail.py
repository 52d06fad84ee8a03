"""A message and its transactions."""

from mailshed.simulation.agenda import Agenda
from mailshed.simulation.mail import FINAL, Place
from mailshed.simulation.scenario import MONDAY
from tests.support.simulated import job, mail


def test_a_new_message_is_with_its_sender() -> None:
    message = mail(recipients=2)
    assert (message.place, message.left, message.is_live) == (Place.SENDER, 2, True)


def test_places_are_final_or_not() -> None:
    assert set(FINAL) == {Place.DELIVERED, Place.BOUNCED, Place.REFUSED}


def test_a_transaction_is_for_its_mailboxes() -> None:
    agenda = Agenda(MONDAY)
    assert job(agenda, mailboxes=(3, 4, 9)).recipients == 3


def test_messages_are_told_apart_though_they_are_alike() -> None:
    assert len({mail(), mail()}) == 2
