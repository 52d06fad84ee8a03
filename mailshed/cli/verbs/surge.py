"""`mailshed surge`: how much mail comes against the usual, and saying that it is usual now."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.places import add_service_options, find_service
from mailshed.cli.table import Column, Table, format_age

Entry = dict[str, Any]

TIMEOUT = 60.0
"""Seconds; the service promises an answer within the sum of its deadlines, which is less."""


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add `surge` and what stands below it."""
    parser = subparsers.add_parser(
        "surge",
        help="show how much mail is unusual, or take it as usual",
        description="Compare the last half hour with what is usual at this hour of the week, by"
        " class and network, or take the level of a surge as usual.",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    showing = verbs.add_parser(
        "list",
        help="all that has mail; exits 1 if there is no surge",
        description="One line for each class, and for each network that it comes from. Exits 1 if"
        " there is no surge.",
    )
    add_service_options(showing)
    showing.set_defaults(run=show)
    adopting = verbs.add_parser(
        "adopt",
        help="take the level of a surge as usual from now on",
        description="Take the level of a class's surge, and of its networks', as usual for all"
        " hours of the week, from now on. Meant for a level that stays, not for one busy hour. A"
        " surge that lasts two weeks becomes usual by itself, by a tenth a week.",
    )
    adopting.add_argument("name", metavar="CLASS", help="the class, as the list names it")
    adopting.add_argument(
        "--reason", metavar="TEXT", required=True, help="why, for the audit log and for others"
    )
    add_service_options(adopting)
    adopting.set_defaults(run=adopt)


def show(args: argparse.Namespace) -> int:
    """Print what comes against the usual."""
    from mailshed.cli.client import get

    status = get(find_service(args).socket, "/v1/status")
    surges: list[Entry] = status.get("surges", [])
    if args.json:
        _print_json({"schema": "mailshed.surges/1", "surges": surges})
    elif surges:
        print("\n".join(_lines(surges)))
    else:
        print("surges are not watched: surge.enabled is false")
    return ExitCode.OK if any(each["is_alarm"] for each in surges) else ExitCode.NO_MATCH


def adopt(args: argparse.Namespace) -> int:
    """Have the service take a surge as usual."""
    from mailshed.cli.client import ServiceDown, post

    document = {"class": args.name, "reason": args.reason}
    try:
        answer = post(find_service(args).socket, "/v1/surges/adopt", document, TIMEOUT)
    except ServiceDown as down:
        raise VerbFailed(
            f"{down}\nmailshed: what is usual is the service's to say: start it first"
            " (`systemctl start mailshed`)",
            ExitCode.UNAVAILABLE,
        ) from None
    if args.json:
        _print_json(answer)
    else:
        for each in answer["adopted"]:
            where = f" from {each['network']}" if each["network"] else ""
            print(f"{answer['class']}{where}: usual is {each['factor']:.2f} times what it was")
    if answer.get("is_noted") is False:
        print(
            "mailshed: the audit log has only that it was asked for, since it could not be written"
            " afterwards; see the log",
            file=sys.stderr,
        )
    return ExitCode.OK


def _lines(surges: list[Entry]) -> Iterator[str]:
    """The classes, each followed by its networks that have mail."""
    table = Table(
        (
            Column("CLASS", 20),
            Column("NETWORK", 20),
            Column("LAST 30 MIN", 11, is_number=True),
            Column("OF USUAL", 8, is_number=True),
            Column("SURGE", 20),
        )
    )
    for whole in surges:
        if whole["network"]:
            continue
        table.add(whole["traffic_class"], "", *_cells(whole))
        for part in surges:
            is_of_it = part["network"] and part["traffic_class"] == whole["traffic_class"]
            if is_of_it and (part["messages"] or part["is_alarm"]):
                table.add("", part["network"], *_cells(part))
    yield from table.lines()


def _cells(surge: Entry) -> tuple[str, str, str]:
    ratio = "?" if surge["ratio"] is None else f"{surge['ratio']:.1f}x"
    if surge["is_alarm"]:
        state = f"for {format_age(round(surge['alarm_seconds']))}"
    else:
        state = "in the last days" if surge["is_crisis"] else "-"
    return f"{surge['messages']:,}", ratio, state


def _print_json(document: Entry) -> None:
    import json

    print(json.dumps(document, indent=2))
