"""Evidence of the envelope: domains of the reverse-path and of the forward-paths."""

from mailshed.classification.subject import Condition, Subject
from mailshed.config.policy import Rule
from mailshed.mail.domains import DomainSet


def compile_condition(rule: Rule) -> Condition | None:
    """Hold if sender and recipients match what the rule asks of each; any recipient will do."""
    senders = DomainSet(rule.sender_domains)
    recipients = DomainSet(rule.recipient_domains)
    if not (senders or recipients):
        return None

    def matches(subject: Subject) -> bool:
        envelope = subject.envelope
        if senders:
            path = envelope.reverse_path
            if path is None or path.domain not in senders:
                return False
        return not recipients or any(
            recipient.mailbox.domain in recipients for recipient in envelope.recipients
        )

    return matches
