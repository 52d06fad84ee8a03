"""`mailshed shed`: how much is shed now, and forcing it for a time."""

import argparse
from typing import Any

from mailshed.cli import overriding
from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.places import add_service_options, find_service

LEVELS = (
    "0 nothing is shed, 1 bulk mail is slowed, 2 bulk mail waits, 3 mail of telework and"
    " applications waits too, 4 all but clinical and continuity mail waits"
)


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add `shed` and what stands below it."""
    parser = subparsers.add_parser(
        "shed",
        help="show or force how much is shed",
        description=f"Show or force the shed level: {LEVELS} (as shipped). Clinical mail is never"
        " shed at any level.",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    showing = verbs.add_parser("status", help="the level, and whether it is forced")
    add_service_options(showing)
    showing.set_defaults(run=show)
    forcing = verbs.add_parser(
        "level",
        help="force a level for a time",
        description=f"Force exactly this level, whatever the load: {LEVELS} (as shipped).",
    )
    forcing.add_argument("level", metavar="N", type=int, help="0 to 4")
    overriding.add_change_options(forcing)
    forcing.set_defaults(run=force)
    ending = verbs.add_parser("auto", help="end a forced level: the load decides again")
    overriding.add_change_options(ending, has_end=False)
    ending.set_defaults(run=auto)


def show(args: argparse.Namespace) -> int:
    """Print the level and what forces it."""
    from mailshed.cli.client import get

    status = get(find_service(args).socket, "/v1/status")
    forced = _forced(status)
    derived, is_observing = status.get("derived_level", 0), status.get("is_observing", False)
    level = derived if forced is None else forced["value"]
    if args.json:
        overriding.print_json(
            {
                "schema": "mailshed.shed/1",
                "level": level,
                "derived_level": derived,
                "is_observing": is_observing,
                "override": forced,
            }
        )
        return ExitCode.OK
    why = "by the load" if forced is None else f"forced; by the load it would be {derived}"
    print(f"level {level} of 4, {why}")
    if kept := [each["name"] for each in status.get("classes", ()) if each.get("kept_back")]:
        print(f"new mail waits in the spool: {', '.join(kept)}")
    if forced is not None:
        print("\n".join(overriding.listing([forced])))
    if is_observing:
        print("the service observes: no level acts on anything")
    return ExitCode.OK


def force(args: argparse.Namespace) -> int:
    """Force a level."""
    return overriding.make(args, overriding.wish(args, "level", value=args.level))


def auto(args: argparse.Namespace) -> int:
    """End the forced level, if there is one."""
    forced = _forced(overriding.in_force(find_service(args).socket))
    if forced is None:
        print("no level is forced: the load decides already")
        return ExitCode.NO_MATCH
    return overriding.cancel(args, forced["id"])


def _forced(document: overriding.Entry) -> overriding.Entry | None:
    overrides = document.get("overrides", ())
    return next((each for each in overrides if each["kind"] == "level"), None)
