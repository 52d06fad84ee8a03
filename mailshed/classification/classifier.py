"""Ordered rules over evidence: the first rule whose conditions all hold names the class.

Rules are compiled once, when the configuration is read, into plain functions; classifying a message
is a short walk without allocation. Which rule spoke goes into the log, and `mailshed explain` tells
the rest (`explanation`), from what is kept of the message and not from a trace made on the way.

Before the header section is there, a message has no class yet, but some classes cannot be its class
any more. `reachable` says which are left, so that a client can be told early what it will be told
anyway, and so that nobody whose mail may still turn out to be clinical is turned away at MAIL.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mailshed.classification.evidence import EVIDENCE
from mailshed.classification.subject import Condition, Subject, early_answer
from mailshed.config.policy import ClassificationPolicy, Rule
from mailshed.mail.header import HeaderView
from mailshed.terms import TrafficClass

NO_RULE = "default"
"""Name that stands for 'no rule matched' in logs."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The class of a message and the name of the rule that said so."""

    traffic_class: TrafficClass
    rule: str


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule and its conditions, in the order in which they are tried."""

    rule: Rule
    conditions: tuple[Condition, ...]


class Classifier:
    """The rules of one configuration, ready to use."""

    def __init__(self, policy: ClassificationPolicy) -> None:
        self.policy = policy
        self.rules = tuple(CompiledRule(rule, tuple(_conditions(rule))) for rule in policy.rules)
        self._tests = tuple(
            (
                tuple(condition.holds for condition in each.conditions),
                Verdict(each.rule.traffic_class, each.rule.name),
            )
            for each in self.rules
        )
        self._default = Verdict(policy.default, NO_RULE)
        rates = [rule.sender_rate for rule in policy.rules if rule.sender_rate is not None]
        self.windows = tuple(dict.fromkeys(rate.within for rate in rates))
        """The windows, in seconds, for which `SenderHistory` has to count."""
        names = {name for rule in policy.rules for name, _ in rule.headers}
        self._keys = frozenset(each.encode() for each in names if not each.endswith("*"))
        self._prefixes = tuple(sorted(each[:-1].encode() for each in names if each.endswith("*")))

    def classify(self, subject: Subject) -> Verdict:
        """Name the class of one message of which everything is known."""
        for tests, verdict in self._tests:
            for holds in tests:  # a loop: a generator for each rule costs more than it
                if not holds(subject):
                    break
            else:
                return verdict
        return self._default

    def reachable(self, subject: Subject) -> tuple[TrafficClass, ...]:
        """The classes that the message may still turn out to be of, best rank first.

        `subject` has what is known so far, and says in `known` how much that is. The class that
        `classify` names in the end is always among them, whatever the client sends from here on.
        """
        found: dict[str, TrafficClass] = {}
        for each in self.rules:
            answer = _early(each.conditions, subject)
            if answer is not False:
                found.setdefault(each.rule.traffic_class.name, each.rule.traffic_class)
            if answer is True:
                break
        else:
            found.setdefault(self.policy.default.name, self.policy.default)
        return tuple(sorted(found.values(), key=lambda one: one.rank))

    def excerpt(self, header: HeaderView) -> HeaderView:
        """What the rules ask for of a header section, cut to a bounded size, for keeping."""
        return header.excerpt(self._keys, self._prefixes)


def _conditions(rule: Rule) -> Iterator[Condition]:
    for evidence in EVIDENCE:
        yield from evidence.conditions(rule)


def _early(conditions: tuple[Condition, ...], subject: Subject) -> bool | None:
    """The conjunction of three-valued answers."""
    answers = [early_answer(condition, subject) for condition in conditions]
    if False in answers:
        return False
    return None if None in answers else True
