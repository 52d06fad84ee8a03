"""Evidence of what the sender has sent lately."""

import pytest

from mailshed.classification.evidence.history import conditions
from mailshed.classification.subject import Known
from mailshed.config.policy import SenderRate
from tests.support.builders import rule, subject

RATE = SenderRate(recipients=100, messages=5, within=600.0)


@pytest.mark.parametrize(
    ("messages", "recipients", "holds"),
    [(5, 101, True), (5, 100, False), (4, 1000, False), (500, 500, True), (0, 0, False)],
)
def test_many_recipients_in_several_messages(messages: int, recipients: int, holds: bool) -> None:
    (condition,) = conditions(rule(sender_rate=RATE))
    one = subject(sent=((600.0, messages, recipients),))
    assert condition.holds(one) is holds
    assert condition.known_at is Known.CONTENT
    assert condition.why(one) == (
        f"sender sent to {recipients} recipients in {messages} messages within 600 s, asked for"
        " more than 100 recipients in at least 5 messages"
    )


def test_what_was_not_counted_does_not_hold() -> None:
    (condition,) = conditions(rule(sender_rate=RATE))
    assert not condition.holds(subject())
    assert not condition.holds(subject(sent=((60.0, 99, 9999),)))


def test_a_rule_without_a_rate_does_not_ask() -> None:
    assert list(conditions(rule())) == []
