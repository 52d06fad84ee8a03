"""`mailshed queue`: what waits in the spool, and an operator's hands on it.

`list`, `count` and `show` also work when the service is down, and so does `export`; what changes
the queue needs the service, which owns it. Each verb is a module of `mailshed.cli.queue`, imported
when it runs.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any

from mailshed.cli.places import add_service_options
from mailshed.cli.queue.options import add_action_options, add_filter_options, add_ids

LIMIT_DEFAULT = 100
LIMIT_MAX = 10_000
"""As many as the service lists at once."""

ACTIONS = {
    "hold": "not to be tried until released",
    "release": "hold no longer, and try now",
    "retry": "try now, whatever their pause",
    "delete": "remove for good, and tell nobody",
}


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add `queue` and what stands below it."""
    parser = subparsers.add_parser(
        "queue",
        help="show or change what waits in the spool",
        description="Show or change what waits in the spool. Exits 1 if nothing matches.",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="one entry per message")
    listing.add_argument(
        "--limit",
        metavar="N",
        type=_limit,
        default=LIMIT_DEFAULT,
        help=f"at most so many messages ({LIMIT_DEFAULT})",
    )
    counting = verbs.add_parser("count", help="how many, by class and state")
    for each in (listing, counting):
        add_filter_options(each)
    listing.set_defaults(run=_runner("listing", "run_list"))
    counting.set_defaults(run=_runner("listing", "run_count"))

    showing = verbs.add_parser("show", help="all that is known of single messages")
    add_ids(showing, is_required=True)
    showing.add_argument(
        "--headers",
        action="store_true",
        help="with the header fields; subjects and what may name a person are left out",
    )
    showing.set_defaults(run=_runner("show", "run"))

    for verb, text in ACTIONS.items():
        acting = verbs.add_parser(verb, help=text, description=f"Messages to {verb}: {text}.")
        add_action_options(acting)
        acting.add_argument(
            "--yes",
            action="store_true",
            help="do it; needed to delete, and for more than one message that is not named by id",
        )
        acting.set_defaults(run=_runner("act", "run"), verb=verb)
        add_service_options(acting)

    exporting = verbs.add_parser("export", help="copy messages into a folder, as files")
    add_action_options(exporting)
    exporting.add_argument(
        "--to", metavar="FOLDER", required=True, help="where to; it is created if need be"
    )
    exporting.add_argument(
        "--damaged", action="store_true", help="also messages that fail their checksum"
    )
    exporting.set_defaults(run=_runner("export", "run"))
    for each in (listing, counting, showing, exporting):
        add_service_options(each)


def _runner(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        code: int = getattr(import_module(f"mailshed.cli.queue.{module}"), function)(args)
        return code

    return run


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LIMIT_MAX:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {LIMIT_MAX}, not {text!r}")
    return int(text)
