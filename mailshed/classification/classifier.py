"""Ordered rules over evidence: the first rule whose conditions all hold names the class.

Rules are compiled once, when the configuration is read, into plain functions; classifying a message
is a short walk without allocation. Which rule spoke goes into the log, so that 'why is this bulk?'
has an answer.
"""

from dataclasses import dataclass

from mailshed.classification.evidence import EVIDENCE
from mailshed.classification.subject import Condition, Subject
from mailshed.config.policy import ClassificationPolicy, Rule
from mailshed.mail.envelope import Envelope
from mailshed.mail.header import HeaderView
from mailshed.terms import TrafficClass

NO_RULE = "default"
"""Name that stands for 'no rule matched' in logs."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The class of a message and the name of the rule that said so."""

    traffic_class: TrafficClass
    rule: str


class Classifier:
    """The rules of one configuration, ready to use."""

    def __init__(self, policy: ClassificationPolicy) -> None:
        self.policy = policy
        self._rules = tuple(
            (_conditions(rule), Verdict(rule.traffic_class, rule.name)) for rule in policy.rules
        )
        self._default = Verdict(policy.default, NO_RULE)

    def classify(self, envelope: Envelope, header: HeaderView) -> Verdict:
        """Name the class of one message."""
        subject = Subject(envelope, header)
        for conditions, verdict in self._rules:
            for condition in conditions:  # a loop: a generator for each rule costs more than it
                if not condition(subject):
                    break
            else:
                return verdict
        return self._default


def _conditions(rule: Rule) -> tuple[Condition, ...]:
    compiled = (evidence.compile_condition(rule) for evidence in EVIDENCE)
    return tuple(condition for condition in compiled if condition is not None)
