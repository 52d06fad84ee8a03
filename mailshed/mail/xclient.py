"""What a trusted proxy says with XCLIENT of the client whose connection it passes on.

NAME, ADDR, PORT, PROTO, HELO, LOGIN, DESTADDR and DESTPORT, each with `=` and its value, any of
them, in any order, once at most; and REVERSE_NAME, which Postfix has and does not write of. A value
is xtext; `[UNAVAILABLE]` and `[TEMPUNAVAIL]` stand for what the proxy does not know. What is not
said stays what it was.

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

ATTRIBUTES = (
    *("NAME", "REVERSE_NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"),
)
"""Those that we know, in the order in which they are offered."""

VALUE_MAX = 255
"""Octets of a value when it is decoded, as Postfix has it."""

_UNKNOWN = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_ADDRESS = re.compile(r"IPV6:(?P<v6>[0-9A-F:.]*:[0-9A-F:.]*)|(?P<v4>[0-9.]+)", re.IGNORECASE)
_PORT = re.compile(r"[0-9]{1,5}")
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
        values[keyword] = text = _value(keyword, encoded)
        if text is not None and not _is_one(keyword, text):
            raise AddressSyntaxError(f"{keyword} is {_FORMS[keyword]}")
    address, port = values.get("ADDR"), values.get("PORT")
    return Introduction(
        told=frozenset(values),
        address=None if address is None else _address(address),
        port=None if port is None else int(port),
        login=values.get("LOGIN"),
    )


_FORMS = {
    "NAME": "a host name",
    "REVERSE_NAME": "a host name",
    "ADDR": "an IPv4 address, or IPV6: and an address",
    "PORT": "a number up to 65535",
    "PROTO": "SMTP or ESMTP",
    "HELO": "what follows HELO or EHLO",
    "LOGIN": "a name",
    "DESTADDR": "an IPv4 address, or IPV6: and an address",
    "DESTPORT": "a number up to 65535",
}


def _value(name: str, encoded: bytes) -> str | None:
    """What the value stands for; None if the proxy does not know it."""
    decoded = decode_xtext(encoded) or b""
    try:
        text = decoded.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable() or len(decoded) > VALUE_MAX:
        raise AddressSyntaxError(f"{name} has no value in xtext")
    return None if text.upper() in _UNKNOWN else text


def _is_one(name: str, text: str) -> bool:
    """Whether the value is of the form that the attribute has."""
    match name:
        case "ADDR" | "DESTADDR":
            return _address(text) is not None
        case "PORT" | "DESTPORT":
            return _PORT.fullmatch(text) is not None and int(text) <= 0xFFFF
        case "PROTO":
            return text.upper() in ("SMTP", "ESMTP")
        case "NAME" | "REVERSE_NAME":
            return _NAME.fullmatch(text) is not None
        case "HELO":
            return text.isascii() and " " not in text
        case _:
            return True


def _address(text: str) -> Address | None:
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    try:
        return normal_address(match["v6"] or match["v4"])
    except ValueError:
        return None
