"""Where the verbs of the queue get their answers: from the service, or without it from the spool.

When the service is down the spool is read instead, read-only, and standard error says so: the
moment of trouble is when people ask. Patients' addresses are masked, whoever answered.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.places import ServicePlaces, find_service
from mailshed.mail.privacy import mask, mask_text

T = TypeVar("T")

Entry = dict[str, Any]


def ask_or_read(
    args: argparse.Namespace,
    ask: Callable[[Path], T],
    read: Callable[[Path], T],
    *,
    is_quiet: bool = False,
) -> T:
    """Ask the service at a socket; if it is down and we know the spool, read that and say so."""
    from mailshed.cli.client import ServiceDown

    places = find_service(args)
    try:
        return ask(places.socket)
    except ServiceDown as down:
        if places.spool is None:
            raise
        if not is_quiet:
            print(f"mailshed: {down}", file=sys.stderr)
            print(f"mailshed: reading the spool at {places.spool} instead", file=sys.stderr)
        require_readable(places.spool)
        return read(places.spool)


def require_spool(places: ServicePlaces) -> Path:
    """The spool's folder, which we can read; VerbFailed if not."""
    if places.spool is None:
        raise VerbFailed(
            "this reads the spool's folder, which only a configuration file names: give --config",
            ExitCode.CONFIG,
        )
    require_readable(places.spool)
    return places.spool


def require_readable(spool: Path) -> None:
    """Raise VerbFailed if the spool is somebody else's; whatever else is wrong, its reader says."""
    from mailshed.spool.schema import DATABASE

    try:
        with (spool / DATABASE).open("rb"):
            pass
    except PermissionError:
        raise VerbFailed(
            f"no permission for the spool at {spool}: run this as root or as the service's user",
            ExitCode.NO_PERMISSION,
        ) from None
    except OSError:
        return


def entries(document: Entry, name: str) -> list[Entry]:
    """The list of objects that an answer has under `name`."""
    found = document.get(name)
    return list(found) if isinstance(found, list) else []


def masked(message: Entry) -> Entry:
    """`message` without any patient's name in it."""
    recipients = []
    for recipient in message["recipients"]:
        address = recipient["address"]
        reply = mask_text(recipient.get("last_reply") or "", address, message["sender"])
        recipients.append({**recipient, "address": mask(address), "last_reply": reply})
    return {**message, "sender": mask(message["sender"]), "recipients": recipients}


def masked_everywhere(value: Any) -> Any:
    """A JSON document with all patients' addresses masked."""
    match value:
        case str():
            return mask_text(value)
        case list():
            return [masked_everywhere(each) for each in value]
        case dict():
            return {name: masked_everywhere(each) for name, each in value.items()}
        case _:
            return value


def print_json(document: Entry) -> None:
    """One JSON document on standard output."""
    print(json.dumps(document, indent=2))
