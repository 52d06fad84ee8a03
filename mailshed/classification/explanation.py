"""Why is this message of that class? Each rule in order, matched or not, and for which reason.

The result is a document, a plain tree for JSON (`mailshed.explain/1`, a contract that grows), so
that the service, which knows what it decided, and the command line, which prints it, share no more
than that. Patients' addresses are masked in it.
"""

from typing import Any

from mailshed.classification.classifier import NO_RULE, Classifier, CompiledRule
from mailshed.classification.subject import Subject
from mailshed.mail.privacy import mask

SCHEMA = "mailshed.explain/1"
RECIPIENTS_SHOWN = 5

Document = dict[str, Any]


def explain(classifier: Classifier, subject: Subject) -> Document:
    """Classify a complete message once more, saying why at every rule.

    A rule that does not match says the first of its conditions that fails, one that does says all
    of them; rules after the one that decides are not tried, as when mail passes.
    """
    tried: list[Document] = []
    decided: Document | None = None
    for each in classifier.rules:
        entry = _tried(each, subject)
        tried.append(entry)
        if entry["matched"]:
            decided = entry
            break
    default = classifier.policy.default.name
    return {
        "schema": SCHEMA,
        "class": decided["class"] if decided else default,
        "rule": decided["rule"] if decided else NO_RULE,
        "origin": decided["origin"] if decided else "",
        "message": _message(subject),
        "rules": tried,
        "rules_not_tried": len(classifier.rules) - len(tried),
    }


def _tried(compiled: CompiledRule, subject: Subject) -> Document:
    failed = next((each for each in compiled.conditions if not each.holds(subject)), None)
    said = compiled.conditions if failed is None else (failed,)
    rule = compiled.rule
    return {
        "rule": rule.name,
        "origin": rule.origin,
        "class": rule.traffic_class.name,
        "matched": failed is None,
        "why": [condition.why(subject) for condition in said],
    }


def _message(subject: Subject) -> Document:
    """What the rules saw, without anybody's name that must not be shown."""
    client, path = subject.client, subject.reverse_path
    return {
        "client": client.address_text,
        "listener": client.listener,
        "trusted": client.is_trusted,
        "user": client.user,
        "sender": mask(str(path)) if path is not None else "",
        "recipients": [mask(str(each.mailbox)) for each in subject.recipients[:RECIPIENTS_SHOWN]],
        "recipient_count": len(subject.recipients),
        "size": subject.size,
        "priority": subject.priority,
    }
