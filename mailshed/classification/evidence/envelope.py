"""Evidence of the envelope: the reverse-path and the forward-paths; any recipient will do."""

from collections.abc import Iterator

from mailshed.classification.names import NameSet
from mailshed.classification.subject import Condition, Known, Subject
from mailshed.classification.words import listed
from mailshed.config.policy import Rule
from mailshed.mail.domains import DomainSet
from mailshed.mail.privacy import mask


def conditions(rule: Rule) -> Iterator[Condition]:
    """What the rule asks of sender and recipients, each a condition of its own."""
    if rule.null_sender is not None:
        yield _null_sender(is_wanted=rule.null_sender)
    if rule.sender_domains:
        yield _sender_domain(rule.sender_domains)
    if rule.senders is not None:
        yield _sender(rule.senders)
    if rule.recipient_domains:
        yield _recipient_domain(rule.recipient_domains)
    if rule.recipients is not None:
        yield _recipient(rule.recipients)


def _null_sender(*, is_wanted: bool) -> Condition:
    def holds(subject: Subject) -> bool:
        return (subject.reverse_path is None) is is_wanted

    def why(subject: Subject) -> str:
        return f"sender {'is' if subject.reverse_path is None else 'is not'} <>"

    return Condition(holds=holds, why=why, known_at=Known.MAIL)


def _sender_domain(names: tuple[str, ...]) -> Condition:
    domains = DomainSet(names)

    def holds(subject: Subject) -> bool:
        path = subject.reverse_path
        return path is not None and path.domain in domains

    def why(subject: Subject) -> str:
        path = subject.reverse_path
        if path is None:
            return "sender <> has no domain"
        verb = "is" if holds(subject) else "is not"
        return f"sender domain {path.domain} {verb} in {listed(names)}"

    return Condition(holds=holds, why=why, known_at=Known.MAIL)


def _sender(entries: tuple[str, ...]) -> Condition:
    names = NameSet(entries)

    def holds(subject: Subject) -> bool:
        path = subject.reverse_path
        return path is not None and names.has_mailbox(path)

    def why(subject: Subject) -> str:
        path = subject.reverse_path
        if path is None:
            return "sender <> is no address"
        verb = "is" if holds(subject) else "is not"
        return f"sender {mask(str(path))} {verb} among {listed(entries)}"

    return Condition(holds=holds, why=why, known_at=Known.MAIL)


def _recipient_domain(names: tuple[str, ...]) -> Condition:
    domains = DomainSet(names)

    def holds(subject: Subject) -> bool:
        return any(recipient.mailbox.domain in domains for recipient in subject.recipients)

    def why(subject: Subject) -> str:
        for recipient in subject.recipients:
            if recipient.mailbox.domain in domains:
                return f"recipient domain {recipient.mailbox.domain} is in {listed(names)}"
        return f"no recipient's domain is in {listed(names)}"

    return Condition(holds=holds, why=why, known_at=Known.ENVELOPE, settled_by=True)


def _recipient(entries: tuple[str, ...]) -> Condition:
    names = NameSet(entries)

    def holds(subject: Subject) -> bool:
        return any(names.has_mailbox(recipient.mailbox) for recipient in subject.recipients)

    def why(subject: Subject) -> str:
        for recipient in subject.recipients:
            if names.has_mailbox(recipient.mailbox):
                return f"recipient {mask(str(recipient.mailbox))} is among {listed(entries)}"
        return f"no recipient is among {listed(entries)}"

    return Condition(holds=holds, why=why, known_at=Known.ENVELOPE, settled_by=True)
