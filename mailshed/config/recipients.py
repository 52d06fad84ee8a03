"""Reads the file of recipients that the configuration names (`verification.recipients_file`).

What is in it belongs to `mail.recipient_list`; here is what can go wrong before: no such file, no
permission, not text. Every fault is one line that names the file, so that it can stand in the list
of the configuration's own faults.
"""

from pathlib import Path

from mailshed.mail.recipient_list import RecipientList, parse_recipients

OCTETS_MAX = 64 * 1024**2
"""Octets of such a file: some two million addresses, and a list of a hospital has thousands."""


def read_recipients(path: Path) -> tuple[RecipientList | None, list[str]]:
    """Read the list, and say all that is wrong with it; None if it cannot be read at all."""
    try:
        with path.open("rb") as file:
            octets = file.read(OCTETS_MAX + 1)
    except OSError as error:
        return None, [f"cannot read {path}: {error.strerror}"]
    if len(octets) > OCTETS_MAX:
        return None, [f"{path} is larger than {OCTETS_MAX // 1024**2} MiB"]
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        return None, [f"{path}:{line}: not UTF-8"]
    recipients, faults = parse_recipients(text)
    return recipients, [f"{path}:{number}: {fault}" for number, fault in faults]
