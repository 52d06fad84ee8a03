"""What a PromQL expression asks for: its selectors, and the labels it groups by.

`promtool` accepts a rule about a metric that nobody exports; such a rule never fires, and nobody
notices. So rules are taken apart here and compared with what is exported. This is a tokenizer and
as much grammar as tells a metric from a function, a keyword and a label: selectors must have a name
in front of their braces. Source: Prometheus, "Querying basics" and "Operators".
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<number>\d[\w.]*)                 # durations such as 5m as well
    | (?P<name>[a-zA-Z_:][\w:]*)
    | (?P<operator>=~|!~|!=|==|>=|<=|[-+*/%^<>=(){}\[\],:@])
    | (?P<space>\s+)
    | (?P<unknown>.)
    """,
    re.VERBOSE,
)
_GROUPING = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_KEYWORDS = frozenset({"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan"})

# Given to every sample by Prometheus itself, or by the job that scrapes.
TARGET_LABELS = frozenset({"job", "instance"})


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label: `value` may be a regular expression (`=~`, `!~`)."""

    label: str
    operator: str
    value: str

    def finds(self, values: Iterable[str]) -> bool:
        """Whether every word that the condition names is among `values`.

        A value that is excluded must exist as well, or nothing is excluded. Of a regular
        expression, each alternative has to match something.
        """
        words = self.value.split("|") if "~" in self.operator else [re.escape(self.value)]
        known = list(values)
        return all(any(re.fullmatch(word, each) for each in known) for word in words)


@dataclass(frozen=True, slots=True)
class Selector:
    """One metric that is asked for."""

    name: str
    matchers: tuple[Matcher, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """What an expression names."""

    selectors: tuple[Selector, ...]
    grouping: frozenset[str]
    """Labels in `by`, `without`, `on` and their like."""


def parse(expression: str) -> Query:
    """Take an expression apart. Raises ValueError at what is not understood."""
    tokens = [
        (str(match.lastgroup), match.group())
        for match in _TOKEN.finditer(expression)
        if match.lastgroup != "space"
    ]
    tokens.append(("end", ""))
    selectors, grouping = [], set[str]()
    position = 0
    while (token := tokens[position])[0] != "end":
        kind, text = token
        following = tokens[position + 1][1]
        position += 1
        if kind == "unknown" or text == "{":
            raise ValueError(f"not understood: {text} in {expression}")
        if kind != "name" or text.lower() in _KEYWORDS:
            continue
        if text in _GROUPING:
            if following == "(":
                words, position = _until(")", tokens, position + 1)
                grouping |= {word for word_kind, word in words if word_kind == "name"}
        elif following == "{":
            words, position = _until("}", tokens, position + 1)
            selectors.append(Selector(text, tuple(_matchers(words))))
        elif following != "(" and following not in _GROUPING:
            selectors.append(Selector(text))
    return Query(tuple(selectors), frozenset(grouping))


def _until(
    end: str, tokens: list[tuple[str, str]], start: int
) -> tuple[list[tuple[str, str]], int]:
    position = start
    while tokens[position][1] != end:
        if tokens[position][0] == "end":
            raise ValueError(f"{end} is missing")
        position += 1
    return tokens[start:position], position + 1


def _matchers(tokens: list[tuple[str, str]]) -> Iterator[Matcher]:
    words = [text for _, text in tokens if text != ","]
    for label, operator, value in zip(words[::3], words[1::3], words[2::3], strict=True):
        yield Matcher(label, operator, value[1:-1])


@dataclass(frozen=True, slots=True)
class Exported:
    """What there is to ask for: of each metric (or recorded rule), its labels and their values."""

    labels: Mapping[str, Mapping[str, frozenset[str]]]
    recorded: frozenset[str] = frozenset()

    def faults(self, expression: str) -> list[str]:
        """What the expression asks for and nobody gives."""
        query = parse(expression)
        known = {label for each in self.labels.values() for label in each} | TARGET_LABELS
        found = [f"no metric has a label {label}" for label in sorted(query.grouping - known)]
        for selector in query.selectors:
            if selector.name in self.recorded:
                continue
            if selector.name not in self.labels:
                found.append(f"nobody exports {selector.name}")
                continue
            labels = self.labels[selector.name]
            for matcher in selector.matchers:
                if matcher.label in TARGET_LABELS:
                    continue
                if not matcher.finds(labels.get(matcher.label, ())):
                    found.append(
                        f"{selector.name} never has"
                        f' {matcher.label}{matcher.operator}"{matcher.value}"'
                    )
        return found


def exported(
    samples: Iterable[tuple[str, Mapping[str, str]]], recorded: Iterable[str] = ()
) -> Exported:
    """Make it from samples (name and labels); `up` is Prometheus' own."""
    labels: dict[str, dict[str, set[str]]] = {"up": {}}
    for name, found in samples:
        values = labels.setdefault(name, {})
        for label, value in found.items():
            values.setdefault(label, set()).add(value)
    return Exported(
        {
            name: {label: frozenset(values) for label, values in found.items()}
            for name, found in labels.items()
        },
        frozenset(recorded),
    )
