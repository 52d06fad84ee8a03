"""Evidence of the priority that a mail server asked for (MT-PRIORITY, RFC 6710).

The listener keeps the value only if the peer's word counts; without one the priority is 0, as the
extension has it.
"""

from collections.abc import Iterator

from mailshed.classification.subject import Condition, Known, Subject
from mailshed.classification.words import at_least
from mailshed.config.policy import Rule


def conditions(rule: Rule) -> Iterator[Condition]:
    """Within the rule's bounds."""
    lower, upper = rule.priority_min, rule.priority_max
    if lower is None and upper is None:
        return
    least = -9 if lower is None else lower
    most = 9 if upper is None else upper

    def holds(subject: Subject) -> bool:
        return least <= (subject.priority or 0) <= most

    def why(subject: Subject) -> str:
        found = "0 (none given)" if subject.priority is None else subject.priority
        return at_least("priority is", found, lower, upper)

    yield Condition(holds=holds, why=why, known_at=Known.MAIL)
