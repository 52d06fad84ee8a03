"""Evidence of the header section: presence of fields, or their first word.

`Precedence: bulk` and `List-Id: anything` are the typical uses. Values are compared by their first
word in lower case, so that comments and parameters behind it do not matter.
"""

from mailshed.classification.subject import Condition, Subject
from mailshed.config.policy import Rule


def compile_condition(rule: Rule) -> Condition | None:
    """Hold if any of the rule's fields is there with one of its values (any value if none)."""
    fields = rule.headers
    if not fields:
        return None

    def matches(subject: Subject) -> bool:
        header = subject.header
        for name, values in fields:
            if name not in header:
                continue
            if not values or any(_first_word(value) in values for value in header.values(name)):
                return True
        return False

    return matches


def _first_word(value: str) -> str:
    words = value.replace(";", " ").replace(",", " ").split(None, 1)
    return words[0].lower() if words else ""
