"""`mailshed queue show ID...`: envelope, history and prospects of single messages.

Nothing is cut here, since somebody wants to know it all; but nothing of the content is shown, and
of the header fields only what explains the way of the message (`mailshed.mail.redaction`).
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.queue.listing import next_attempt
from mailshed.cli.queue.options import wanted
from mailshed.cli.queue.source import (
    Entry,
    ask_or_read,
    entries,
    masked,
    masked_everywhere,
    print_json,
)
from mailshed.cli.table import format_age, format_octets

SCHEMA = "mailshed.queue-show/1"
_LABEL = 12


def run(args: argparse.Namespace) -> int:
    """Print what is known; exits 1 if one of the messages is not there."""
    ids = wanted(args).ids
    with_headers: bool = args.headers

    def ask(socket: Path) -> list[Entry]:
        from mailshed.cli.client import Query, get

        query: Query = {"id": ids, **({"headers": 1} if with_headers else {})}
        return entries(get(socket, "/v1/queue/show", query), "messages")

    def read(spool: Path) -> list[Entry]:
        from mailshed.spool.reader import show_messages

        return show_messages(spool, ids, with_headers=with_headers)

    messages = [masked_everywhere(masked(message)) for message in ask_or_read(args, ask, read)]
    if args.json:
        print_json({"schema": SCHEMA, "messages": messages})
    else:
        print("\n\n".join("\n".join(_lines(message)) for message in messages), end="")
        print("\n" if messages else "", end="")
    missing = [each for each in ids if each not in {message["queue_id"] for message in messages}]
    if missing:
        print(f"mailshed: not in the queue: {', '.join(missing)}", file=sys.stderr)
    return ExitCode.NO_MATCH if missing else ExitCode.OK


def _lines(message: Entry) -> Iterable[str]:
    now = message["received_epoch"] + message["age_seconds"]
    trust = "trusted" if message["is_trusted"] else "a stranger"
    origin = "a report of ours" if message["is_generated"] else f"{message['client']}, {trust}"
    yield f"{message['queue_id']}  {message['class']}  {message['state']}"
    yield _line("from", message["sender"] or "<>", *message["parameters"])
    yield _line("client", origin, f"helo {message['helo']}" if message["helo"] else "")
    yield _line("received", f"{message['received']}, {format_age(message['age_seconds'])} ago")
    yield _line("size", f"{format_octets(message['size'])} ({message['size']} octets)")
    yield _line("spooled", message["reason"])
    if message.get("backend"):
        yield _line("backend", message["backend"])
    yield _line("attempts", f"{message['attempts']}, next {next_attempt(message)}")
    if message["in_doubt"]:
        yield _line("in doubt", f"{message['in_doubt']} times no answer to the final dot")
    left = message["expires_epoch"] - now
    yield _line(
        "expires", f"{message['expires']}, {f'in {format_age(left)}' if left > 0 else 'now'}"
    )
    for recipient in message["recipients"]:
        yield _line("to", recipient["address"], *recipient["parameters"])
        reply = recipient["last_reply"]
        yield _line("", recipient["state"] + (f"; last reply: {reply}" if reply else ""))
    for field in message.get("headers", ()):
        yield _line("header", f"{field['name']}: {field['value']}")


def _line(label: str, *words: str) -> str:
    text = " ".join(word for word in words if word)
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return f"    {label:<{_LABEL}}{shown}"
