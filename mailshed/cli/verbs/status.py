"""`mailshed status`: one screen that says how the service is and what limits it."""

import argparse
import shutil
import sys
from typing import Any

from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.places import add_service_options, find_service


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add `status`."""
    parser = subparsers.add_parser(
        "status",
        help="show how the service is",
        description="Show on one screen how the service is. Exits 69 if it is not running.",
    )
    add_service_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask the service and print its answer, as a screen or as JSON."""
    from mailshed.cli.client import get

    status = get(find_service(args).socket, "/v1/status")
    if args.json:
        import json

        print(json.dumps(status, indent=2))
    else:
        from mailshed.admin.screen import render

        print(render(status, _width()))
    return ExitCode.OK


def _width() -> int | None:
    """The columns of the terminal; None if we do not write to one, so nothing need be cut."""
    if not sys.stdout.isatty():
        return None
    from mailshed.admin.screen import COLUMNS

    return max(COLUMNS, shutil.get_terminal_size().columns)
