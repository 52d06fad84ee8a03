"""Runs the cases of a policy: `mailshed config test`.

A failure says what was expected, what came of it and, for the rules that were tried, why, so that
nobody has to guess which condition is the wrong one.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mailshed.classification.classifier import Classifier
from mailshed.classification.explanation import explain
from mailshed.classification.subject import Subject
from mailshed.cli.forecast import forecast
from mailshed.cli.message_file import NULL, Claims, make_client
from mailshed.config.cases import Case, CaseSection
from mailshed.errors import AddressSyntaxError
from mailshed.mail.address import Mailbox, parse_mailbox
from mailshed.mail.envelope import Recipient
from mailshed.mail.header import HeaderView

if TYPE_CHECKING:
    from mailshed.config.schema import Config


def failures(case: Case, classifier: Classifier, config: "Config") -> Iterator[str]:
    """Lines that say how the case has failed; none if it has not. May raise VerbFailed."""
    section, expected = case.section, case.section.expect
    try:
        subject = subject_of_case(section, classifier, config)
    except AddressSyntaxError as error:
        yield f"cannot be tried: {error}"
        return
    found = explain(classifier, subject)
    if expected.traffic_class not in {each.name for each in classifier.policy.classes}:
        yield f"expects class {expected.traffic_class}, which is not configured"
    elif (found["class"], expected.rule or found["rule"]) != (
        expected.traffic_class,
        found["rule"],
    ):
        rule = f" by rule {expected.rule}" if expected.rule else ""
        yield f"expected class {expected.traffic_class}{rule}"
        yield f"     but got {found['class']} by rule {found['rule']}"
        for entry in found["rules"]:
            verb = "matches" if entry["matched"] else "no"
            yield f"  {entry['rule']} [{entry['class']}]: {verb}: {'; '.join(entry['why'])}"
    elif expected.action is not None:
        traffic_class = classifier.policy.by_name(found["class"])
        action, words = forecast(traffic_class, subject.client.kind, expected.state)
        if action != expected.action:
            yield f"expected to {expected.action} when {expected.state}, but would {words}"


def subject_of_case(section: CaseSection, classifier: Classifier, config: "Config") -> Subject:
    """The message that a case describes; raises AddressSyntaxError or VerbFailed if it cannot."""
    claims = Claims(
        address=section.from_ip,
        listener=section.listener,
        user=section.user,
        is_trusted=section.trusted,
    )
    client = make_client(claims, config)
    boxes = [parse_mailbox(text) for text in section.recipients]
    domain = boxes[0].domain if boxes else "example.org"
    wanted = section.recipient_count or len(boxes)
    boxes += [_invented(number, domain) for number in range(len(boxes), wanted)]
    head = "".join(f"{name}: {value}\r\n" for name, value in section.headers.items())
    sent = section.sent
    return Subject(
        client=client,
        reverse_path=None if section.sender in {"", NULL} else parse_mailbox(section.sender),
        recipients=tuple(Recipient(mailbox=box) for box in boxes[:wanted]),
        priority=section.priority if client.is_trusted else None,
        header=HeaderView(f"{head}\r\n".encode("latin-1", "replace")),
        size=section.size,
        sent=tuple((window, sent.messages, sent.recipients) for window in classifier.windows),
    )


def _invented(number: int, domain: str) -> Mailbox:
    return Mailbox(f"recipient{number}@{domain}".encode("ascii"), domain)
