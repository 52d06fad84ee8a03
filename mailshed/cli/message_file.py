"""A message from a file and an envelope from options: what `mailshed explain FILE` judges.

A file of a mail program or a Maildir has LF line endings and no envelope. The sender is taken from
Return-Path, else from From, the recipients from To, Cc and Bcc, unless options say otherwise; what
was taken is shown with the answer. At most the header section is looked at, never the body.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from mailshed.classification.subject import Subject
from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.errors import AddressSyntaxError
from mailshed.mail.address import Mailbox, parse_mailbox
from mailshed.mail.envelope import Client, Recipient
from mailshed.mail.header import HeaderView
from mailshed.mail.networks import NetworkSet
from mailshed.terms import ClientKind

if TYPE_CHECKING:
    from mailshed.config.schema import Config

OCTETS_MAX = 100 * 1024 * 1024
RECIPIENTS_MAX = 10_000
NULL = "<>"

_MBOX_LINE = re.compile(rb"\A>?From [^\n]*\n")
# What stands in brackets, or a whole word: a word is looked at once, however long it is.
_WORD = re.compile(r"<([^<>\s]++)>|(?<![^<>\s,;:\"()])([^<>\s,;:\"()]++)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the command line says of the session and the envelope; None or empty: see the file."""

    address: str = "127.0.0.1"
    listener: str | None = None
    user: str = ""
    is_trusted: bool | None = None
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    priority: int | None = None


def read_file(path: Path) -> bytes:
    """The message in `path` in wire form, without an mbox's first line; raises VerbFailed."""
    try:
        with path.open("rb") as file:
            raw = file.read(OCTETS_MAX + 1)
    except OSError as error:
        raise VerbFailed(f"cannot read {path}: {error.strerror}", ExitCode.IO_ERROR) from error
    if len(raw) > OCTETS_MAX:
        raise VerbFailed(f"{path} is larger than {OCTETS_MAX} octets", ExitCode.USAGE)
    message = _MBOX_LINE.sub(b"", raw, count=1)
    return message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def make_subject(wire: bytes, claims: Claims, config: "Config") -> Subject:
    """What the rules would see of this message; raises VerbFailed if a claim cannot be read."""
    header = HeaderView(wire)
    client = make_client(claims, config)
    return Subject(
        client=client,
        reverse_path=_reverse_path(claims.sender, header),
        recipients=_recipients(claims.recipients, header),
        priority=claims.priority if client.is_trusted else None,
        header=header,
        size=len(wire),
    )


def make_client(claims: Claims, config: "Config") -> Client:
    """The session that the options describe; trusted if its address or its user is."""
    names = {listener.name: listener for listener in config.listeners}
    name = config.listeners[0].name if claims.listener is None else claims.listener
    if name not in names:
        known = ", ".join(names)
        raise VerbFailed(f"no such listener: {name}; configured: {known}", ExitCode.USAGE)
    address = _ip_address(claims.address)
    is_trusted = claims.is_trusted
    if is_trusted is None:
        is_known = address in NetworkSet(config.trusted_networks)
        is_trusted = is_known or bool(claims.user)
    return Client(
        session_id="",
        listener=name,
        address=address,
        port=0,
        is_trusted=is_trusted,
        kind=ClientKind(names[name].clients),
        user=claims.user,
    )


def _ip_address(text: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise VerbFailed(f"not an IP address: {text}", ExitCode.USAGE) from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _reverse_path(claimed: str | None, header: HeaderView) -> Mailbox | None:
    if claimed is not None:
        return None if claimed in {"", NULL} else _mailbox(claimed)
    for name in ("return-path", "from"):
        for value in header.values(name)[:1]:
            if name == "return-path" and value == NULL:
                return None
            for found in _addresses(value):
                return found
    raise VerbFailed(
        "the message names no sender; say --from ADDRESS, or --from '<>' for a report",
        ExitCode.USAGE,
    )


def _recipients(claimed: tuple[str, ...], header: HeaderView) -> tuple[Recipient, ...]:
    boxes = [_mailbox(each) for each in claimed]
    if not boxes:
        values = [value for name in ("to", "cc", "bcc") for value in header.values(name)]
        boxes = [box for value in values for box in _addresses(value)][:RECIPIENTS_MAX]
    if not boxes:
        raise VerbFailed("the message names no recipient; say --rcpt ADDRESS", ExitCode.USAGE)
    return tuple(Recipient(mailbox=box) for box in boxes)


def _addresses(value: str) -> list[Mailbox]:
    """What looks like addresses in the value of an address field, and is."""
    found = []
    for match in _WORD.finditer(value):
        try:
            found.append(parse_mailbox(match[1] or match[2]))
        except AddressSyntaxError:
            continue
    return found


def _mailbox(text: str) -> Mailbox:
    bare = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    try:
        return parse_mailbox(bare, is_utf8=True)
    except AddressSyntaxError as error:
        raise VerbFailed(f"{text}: {error}", ExitCode.USAGE) from None
