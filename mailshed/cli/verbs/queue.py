"""`mailshed queue list|count`: what waits in the spool, from the service or without it.

The service is asked over its socket. When it is down the spool is read instead, read-only, and
standard error says so: the moment of trouble is when people ask. Patients' addresses are masked in
both forms, whoever answered.

A listing is long at the moment it matters, so it is cut at `--limit`, and says of how many. When
nothing matches a class, the service is asked whether there is such a class: a typing error must not
look like an empty queue.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.places import ServicePlaces, add_service_options, find_service
from mailshed.cli.table import WIDTH, Column, Table, count, cut, format_age, format_octets
from mailshed.errors import SpoolError
from mailshed.mail.privacy import mask, mask_text

LIST_SCHEMA = "mailshed.queue/1"
COUNT_SCHEMA = "mailshed.queue-count/1"
LIMIT_DEFAULT = 100
LIMIT_MAX = 10_000
"""As many as the service lists at once."""

Entry = dict[str, Any]


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add `queue` and what stands below it."""
    parser = subparsers.add_parser(
        "queue",
        help="show what waits in the spool",
        description="Show what waits in the spool. Exits 1 if nothing does.",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="one entry per message")
    counting = verbs.add_parser("count", help="how many, by class and state")
    for each in (listing, counting):
        add_service_options(each)
        each.add_argument("--class", dest="traffic_class", metavar="CLASS", help="only this class")
    listing.add_argument(
        "--limit",
        metavar="N",
        type=_limit,
        default=LIMIT_DEFAULT,
        help=f"at most so many messages ({LIMIT_DEFAULT})",
    )
    listing.set_defaults(run=_list)
    counting.set_defaults(run=_count)


def _list(args: argparse.Namespace) -> int:
    limit: int = args.limit

    def ask(places: ServicePlaces) -> list[Entry]:
        from mailshed.cli.client import get

        query: dict[str, str | int] = {"limit": limit}
        if args.traffic_class is not None:
            query["class"] = args.traffic_class
        return _entries(get(places.socket, "/v1/queue", query), "messages")

    def read(places: ServicePlaces) -> list[Entry]:
        from mailshed.spool.reader import list_messages

        assert places.spool is not None
        return list_messages(places.spool, args.traffic_class, limit)

    messages = [_masked(message) for message in _ask_or_read(args, ask, read)[:limit]]
    if not messages:
        _require_class(args)
    total = len(messages) if len(messages) < limit else _total_messages(args, limit)
    if args.json:
        _print_json({"schema": LIST_SCHEMA, "total": total, "messages": messages})
    else:
        print("\n".join(_message_lines(messages, total)))
    return ExitCode.OK if messages else ExitCode.NO_MATCH


def _count(args: argparse.Namespace) -> int:
    classes = _counts(args)
    if not classes:
        _require_class(args)
    if args.json:
        _print_json({"schema": COUNT_SCHEMA, "classes": classes})
    else:
        print("\n".join(_count_lines(classes)))
    return ExitCode.OK if any(entry["messages"] for entry in classes) else ExitCode.NO_MATCH


def _total_messages(args: argparse.Namespace, listed: int) -> int | None:
    """How many messages there are, of which `listed` are shown; None if nobody can count them."""
    try:
        counts = _counts(args, is_quiet=True)
    except (VerbFailed, SpoolError):  # a listing without its total is better than none
        return None
    total: int = sum(entry["messages"] for entry in counts)
    return max(listed, total)


def _require_class(args: argparse.Namespace) -> None:
    """Raise VerbFailed if the service says that it has no such class."""
    if args.traffic_class is None:
        return
    from mailshed.cli.client import get

    try:
        classes = _entries(get(find_service(args).socket, "/v1/status"), "classes")
    except VerbFailed:  # then nobody knows
        return
    names = [entry["name"] for entry in classes if entry.get("is_configured", True)]
    if names and args.traffic_class not in names:
        known = ", ".join(names)
        raise VerbFailed(f"no such class; configured: {known}", ExitCode.USAGE)


def _counts(args: argparse.Namespace, *, is_quiet: bool = False) -> list[Entry]:
    """The totals of the class that is asked for, or of all."""

    def ask(places: ServicePlaces) -> list[Entry]:
        from mailshed.cli.client import get

        return _entries(get(places.socket, "/v1/queue/count"), "classes")

    def read(places: ServicePlaces) -> list[Entry]:
        from mailshed.spool.reader import count_messages

        assert places.spool is not None
        return count_messages(places.spool)

    wanted = args.traffic_class
    return [
        entry
        for entry in _ask_or_read(args, ask, read, is_quiet=is_quiet)
        if wanted is None or entry["class"] == wanted
    ]


