"""`mailshed explain FILE|ID`: rule by rule, why a message is of its class, and what becomes of it.

With a file the rules of the configuration are asked, as if the message came from `--from-ip`; no
service is needed. With a queue id the service is asked, which keeps its last decisions; when it is
down, or has forgotten, the spool is read. What has a slash or a dot, or is a file, is a file.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.places import add_service_options, config_file, find_service

if TYPE_CHECKING:
    from mailshed.cli.message_file import Claims

Document = dict[str, Any]

_QUEUE_ID = re.compile(r"[0-9A-Z]{1,32}")
_INDENT = " " * 10


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add `explain`."""
    parser = subparsers.add_parser(
        "explain",
        help="say why a message is of its class",
        description="Say, rule by rule, why a message is of its class and what becomes of it. "
        "Exits 1 if nothing is known of a queue id.",
    )
    parser.add_argument("what", metavar="FILE|ID", help="a message in a file, or a queue id")
    add_service_options(parser)
    group = parser.add_argument_group("of a message in a file, as if it came")
    group.add_argument("--from-ip", metavar="ADDRESS", default="127.0.0.1", help="from this client")
    group.add_argument("--listener", metavar="NAME", help="through this listener (the first)")
    group.add_argument("--auth", metavar="USER", default="", help="authenticated as this user")
    group.add_argument("--from", dest="sender", metavar="ADDRESS", help="from this sender, or <>")
    group.add_argument(
        "--rcpt", metavar="ADDRESS", action="append", default=[], help="to this recipient; repeat"
    )
    group.add_argument(
        "--priority", metavar="N", type=int, choices=range(-9, 10), help="with this MT-PRIORITY"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Find out and print, as text or as JSON."""
    document = _of_file(args) if _is_file(args.what) else _of_queue_id(args)
    if not document.get("known", True):
        raise VerbFailed(
            f"nothing is known of {args.what}: it is not among the last decisions of the service"
            " and not in the spool; the log may have it",
            ExitCode.NO_MATCH,
        )
    if args.json:
        import json

        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print("\n".join(lines(document)))
    return ExitCode.OK


def _is_file(what: str) -> bool:
    return _QUEUE_ID.fullmatch(what) is None or Path(what).is_file()


def _of_file(args: argparse.Namespace) -> Document:
    from mailshed.classification.classifier import Classifier
    from mailshed.classification.explanation import explain
    from mailshed.cli.forecast import STATES, forecast
    from mailshed.cli.message_file import make_subject, read_file
    from mailshed.config.load import classification_policy, load

    wire = read_file(Path(args.what))
    config = load(config_file(args.config), has_secrets=False)
    classifier = Classifier(classification_policy(config))
    subject = make_subject(wire, _claims(args), config)
    document = explain(classifier, subject)
    traffic_class = classifier.policy.by_name(document["class"])
    document["basis"] = "file"
    document["would"] = {
        state: dict(
            zip(
                ("action", "words"),
                forecast(traffic_class, subject.client.kind, state),
                strict=True,
            )
        )
        for state in STATES
    }
    return document


def _claims(args: argparse.Namespace) -> "Claims":
    from mailshed.cli.message_file import Claims

    return Claims(
        address=args.from_ip,
        listener=args.listener,
        user=args.auth,
        sender=args.sender,
        recipients=tuple(args.rcpt),
        priority=args.priority,
    )


def _of_queue_id(args: argparse.Namespace) -> Document:
    from mailshed.cli.client import ServiceDown, get

    places = find_service(args)
    try:
        return get(places.socket, f"/v1/explain/{args.what}")
    except ServiceDown as down:
        if places.spool is None:
            raise
        print(f"mailshed: {down}", file=sys.stderr)
        print(f"mailshed: reading the spool at {places.spool} instead", file=sys.stderr)
        return _of_spool(args, places.spool)


def _of_spool(args: argparse.Namespace, spool: Path) -> Document:
    from mailshed.admin.explain import explain_spooled
    from mailshed.classification.classifier import Classifier
    from mailshed.config.load import classification_policy, load

    config = load(config_file(args.config), has_secrets=False)
    classifier = Classifier(classification_policy(config))
    return explain_spooled(spool, args.what, classifier)


def lines(document: Document) -> list[str]:
    """The document as text for people."""
    message = document["message"]
    out = []
    if "received" in document:
        out.append(_row("received", f"{document['received']} as {document['queue_id']}"))
    out.append(_row("client", _client(message)))
    out.append(_row("from", _envelope(message)))
    out += _verdict(document)
    out += _rules(document)
    out += _decision(document)
    return [_printable(line) for line in out]


def _client(message: Document) -> str:
    parts = [message["client"], "trusted" if message["trusted"] else "a stranger"]
    if message["user"]:
        parts.append(f"user {message['user']}")
    if message["listener"]:
        parts.append(f"listener {message['listener']}")
    if message["priority"] is not None:
        parts.append(f"priority {message['priority']}")
    return ", ".join(parts)


def _envelope(message: Document) -> str:
    from mailshed.cli.table import format_octets

    shown, count = message["recipients"], message["recipient_count"]
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    to = ", ".join(shown)
    return f"<{message['sender']}> to {to}{more}, {format_octets(message['size'])}"


def _verdict(document: Document) -> list[str]:
    found = _row("class", f"{document['class']}, by {_rule(document)}")
    decided = document.get("decided")
    if decided is None or (
        decided["class"] == document["class"] and decided["rule"] in (None, document["rule"])
    ):
        return [found, *_note(document)]
    rule = f", by rule {decided['rule']}" if decided["rule"] else ""
    now = f"{document['class']}, by {_rule(document)}"
    return [_row("class", f"{decided['class']}{rule}"), _row("now", now), *_note(document)]


def _note(document: Document) -> list[str]:
    return [_row("note", document["note"])] if document.get("note") else []


def _rule(entry: Document) -> str:
    if entry["rule"] == "default":
        return "no rule: the default class"
    return f"rule {entry['rule']}" + (f" ({entry['origin']})" if entry["origin"] else "")


def _rules(document: Document) -> list[str]:
    out = []
    for index, entry in enumerate(document["rules"]):
        verb = "matches" if entry["matched"] else "no"
        why = "; ".join(entry["why"]) or "it has no condition"
        label = "rules" if index == 0 else ""
        out.append(_row(label, f"{entry['rule']} [{entry['class']}]: {verb}: {why}"))
    if document["rules_not_tried"]:
        out.append(f"{_INDENT}{document['rules_not_tried']} more rules were not tried")
    return out


def _decision(document: Document) -> list[str]:
    out = []
    if (decision := document.get("decision")) is not None:
        reason = f" ({decision['reason']})" if decision["reason"] else ""
        said = f"; client was told: {decision['reply']}" if decision["reply"] else ""
        out.append(_row("decision", f"{decision['action']}{reason}{said}"))
    for index, (state, would) in enumerate(document.get("would", {}).items()):
        out.append(_row("would" if index == 0 else "", f"{state}: {would['words']}"))
    return out


def _row(label: str, text: str) -> str:
    return f"{label:<10}{text}"


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
