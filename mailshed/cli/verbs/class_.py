"""`mailshed class`: the traffic classes, and exceptions from their rules for a time."""

import argparse
from collections.abc import Iterator
from typing import Any

from mailshed.admin.screen import override_words
from mailshed.cli import overriding
from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.overriding import Entry
from mailshed.cli.places import add_service_options, find_service
from mailshed.cli.table import Column, Table

_STATES = {"hold": "held", "limit": "limited", "release": "released"}
_NO_UNDOING = "A hold is not ended by it, but by `mailshed override cancel`."
_MORE = (
    "The override ends by itself, by `mailshed override cancel`, or when the class leaves the"
    " configuration; it survives a restart."
)


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add `class` and what stands below it."""
    parser = subparsers.add_parser(
        "class",
        help="show traffic classes; hold, limit or release one for a time",
        description="Show the traffic classes, or make an exception from the rules of one for a"
        " time. Clinical classes (rank 0) are never held or limited.",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    showing = verbs.add_parser(
        "list",
        help="each class: its rank, its state, its mail",
        description="Each class, its mail and its state: normal; held, limited or released, by an"
        " override of its own; shed, by a forced level; diverted, by the load: its new mail is"
        " spooled at once; lost: the configuration does not have it any more.",
    )
    add_service_options(showing)
    showing.set_defaults(run=show)
    for kind, text in (
        ("hold", "keep its mail in the spool: it is accepted, and none of it is delivered"),
        ("limit", "give its mail, new and spooled, so many slots of the backend at most"),
        (
            "release",
            "let nothing but a lack of slots keep its mail back: no divert, quota or forced level",
        ),
    ):
        more = f"{_NO_UNDOING} {_MORE}" if kind == "release" else _MORE
        acting = verbs.add_parser(kind, help=text, description=f"{_sentence(text)} {more}")
        acting.add_argument("name", metavar="CLASS", help="the class, as `class list` names it")
        if kind == "limit":
            acting.add_argument(
                "--slots", metavar="N", type=int, required=True, help="so many at most"
            )
        overriding.add_change_options(acting)
        acting.set_defaults(run=act, kind=kind)


def show(args: argparse.Namespace) -> int:
    """Print the classes."""
    from mailshed.cli.client import get

    status = get(find_service(args).socket, "/v1/status")
    classes = [_entry(each, status) for each in status.get("classes", ())]
    if args.json:
        overriding.print_json(
            {
                "schema": "mailshed.classes/1",
                "is_observing": status.get("is_observing", False),
                "classes": classes,
            }
        )
    else:
        print("\n".join(_lines(classes)))
        if status.get("is_observing"):
            print("the service observes: overrides are shown, and act on nothing")
    return ExitCode.OK


def act(args: argparse.Namespace) -> int:
    """Make an exception."""
    value = getattr(args, "slots", 0)
    return overriding.make(args, overriding.wish(args, args.kind, args.name, value))


def _entry(row: Entry, status: Entry) -> Entry:
    overrides = [
        each for each in status.get("overrides", ()) if each["traffic_class"] == row["name"]
    ]
    return {
        "name": row["name"],
        "rank": row["rank"],
        "state": _state(row, overrides),
        "queued_messages": row.get("queued_messages", 0),
        "in_flight": row.get("in_flight", 0),
        "in_flight_limit": row.get("in_flight_limit", 0),
        "is_configured": row.get("is_configured", True),
        "overrides": overrides,
    }


def _state(row: Entry, overrides: list[Entry]) -> str:
    """The strongest of what keeps its mail back."""
    kinds = {each["kind"] for each in overrides}
    for kind in ("hold", "release", "limit"):
        if kind in kinds:
            return _STATES[kind]
    if not row.get("is_configured", True):
        return "lost"
    # Neither held nor limited itself: then it is a forced level that keeps it back.
    return {"diverted": "diverted", "override": "shed"}.get(row.get("kept_back", ""), "normal")


def _lines(classes: list[Entry]) -> Iterator[str]:
    table = Table(
        (
            Column("CLASS", 20),
            Column("RANK", 4, is_number=True),
            Column("STATE", 9),
            Column("QUEUED", 9, is_number=True),
            Column("IN FLIGHT", 9, is_number=True),
            Column("STARTS BELOW", 12, is_number=True),
        )
    )
    for each in classes:
        table.add(
            each["name"],
            each["rank"],
            each["state"],
            f"{each['queued_messages']:,}",
            each["in_flight"],
            each["in_flight_limit"],
        )
    title, *rows = table.lines()
    yield title
    for row, each in zip(rows, classes, strict=True):
        yield row
        for override in each["overrides"]:
            what = f"{override_words(override)} until {overriding.until(override)}"
            yield f"    override {override['id']}: {what}"
            yield f"        {override['user']}: {override['reason']}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
