"""`mailshed queue list|count`: what waits in the spool, and how much of it.

A listing is long at the moment it matters, so it is cut at `--limit`, and says of how many.
"""

import argparse
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.queue.options import wanted
from mailshed.cli.queue.source import Entry, ask_or_read, entries, masked, print_json
from mailshed.cli.table import WIDTH, Column, Table, count, cut, format_age, format_octets
from mailshed.errors import SpoolError
from mailshed.spool.filter import QueueFilter

LIST_SCHEMA = "mailshed.queue/1"
COUNT_SCHEMA = "mailshed.queue-count/1"


def run_list(args: argparse.Namespace) -> int:
    """Print one entry per message, and a total."""
    limit: int = args.limit
    filtered = wanted(args)

    def ask(socket: Path) -> list[Entry]:
        from mailshed.cli.client import Query, get

        query: Query = {"limit": limit, **filtered.parameters}
        return entries(get(socket, "/v1/queue", query), "messages")

    def read(spool: Path) -> list[Entry]:
        from mailshed.spool.reader import list_messages

        return list_messages(spool, filtered, limit)

    messages = [masked(message) for message in ask_or_read(args, ask, read)[:limit]]
    total = len(messages) if len(messages) < limit else _total_messages(args, filtered, limit)
    if args.json:
        print_json({"schema": LIST_SCHEMA, "total": total, "messages": messages})
    else:
        print("\n".join(_message_lines(messages, total)))
    return ExitCode.OK if messages else ExitCode.NO_MATCH


def run_count(args: argparse.Namespace) -> int:
    """Print the totals by class and state, and their sum."""
    classes = _counts(args, wanted(args))
    if args.json:
        print_json({"schema": COUNT_SCHEMA, "classes": classes})
    else:
        print("\n".join(_count_lines(classes)))
    return ExitCode.OK if any(entry["messages"] for entry in classes) else ExitCode.NO_MATCH


def _total_messages(args: argparse.Namespace, filtered: QueueFilter, listed: int) -> int | None:
    """How many messages there are, of which `listed` are shown; None if nobody can count them."""
    try:
        counts = _counts(args, filtered, is_quiet=True)
    except (VerbFailed, SpoolError):  # a listing without its total is better than none
        return None
    total: int = sum(entry["messages"] for entry in counts)
    return max(listed, total)


def _counts(
    args: argparse.Namespace, filtered: QueueFilter, *, is_quiet: bool = False
) -> list[Entry]:
    def ask(socket: Path) -> list[Entry]:
        from mailshed.cli.client import get

        return entries(get(socket, "/v1/queue/count", filtered.parameters), "classes")

    def read(spool: Path) -> list[Entry]:
        from mailshed.spool.reader import count_messages

        return count_messages(spool, filtered)

    return ask_or_read(args, ask, read, is_quiet=is_quiet)


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
            next_attempt(message),
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


def next_attempt(message: Entry) -> str:
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
