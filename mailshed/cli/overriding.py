"""What the verbs `shed`, `class` and `override` share: their options, their answers, their words.

Times are shown by the clock on the wall of whoever reads them, in the local time zone; the JSON
form has Unix times and seconds.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailshed.admin.screen import override_words
from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.places import add_service_options, find_service
from mailshed.cli.table import Column, Table, format_age
from mailshed.errors import RequestError

if TYPE_CHECKING:
    from mailshed.control.overrides import Wish

Entry = dict[str, Any]

TIMEOUT = 45.0
"""Seconds; the service promises an answer within the sum of its deadlines, which is less."""
OBSERVING = (
    "the service is in mode observe: this is kept and shown, and acts on nothing until mode is"
    " enforce"
)
# Errors about these begin with the name of the option.
_OPTIONS = ("for:", "reason:", "slots:")


def add_change_options(parser: argparse.ArgumentParser, *, has_end: bool = True) -> None:
    """Add what every change needs: why, and unless something is ended, for how long."""
    if has_end:
        parser.add_argument(
            "--for",
            dest="seconds",
            metavar="TIME",
            type=_seconds,
            default=None,
            help="how long: 90s, 30m, 4h, up to 7d; then it ends by itself (2h)",
        )
    parser.add_argument(
        "--reason", metavar="TEXT", required=True, help="why, for the audit log and for others"
    )
    add_service_options(parser)


def wish(args: argparse.Namespace, kind: str, traffic_class: str = "", value: int = 0) -> "Wish":
    """What was typed. Raises VerbFailed if it makes no sense."""
    from mailshed.control.overrides import SECONDS_DEFAULT, OverrideKind, Wish, check

    made = Wish(
        kind=OverrideKind(kind),
        traffic_class=traffic_class,
        value=value,
        seconds=SECONDS_DEFAULT if args.seconds is None else args.seconds,
        reason=args.reason.strip(),
    )
    try:
        check(made)
    except RequestError as error:
        raise VerbFailed(_dashed(str(error)), ExitCode.USAGE) from None
    return made


def make(args: argparse.Namespace, made: "Wish") -> int:
    """Ask the service for an override, and say what it has done."""
    document = {
        "kind": made.kind.value,
        "class": made.traffic_class,
        "value": made.value,
        "seconds": made.seconds,
        "reason": made.reason,
    }
    answer = _post(args, "/v1/overrides", document)
    override: Entry = answer["override"]
    number = override["id"]
    lines = [f"override {number}: {describe(override)}, until {until(override)}"]
    if answer.get("replaced"):
        lines.append(f"it replaces override {answer['replaced']}")
    lines.append(f"to end it before: mailshed override cancel {number} --reason TEXT")
    _tell(args, answer, lines)
    return ExitCode.OK


def cancel(args: argparse.Namespace, number: int) -> int:
    """Have the service end an override, and say so."""
    answer = _post(args, "/v1/overrides/cancel", {"id": number, "reason": args.reason.strip()})
    ended: Entry = answer["cancelled"]
    _tell(args, answer, [f"override {number} is ended: {override_words(ended)} ({ended['user']})"])
    return ExitCode.OK


def in_force(socket: Path) -> Entry:
    """The service's list."""
    from mailshed.cli.client import get

    return get(socket, "/v1/overrides")


def describe(override: Entry) -> str:
    """What it does."""
    name, value = override["traffic_class"], override["value"]
    match override["kind"]:
        case "level" if value == 0:
            return "the shed level is 0, whatever the load: no class is kept back"
        case "level":
            return f"the shed level is {value}, whatever the load"
        case "hold":
            return f"mail of class {name} is accepted and stays in the spool"
        case "limit":
            slots = "slot" if value == 1 else "slots"
            return f"mail of class {name} has {value} {slots} of the backend at most"
        case "release":
            return f"mail of class {name} is not kept back by load, quotas or a forced level"
        case kind:
            return f"{kind} {name} {value}"


def until(override: Entry) -> str:
    """When it ends: `11:00 (in 1h59m)`, with the date if that is not today."""
    end = time.localtime(override["until_wall"])
    day = "" if end[:3] == time.localtime()[:3] else f"{time.strftime('%Y-%m-%d', end)} "
    left = format_age(round(override["left_seconds"]))
    return f"{day}{time.strftime('%H:%M', end)} (in {left})"


def listing(overrides: Iterable[Entry]) -> Iterator[str]:
    """One line for each, under titles, with who and why below it."""
    table = Table((Column("ID", 6, is_number=True), Column("WHAT", 30), Column("UNTIL", 30)))
    made = list(overrides)
    for each in made:
        table.add(each["id"], override_words(each), until(each))
    title, *rows = table.lines()
    if rows:
        yield title
    for row, each in zip(rows, made, strict=True):
        yield row
        yield f"        {each['user']}: {each['reason']}"


def print_json(document: Entry) -> None:
    """One JSON document on standard output."""
    import json

    print(json.dumps(document, indent=2))


def _post(args: argparse.Namespace, target: str, document: Entry) -> Entry:
    from mailshed.cli.client import ServiceDown, post

    try:
        return post(find_service(args).socket, target, document, TIMEOUT)
    except ServiceDown as down:
        raise VerbFailed(
            f"{down}\nmailshed: overrides are the service's: start it first"
            " (`systemctl start mailshed`)",
            ExitCode.UNAVAILABLE,
        ) from None


def _tell(args: argparse.Namespace, answer: Entry, lines: Iterable[str]) -> None:
    if args.json:
        print_json(answer)
    else:
        print("\n".join(lines))
    if answer.get("is_observing"):
        print(f"mailshed: {OBSERVING}", file=sys.stderr)
    if answer.get("is_noted") is False:
        print(
            "mailshed: the audit log has only that it was asked for, since it could not be written"
            " afterwards; see the log",
            file=sys.stderr,
        )


def _seconds(text: str) -> float:
    from mailshed.config.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; not {text!r}") from None


def _dashed(text: str) -> str:
    return f"--{text}" if text.startswith(_OPTIONS) else text
