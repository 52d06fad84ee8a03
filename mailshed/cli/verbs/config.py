"""`mailshed config check|show|test|reference`: judge, print, try and explain the configuration."""

import argparse
import ssl
import sys
import time
from collections.abc import Iterator
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
        help="check, show, test or explain the configuration",
        description="Check, show, test or explain the configuration; needs no running service.",
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
    test = verbs.add_parser(
        "test",
        help="say whether the rules name the right class for each case in a file",
        description="Run cases, messages with the class that each must be of. Exits 1 if one "
        "fails. Without CASES, the shipped cases are run on the shipped policy alone.",
    )
    test.add_argument("cases", nargs="?", metavar="CASES", type=Path, help="a file of cases")
    add_config_option(test)
    test.set_defaults(run=_test)
    check.set_defaults(run=_check)
    show.set_defaults(run=_show)
    reference.set_defaults(run=_reference)


def _check(args: argparse.Namespace) -> int:
    file, config = _load(args)
    parts = (
        f"version {config.version}",
        count(len(config.listeners), "listener"),
        f"{'backends' if config.backends[1:] else 'backend'} {_names(config)}",
        count(len(config.domains), "domain"),
        f"{len(config.classes)} classes",
        count(len(config.classification.rules), "rule"),
        f"policy {config.classification.policy}",
    )
    print(f"{file}: ok ({', '.join(parts)})")
    for warning in _warnings(config):
        print(f"{file}: warning: {warning}", file=sys.stderr)
    return ExitCode.OK


def _warnings(config: "Config") -> Iterator[str]:
    """What is no fault of the file, as the service starts with it, and will be one of the service.

    A certificate that has ended is taken by clients that verify nothing; a socket may be there only
    when whoever listens on it has started, too.
    """
    from mailshed.config.certificate import date_of, load_pair

    certificate, key = config.tls.certificate, config.tls.key
    if certificate is not None and key is not None:
        ends = load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key).ends
        if ends < time.time():
            yield f"tls.certificate: {certificate} ended on {date_of(ends)}, so clients refuse it"
    asked = config.authentication.dovecot_socket
    has_logins = any(each.auth != "none" for each in config.listeners)
    if (
        has_logins
        and config.authentication.verifier == "dovecot"
        and asked
        and not _is_socket(asked)
    ):
        yield f"authentication.dovecot_socket: {asked} is no socket: until it is, nobody can log in"
    for number, backend in enumerate(config.backends):
        path = backend.socket
        if path is not None and not _is_socket(path):
            yield f"backends[{number}].socket: {path} is no socket: until it is, mail waits"


def _is_socket(path: Path) -> bool:
    """Whether there is a socket; whether we may connect to it depends on who we are."""
    try:
        return path.is_socket()
    except OSError:
        return False


def _names(config: "Config") -> str:
    return " ".join(each.name for each in config.backends)


def _test(args: argparse.Namespace) -> int:
    from mailshed.classification.classifier import Classifier
    from mailshed.cli.policy_test import failures
    from mailshed.config.cases import load_cases
    from mailshed.config.load import classification_policy, load
    from mailshed.config.shipped import CASES, policy_folder, shipped_configuration

    file = args.cases or policy_folder() / CASES
    cases = load_cases(file)
    site = config_file(args.config)
    config = load(site, has_secrets=False) if args.cases else shipped_configuration()
    classifier = Classifier(classification_policy(config))
    failed = 0
    for case in cases:
        lines = list(failures(case, classifier, config))
        if lines:
            failed += 1
            print(f"{case.origin}: FAILED: {case.section.name}")
            print("\n".join(f"    {line}" for line in lines))
    print(f"{count(len(cases), 'case')}, {failed} failed")
    return ExitCode.NO_MATCH if failed else ExitCode.OK


def _show(args: argparse.Namespace) -> int:
    from mailshed.config.render import render, render_json

    _, config = _load(args, has_secrets=False)
    if args.json:
        print(render_json(config, with_defaults=args.defaults))
    else:
        print(render(config, with_defaults=args.defaults), end="")
    return ExitCode.OK


def _reference(_args: argparse.Namespace) -> int:
    from mailshed.config.reference import reference

    print(reference(), end="")
    return ExitCode.OK


def _load(args: argparse.Namespace, *, has_secrets: bool = True) -> "tuple[Path, Config]":
    from mailshed.config.load import load

    file = config_file(args.file or args.config)
    return file, load(file, has_secrets=has_secrets)
