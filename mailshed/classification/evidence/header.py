"""Evidence of the header section: presence of fields, their first word, or a pattern.

`List-Id: anything` and `Precedence: bulk` are the typical uses. A value without a wildcard is
compared with the field's first word in lower case, so that comments and parameters behind it do
not matter; one with `*` or `?` with the whole value. A field name that ends in `*` stands for all
that begin like it.

Explanations show the values of fields that machines write for machines, and of no others: a
subject may name a patient.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mailshed.classification.subject import Condition, Known, Subject
from mailshed.classification.words import listed, shown
from mailshed.config.policy import Rule
from mailshed.mail.header import HeaderView
from mailshed.mail.pattern import compile_patterns, is_pattern

_SHOWN_FIELDS = frozenset(
    [
        *("precedence", "auto-submitted", "feedback-id", "x-priority", "priority", "importance"),
        *("content-type", "content-class", "x-auto-response-suppress", "x-campaign-id"),
    ]
)
_SHOWN_PREFIX = "list-"


def conditions(rule: Rule) -> Iterator[Condition]:
    """Any of the rule's fields is there with one of its values (any value if it names none)."""
    if not rule.headers:
        return
    fields = tuple(_Field.of(name, values) for name, values in rule.headers)

    def holds(subject: Subject) -> bool:
        header = subject.header
        for field in fields:  # noqa: SIM110 - a generator for each rule costs more than it
            if field.is_there(header) and field.matches(header):
                return True
        return False

    def why(subject: Subject) -> str:
        header = subject.header
        there = [field for field in fields if field.is_there(header)]
        for field in there:
            if field.matches(header):
                return field.words(header)
        absent = listed(field.name for field in fields if field not in there)
        words = [f"no {absent}"] if absent else []
        return "; ".join([*words, *(field.words(header) for field in there)])

    yield Condition(holds=holds, why=why, known_at=Known.CONTENT)


@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    """One field that a rule looks for."""

    name: str
    key: bytes
    """The name as the view has it; without its star, if it is a beginning only."""
    is_prefix: bool
    words_wanted: frozenset[str]
    patterns: tuple[str, ...]
    matches_pattern: Callable[[str], bool]

    @classmethod
    def of(cls, name: str, values: tuple[str, ...]) -> "_Field":
        patterns = tuple(value for value in values if is_pattern(value))
        return cls(
            name,
            name.removesuffix("*").encode("ascii"),
            name.endswith("*"),
            frozenset(value for value in values if not is_pattern(value)),
            patterns,
            compile_patterns(patterns),
        )

    def is_there(self, header: HeaderView) -> bool:
        return header.has_prefix(self.key) if self.is_prefix else header.has(self.key)

    def matches(self, header: HeaderView) -> bool:
        """Whether a field that is there has one of the values."""
        if not self.words_wanted and not self.patterns:
            return True
        return any(self._is_wanted(value) for value in self._values(header))

    def _values(self, header: HeaderView) -> list[str]:
        if not self.is_prefix:
            return header.values_of(self.key)
        return [value for key in header.keys_with(self.key) for value in header.values_of(key)]

    def _is_wanted(self, value: str) -> bool:
        return _first_word(value) in self.words_wanted or self.matches_pattern(value)

    def words(self, header: HeaderView) -> str:
        """What there is of the field, and whether that is what the rule wants."""
        key = header.keys_with(self.key)[0] if self.is_prefix else self.key
        name = key.decode("ascii", "replace")
        values = header.values_of(key)
        is_match = self.matches(header)
        if name in _SHOWN_FIELDS or name.startswith(_SHOWN_PREFIX):
            text = f'{name} is "{shown(values[0])}"'
        else:
            text = f"{name} is there"
        if not self.words_wanted and not self.patterns:
            return text
        wanted = listed([*sorted(self.words_wanted), *self.patterns])
        return f"{text}, {'which is' if is_match else 'not'} {wanted}"


def _first_word(value: str) -> str:
    words = value.replace(";", " ").replace(",", " ").split(None, 1)
    return words[0].lower() if words else ""
