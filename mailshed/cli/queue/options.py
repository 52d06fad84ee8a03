"""Options that the verbs of the queue share: the filter, and what an action asks for.

The texts of `mailshed.spool.filter` begin with the name of a condition, which is the option's name
too, so its errors need two dashes in front and are ready to print.
"""

import argparse
from typing import TYPE_CHECKING

from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.errors import RequestError

if TYPE_CHECKING:
    from mailshed.admin.request import QueueRequest
    from mailshed.spool.filter import QueueFilter

_HELP = {
    "class": ("CLASS", "of this traffic class"),
    "state": ("STATE", "in this state: queued, deferred, hold or corrupt"),
    "from": ("ADDRESS", "from this address, @example.org, @.example.org (below it), or <>"),
    "rcpt": ("ADDRESS", "with a recipient like that"),
    "backend": ("NAME", "for this backend"),
    "older-than": ("AGE", "that arrived before this: 10m, 4h, 2d"),
    "younger-than": ("AGE", "that arrived since"),
    "id": ("ID", "with this queue id"),
}
_NOTE = "Messages that meet all conditions; alternatives are separated by commas, or repeated."


def add_filter_options(parser: argparse.ArgumentParser) -> None:
    """Add the conditions on messages."""
    group = parser.add_argument_group("which messages", _NOTE)
    for name, (metavar, text) in _HELP.items():
        group.add_argument(
            f"--{name}", dest=_dest(name), metavar=metavar, action="append", default=[], help=text
        )


def add_ids(parser: argparse.ArgumentParser, *, is_required: bool = False) -> None:
    """Add queue ids as bare words."""
    parser.add_argument(
        "ids", metavar="ID", nargs="+" if is_required else "*", help="queue ids of messages"
    )


def add_action_options(parser: argparse.ArgumentParser) -> None:
    """Add what every action needs to know."""
    add_ids(parser)
    add_filter_options(parser)
    parser.add_argument("--all", action="store_true", help="the whole queue, in place of a filter")
    parser.add_argument(
        "--reason", metavar="TEXT", default="", help="why, for the audit log (required)"
    )
    parser.add_argument(
        "--max",
        dest="messages_max",
        metavar="N",
        type=int,
        default=None,
        help="do nothing if more than so many messages match (10000)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say which messages match, and do nothing"
    )


def wanted(args: argparse.Namespace) -> "QueueFilter":
    """The filter that was typed. Raises VerbFailed if it cannot be understood."""
    from mailshed.spool.filter import parse_filter

    given: dict[str, list[str]] = {name: list(getattr(args, _dest(name), ())) for name in _HELP}
    given["id"] += getattr(args, "ids", ())
    try:
        return parse_filter({name: values for name, values in given.items() if values})
    except RequestError as error:
        raise VerbFailed(f"--{error}", ExitCode.USAGE) from None


def request(args: argparse.Namespace, *, destination: str = "") -> "QueueRequest":
    """The action that was typed. Raises VerbFailed if something is missing or not fit."""
    from mailshed.admin.request import MESSAGES_DEFAULT, QueueRequest, check

    asked = QueueRequest(
        wanted=wanted(args),
        is_all=args.all,
        reason=args.reason.strip(),
        messages_max=MESSAGES_DEFAULT if args.messages_max is None else args.messages_max,
        is_dry_run=args.dry_run,
        destination=destination,
    )
    try:
        check(asked)
    except RequestError as error:
        raise VerbFailed(f"--{error}", ExitCode.USAGE) from None
    return asked


def _dest(name: str) -> str:
    return "filter_" + name.replace("-", "_")
