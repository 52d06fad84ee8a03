"""What a trusted proxy says with XCLIENT of the client whose connection it passes on.

`NAME=... ADDR=... PORT=... PROTO=... HELO=... LOGIN=... DESTADDR=... DESTPORT=...`, any of them, in
any order, each once at most. A value is xtext; `[UNAVAILABLE]` and `[TEMPUNAVAIL]` stand for what
the proxy does not know. What is not said stays what it was.

All of it is read strictly, since it decides what the client may do: an attribute that we do not
know, or a value that is none, is a fault of the whole command. ADDR, PORT and LOGIN count here; the
others have to be well formed, and nothing follows from them: we look up no names, and the client's
own EHLO is to come.

Source: Postfix's XCLIENT_README. Pure.
"""

import re
from dataclasses import dataclass

from mailshed.errors import AddressSyntaxError
from mailshed.mail.networks import Address, normal_address
from mailshed.mail.parameters import decode_xtext

ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
"""Those that we know, in the order in which they are offered."""

VALUE_MAX = 255
"""Octets of a value when it is decoded, as Postfix has it."""

_UNKNOWN = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_ADDRESS = re.compile(r"(?:(?P<v6>IPV6:)[0-9A-F:.]{2,45}|[0-9.]{7,15})", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """Who the client is. Of what is in `told`, None is what the proxy does not know."""

    told: frozenset[str]
    """Names of the attributes that were given."""
    address: Address | None = None
    port: int | None = None
    login: str | None = None


def parse_xclient(argument: bytes) -> Introduction:
    """Read what follows XCLIENT; raises AddressSyntaxError, whose text names no value."""
    values: dict[str, str | None] = {}
    for attribute in argument.split(b" "):
        name, _, encoded = attribute.partition(b"=")
        keyword = name.upper().decode("ascii", "replace")
        if keyword not in ATTRIBUTES:
            raise AddressSyntaxError(f"XCLIENT takes {', '.join(ATTRIBUTES)}")
        if keyword in values:
            raise AddressSyntaxError(f"{keyword} is given twice")
        values[keyword] = _value(keyword, encoded)
    return Introduction(
        told=frozenset(values),
        address=_address(values.get("ADDR"), "ADDR"),
        port=_port(values.get("PORT"), "PORT"),
        login=values.get("LOGIN"),
    )


def _value(name: str, encoded: bytes) -> str | None:
    """The decoded value, checked; None if the proxy does not know it."""
    decoded = decode_xtext(encoded)
    try:
        text = decoded.decode("utf-8") if decoded is not None else ""
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable() or len(decoded or b"") > VALUE_MAX:
        raise AddressSyntaxError(f"{name} has no value in xtext")
    if text.upper() in _UNKNOWN:
        return None
    match name:
        case "ADDR" | "DESTADDR":
            _address(text, name)
        case "PORT" | "DESTPORT":
            _port(text, name)
        case "PROTO":
            if text.upper() not in ("SMTP", "ESMTP"):
                raise AddressSyntaxError("PROTO is SMTP or ESMTP")
        case "NAME":
            if not _NAME.fullmatch(text):
                raise AddressSyntaxError("NAME is no host name")
        case "HELO":
            if " " in text or not text.isascii():
                raise AddressSyntaxError("HELO is no name")
    return text


def _address(text: str | None, name: str) -> Address | None:
    if text is None:
        return None
    match = _ADDRESS.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        return normal_address(text[len(match["v6"] or "") :])
    except ValueError:
        raise AddressSyntaxError(f"{name} is no address: IPv4, or IPV6: and the address") from None


def _port(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 0xFFFF):
        raise AddressSyntaxError(f"{name} is no port")
    return int(text)
