"""`mailshed config check|show|reference`: judge, print and explain the configuration."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.places import add_config_option, config_file
from mailshed.cli.table import count

if TYPE_CHECKING:
    from mailshed.config.schema import Config


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add `config` and what stands below it."""
    parser = subparsers.add_parser(
        "config",
        help="check, show or explain the configuration",
        description="Check, show or explain the configuration; needs no running service.",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    check = verbs.add_parser("check", help="list every fault of the file, or say that it is ok")
    show = verbs.add_parser("show", help="print what is in force and differs from the defaults")
    for each in (check, show):
        each.add_argument("file", nargs="?", metavar="FILE", type=Path, help="the same as --config")
        add_config_option(each)
    show.add_argument("--defaults", action="store_true", help="print what is as shipped, too")
    show.add_argument("--json", action="store_true", help="print one JSON document")
    reference = verbs.add_parser("reference", help="print the reference of all keys, as Markdown")
    check.set_defaults(run=_check)
    show.set_defaults(run=_show)
    reference.set_defaults(run=_reference)


def _check(args: argparse.Namespace) -> int:
    file, config = _load(args)
    parts = (
        f"version {config.version}",
        count(len(config.listeners), "listener"),
        f"backend {config.backends[0].name}",
        count(len(config.domains), "domain"),
        f"{len(config.classes)} classes",
        count(len(config.classification.rules), "rule"),
    )
    print(f"{file}: ok ({', '.join(parts)})")
    return ExitCode.OK


def _show(args: argparse.Namespace) -> int:
    from mailshed.config.render import render, render_json

    _, config = _load(args)
    if args.json:
        print(render_json(config, with_defaults=args.defaults))
    else:
        print(render(config, with_defaults=args.defaults), end="")
    return ExitCode.OK


def _reference(_args: argparse.Namespace) -> int:
    from mailshed.config.reference import reference

    print(reference(), end="")
    return ExitCode.OK


def _load(args: argparse.Namespace) -> "tuple[Path, Config]":
    from mailshed.config.load import load

    file = config_file(args.file or args.config)
    return file, load(file)
