"""The five things that can happen to a message."""

from typing import get_args

from mailshed.admission.decision import Action, Decision, Defer, Reject, Relay, Spool, Wait
from mailshed.mail import reply
from mailshed.terms import Reason


def test_there_are_five_decisions_and_each_has_its_reason() -> None:
    made: tuple[Decision, ...] = (
        Relay(),
        Wait(1.0),
        Spool(Reason.SATURATED),
        Defer(Reason.SPOOL_FULL, reply.SPOOL_FULL),
        Reject(Reason.RELAY_DENIED, reply.RELAY_DENIED),
    )
    assert {type(each) for each in made} == set(get_args(Decision))
    assert [each.reason for each in made] == [
        Reason.ROOM,
        Reason.SATURATED,
        Reason.SATURATED,
        Reason.SPOOL_FULL,
        Reason.RELAY_DENIED,
    ]


def test_each_is_counted_by_its_name() -> None:
    assert {each.action for each in get_args(Decision)} == set(get_args(Action))


def test_decisions_are_values() -> None:
    assert Wait(1.0) == Wait(1.0)
    assert Wait(1.0) != Wait(2.0)
