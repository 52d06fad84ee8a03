"""Evidence of how much there is of a message: its recipients, its octets."""

from collections.abc import Iterator

from mailshed.classification.subject import Condition, Known, Subject
from mailshed.classification.words import at_least
from mailshed.config.policy import Rule


def conditions(rule: Rule) -> Iterator[Condition]:
    """As many recipients and as large as the rule asks for; bounds are inclusive."""
    if rule.recipients_min is not None:
        yield _recipients_min(rule.recipients_min)
    if rule.recipients_max is not None:
        yield _recipients_max(rule.recipients_max)
    if rule.size_min is not None or rule.size_max is not None:
        yield _size(rule.size_min, rule.size_max)


def _recipients_min(least: int) -> Condition:
    def holds(subject: Subject) -> bool:
        return len(subject.recipients) >= least

    def why(subject: Subject) -> str:
        return at_least("recipients are", len(subject.recipients), least, None)

    return Condition(holds=holds, why=why, known_at=Known.ENVELOPE, settled_by=True)


def _recipients_max(most: int) -> Condition:
    def holds(subject: Subject) -> bool:
        return len(subject.recipients) <= most

    def why(subject: Subject) -> str:
        return at_least("recipients are", len(subject.recipients), None, most)

    return Condition(holds=holds, why=why, known_at=Known.ENVELOPE, settled_by=False)


def _size(lower: int | None, upper: int | None) -> Condition:
    least = lower or 0
    most = float("inf") if upper is None else upper

    def holds(subject: Subject) -> bool:
        return least <= subject.size <= most

    def why(subject: Subject) -> str:
        return at_least("octets are", subject.size, lower, upper)

    # What a client declares with SIZE is only a promise, so the size is known at the end.
    return Condition(holds=holds, why=why, known_at=Known.CONTENT)