def _ask_or_read(
    args: argparse.Namespace,
    ask: Callable[[ServicePlaces], list[Entry]],
    read: Callable[[ServicePlaces], list[Entry]],
    *,
    is_quiet: bool = False,
) -> list[Entry]:
    """Ask the service; if it is down and we know the spool, read that and say so."""
    from mailshed.cli.client import ServiceDown

    places = find_service(args)
    try:
        return ask(places)
    except ServiceDown as down:
        if places.spool is None:
            raise
        if not is_quiet:
            print(f"mailshed: {down}", file=sys.stderr)
            print(f"mailshed: reading the spool at {places.spool} instead", file=sys.stderr)
        return read(places)


def _entries(document: dict[str, Any], name: str) -> list[Entry]:
    entries = document.get(name)
    return list(entries) if isinstance(entries, list) else []


def _masked(message: Entry) -> Entry:
    """Return `message` without any patient's name in it."""
    recipients = []
    for recipient in message["recipients"]:
        address = recipient["address"]
        reply = mask_text(recipient.get("last_reply") or "", address, message["sender"])
        recipients.append({**recipient, "address": mask(address), "last_reply": reply})
    return {**message, "sender": mask(message["sender"]), "recipients": recipients}


def _message_lines(messages: list[Entry], total: int | None) -> Iterable[str]:
    """Three lines per message, with its addresses and what keeps it here, then a total."""
    table = Table(
        (
            Column("QUEUE ID", 16),
            Column("CLASS", 11),
            Column("STATE", 8),
            Column("AGE", 6, is_number=True),
            Column("SIZE", 6, is_number=True),
            Column("TRIES", 5, is_number=True),
            Column("NEXT", 9),
        )
    )
    for message in messages:
        table.add(
            message["queue_id"],
            message["class"],
            message["state"],
            format_age(message["age_seconds"]),
            format_octets(message["size"]),
            message["attempts"],
            _next(message),
        )
    title, *rows = table.lines()
    if rows:
        yield title
    for row, message in zip(rows, messages, strict=True):
        yield row
        yield cut(f"    {_addresses(message)}", WIDTH)
        yield cut(f"    {_cause(message)}", WIDTH)
    size = sum(message["size"] for message in messages)
    recipients = sum(len(message["recipients"]) for message in messages)
    footer = _total(len(messages), recipients, size)
    if total != len(messages):
        of = "more" if total is None else f"{total:,}"
        footer = f"showing {len(messages):,} of {of} (--limit shows more): {footer}"
    yield footer


def _next(message: Entry) -> str:
    """When it is tried again, counted from the moment of the listing."""
    match message["state"]:
        case "hold":
            return "held"
        case "corrupt":
            return "never"
    now = message["received_epoch"] + message["age_seconds"]
    due = datetime.fromisoformat(message["next_attempt"]).timestamp() - now
    return f"in {format_age(due)}" if due >= 1 else "now"


def _cause(message: Entry) -> str:
    """Why it was spooled, and what the backend last said about the first one it refused."""
    replies = (each["last_reply"] for each in message["recipients"] if each["last_reply"])
    reply = next(replies, "")
    return f"spooled: {message['reason']}" + (f"; last reply: {reply}" if reply else "")


def _addresses(message: Entry) -> str:
    recipients = message["recipients"]
    first = recipients[0]["address"] if recipients else ""
    more = f" and {len(recipients) - 1} more" if len(recipients) > 1 else ""
    return f"{message['sender'] or '<>'} -> {first}{more}"


def _count_lines(classes: list[Entry]) -> Iterable[str]:
    table = Table(
        (
            Column("CLASS", 32),
            Column("STATE", 8),
            Column("MESSAGES", 9, is_number=True),
            Column("RECIPIENTS", 10, is_number=True),
            Column("SIZE", 6, is_number=True),
            Column("OLDEST", 6, is_number=True),
        )
    )
    for entry in classes:
        table.add(
            entry["class"],
            entry["state"],
            entry["messages"],
            entry["recipients"],
            format_octets(entry["octets"]),
            format_age(entry["oldest_age_seconds"]),
        )
    if classes:
        yield from table.lines()
    sums = {name: sum(entry[name] for entry in classes) for name in ("messages", "recipients")}
    yield _total(sums["messages"], sums["recipients"], sum(entry["octets"] for entry in classes))


def _total(messages: int, recipients: int, octets: int) -> str:
    return ", ".join(
        (count(messages, "message"), count(recipients, "recipient"), format_octets(octets))
    )


def _print_json(document: dict[str, Any]) -> None:
    import json

    print(json.dumps(document, indent=2))


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LIMIT_MAX:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {LIMIT_MAX}, not {text!r}")
    return int(text)
