"""Evidence of what the sender has sent lately: bulk mail that does not say that it is.

Counts come from `classification.senders`, the present message included. A rule asks for many
recipients *and* several messages, so that one message of a person to all colleagues is not taken
for a mailing.
"""

from collections.abc import Iterator

from mailshed.classification.senders import sent_within
from mailshed.classification.subject import Condition, Known, Subject
from mailshed.config.policy import Rule


def conditions(rule: Rule) -> Iterator[Condition]:
    """More recipients than the rule allows, in as many messages as it asks for."""
    rate = rule.sender_rate
    if rate is None:
        return
    window, recipients_max, messages_min = rate.within, rate.recipients, rate.messages

    def holds(subject: Subject) -> bool:
        messages, recipients = sent_within(subject.sent, window)
        return recipients > recipients_max and messages >= messages_min

    def why(subject: Subject) -> str:
        messages, recipients = sent_within(subject.sent, window)
        asked = f"more than {recipients_max} recipients in at least {messages_min} messages"
        return (
            f"sender sent to {recipients} recipients in {messages} messages within {window:g} s,"
            f" asked for {asked}"
        )

    yield Condition(holds=holds, why=why, known_at=Known.CONTENT)
