"""`mailshed override`: what operators have decided for a time, and ending it.

The list is there when the service is down too: the file says what is in force once it runs again.
"""

import argparse
from pathlib import Path
from typing import Any

from mailshed.cli import overriding
from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.overriding import Entry
from mailshed.cli.places import add_service_options


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add `override` and what stands below it."""
    parser = subparsers.add_parser(
        "override",
        help="show or end what operators have decided for a time",
        description="Show or end overrides: forced shed levels (`mailshed shed`), classes that are"
        " held, limited or released (`mailshed class`).",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    showing = verbs.add_parser("list", help="those in force; exits 1 if there is none")
    add_service_options(showing)
    showing.set_defaults(run=show)
    ending = verbs.add_parser("cancel", help="end one before its time")
    ending.add_argument("id", metavar="ID", type=_number, help="its number in the list")
    overriding.add_change_options(ending, has_end=False)
    ending.set_defaults(run=cancel)


def show(args: argparse.Namespace) -> int:
    """Print those in force."""
    from mailshed.cli.queue.source import ask_or_read

    document = ask_or_read(args, overriding.in_force, _saved)
    overrides = document.get("overrides", [])
    if args.json:
        overriding.print_json(document)
    elif overrides:
        print("\n".join(overriding.listing(overrides)))
        if document.get("is_observing"):
            print("the service observes: they act on nothing")
    else:
        print("no override is in force")
    return ExitCode.OK if overrides else ExitCode.NO_MATCH


def cancel(args: argparse.Namespace) -> int:
    """End one."""
    return overriding.cancel(args, args.id)


def _saved(spool: Path) -> Entry:
    """What a service that starts now would put in force."""
    import time

    from mailshed.admin.keeper import FILE_NAME, LIST_SCHEMA, snapshot_of
    from mailshed.admin.status import as_json
    from mailshed.control.override_document import from_document
    from mailshed.control.overrides import Overrides
    from mailshed.statefile import StateFile

    now, wall = time.monotonic(), time.time()
    document = StateFile(spool, FILE_NAME).load()
    saved = Overrides() if document is None else from_document(document, now, wall)
    found = [snapshot_of(each, now, wall) for each in saved.expire(now, wall).overrides.in_force]
    return {"schema": LIST_SCHEMA, "is_observing": False, "overrides": as_json(found)}


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:15])):
        raise argparse.ArgumentTypeError(
            f"expected a number, as `mailshed override list` has them, not {text!r}"
        )
    return int(text[:15])
