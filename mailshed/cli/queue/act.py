"""`mailshed queue hold|release|retry|delete`: what an operator does to messages.

They need the service, which owns the queue. Who names messages by id means just these. A filter may
mean more than was thought: if it matches several messages, or if they are to be deleted, the verb
only says what it would do, until `--yes`. There are no questions, so it is the same in a script.
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from mailshed.admin.request import QueueRequest
from mailshed.cli.client import ServiceDown, post
from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.places import find_service
from mailshed.cli.queue.options import request
from mailshed.cli.queue.source import Entry, print_json
from mailshed.cli.table import count

TIMEOUT = 200.0
"""Seconds; the service promises an answer within the sum of its deadlines, which is less."""

_DONE = {
    "hold": "held",
    "release": "released",
    "retry": "due now",
    "delete": "deleted",
}


def run(args: argparse.Namespace) -> int:
    """Act, or say what would be done."""
    verb: str = args.verb
    asked = request(args)
    socket = find_service(args).socket
    if args.dry_run:
        return _tell(args, _ask(socket, verb, asked))
    if not args.yes and not (asked.wanted.names_messages and verb != "delete"):
        preview = _ask(socket, verb, replace(asked, is_dry_run=True))
        if verb == "delete" or preview["matched"] > 1:
            if preview["matched"]:
                _tell(args, preview)
                print(f"mailshed: nothing was done; to {verb} them, say --yes", file=sys.stderr)
                return ExitCode.USAGE
            return _tell(args, preview)
        asked = replace(asked, messages_max=1)  # not more, whatever has arrived since
    return _tell(args, _ask(socket, verb, asked))


def _ask(socket: Path, verb: str, asked: QueueRequest) -> Entry:
    try:
        return post(socket, f"/v1/queue/{verb}", asked.document, TIMEOUT)
    except ServiceDown as down:
        raise VerbFailed(
            f"{down}\nmailshed: only the service may change its queue: start it first"
            " (`systemctl start mailshed`)",
            ExitCode.UNAVAILABLE,
        ) from None


def _tell(args: argparse.Namespace, answer: Entry) -> ExitCode:
    """Print the answer; return the exit code that it means."""
    if args.json:
        print_json(answer)
    else:
        print("\n".join(_lines(answer)))
    if answer.get("is_noted") is False:
        print(
            "mailshed: the audit log has only that it was asked for, since it could not be written"
            " afterwards; see the log",
            file=sys.stderr,
        )
    if answer.get("busy"):
        return ExitCode.TRY_AGAIN
    return ExitCode.OK if answer["matched"] else ExitCode.NO_MATCH


def _lines(answer: Entry) -> Iterable[str]:
    verb, matched = answer["verb"], answer["matched"]
    if answer.get("missing"):
        yield f"{count(answer['missing'], 'message')} not in the queue (any more)"
    if answer.get("is_dry_run"):
        yield f"{count(matched, 'message')} would be {_DONE[verb]}"
        yield from (f"    {each}" for each in answer["ids"])
        if matched > len(answer["ids"]):
            yield f"    and {matched - len(answer['ids']):,} more"
        return
    if not matched:
        yield "no message matches"
        return
    yield f"{count(answer['changed'], 'message')} {_DONE[verb]}"
    if answer["busy"]:
        yield f"{count(answer['busy'], 'message')} skipped: with the backend right now; try again"
    if answer["unchanged"]:
        yield f"{count(answer['unchanged'], 'message')} skipped: nothing to change, or gone by now"
