"""A client's identity in words of XCLIENT and XFORWARD, the extensions of Postfix.

The values come from a stranger, so nothing of theirs is sent as it is. An address is parsed and
written anew. A HELO name that is not made of what names and address literals are made of is unknown
to us; a login may be any printable text. All values are xtext, and one that is too long is left
out. So no value can end a command, make two attributes of one, or stand for another client.

Attributes that a server has once been told stay until it is told others, so every attribute that
it offers is sent each time: `[UNAVAILABLE]` where we know nothing. We do not look up names, so NAME
is always unknown. A command has 512 octets at most; what is left goes into further ones, the
address first, since a server may judge the client at each of them.

Sources: XCLIENT_README and XFORWARD_README of Postfix.

Pure.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from mailshed.mail import xtext
from mailshed.relay.backend import NOBODY, Origin
from mailshed.terms import QueueId

UNAVAILABLE = b"[UNAVAILABLE]"
COMMAND_OCTETS_MAX = 512
"""Of a command, its CRLF included (RFC 5321, 4.5.3.1.4)."""
VALUE_OCTETS_MAX = 255
"""Of a value, before it is encoded (XFORWARD_README, note 1)."""

# One attribute has to fit into a command: `XFORWARD`, a space, the name and `=`, CRLF.
_ENCODED_MAX = COMMAND_OCTETS_MAX - 32
# Host names, with the underscores of the field, and address literals.
_HELO = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")

_Attributes = Sequence[tuple[str, bytes]]


def whose_is(origin: Origin) -> Origin:
    """Who it is; NOBODY for what came from no address, as our own reports."""
    return NOBODY if _parsed(origin.address) is None else origin


def xclient_commands(origin: Origin, offered: Collection[str]) -> list[bytes]:
    """The commands that make a session the client's, with the attributes that are offered."""
    attributes = (
        ("ADDR", _address(origin)),
        ("NAME", UNAVAILABLE),
        ("PORT", UNAVAILABLE),
        ("PROTO", b"ESMTP"),
        ("HELO", _helo(origin)),
        ("LOGIN", _text(origin.login)),
        ("REVERSE_NAME", UNAVAILABLE),
    )
    return _commands(b"XCLIENT", attributes, offered)


def xforward_commands(origin: Origin, queue_id: QueueId, offered: Collection[str]) -> list[bytes]:
    """The commands that tell of whom the next message is, with the attributes that are offered.

    A message without an origin is our own, which an unknown address says.
    """
    is_ours = whose_is(origin) == NOBODY
    attributes = (
        ("ADDR", _address(origin)),
        ("NAME", UNAVAILABLE),
        ("PORT", UNAVAILABLE),
        ("PROTO", UNAVAILABLE if is_ours else b"ESMTP"),
        ("HELO", UNAVAILABLE if is_ours else _helo(origin)),
        ("IDENT", _text(queue_id)),
        ("SOURCE", b"LOCAL" if is_ours else b"REMOTE"),
    )
    return _commands(b"XFORWARD", attributes, offered)


def hello_name(origin: Origin) -> bytes:
    """The argument of EHLO after XCLIENT: what the client said, or its address if that is unfit."""
    if _HELO.fullmatch(origin.helo):
        return origin.helo.encode("ascii")
    address = _parsed(origin.address)
    if address is None:
        return b"[127.0.0.1]"
    tag = "IPv6:" if address.version == 6 else ""
    return f"[{tag}{address}]".encode("ascii")


def _commands(verb: bytes, attributes: _Attributes, offered: Collection[str]) -> list[bytes]:
    """As few commands as hold the attributes that are offered, without CRLF."""
    pairs = (b"%b=%b" % (name.encode(), value) for name, value in attributes if name in offered)
    return list(_packed(verb, pairs))


def _packed(verb: bytes, pairs: Iterable[bytes]) -> Iterable[bytes]:
    command = verb
    for pair in pairs:
        if len(command) + 1 + len(pair) + 2 > COMMAND_OCTETS_MAX:
            yield command
            command = verb
        command += b" " + pair
    if command != verb:
        yield command


def _address(origin: Origin) -> bytes:
    address = _parsed(origin.address)
    if address is None:
        return UNAVAILABLE
    return f"{'IPV6:' if address.version == 6 else ''}{address}".encode("ascii")


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address without the zone of our own network; IPv4 as such, however it came."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _helo(origin: Origin) -> bytes:
    return _text(origin.helo) if _HELO.fullmatch(origin.helo) else UNAVAILABLE


def _text(text: str) -> bytes:
    """Printable text as xtext; unavailable if it is empty, something else, or too long."""
    if not text or not text.isprintable():
        return UNAVAILABLE
    octets = text.encode()
    encoded = xtext.encode(octets)
    if len(octets) > VALUE_OCTETS_MAX or len(encoded) > _ENCODED_MAX:
        return UNAVAILABLE
    return encoded
