"""Strict parser for the arguments of MAIL and RCPT (RFC 5321, 4.1.2; limits of 4.5.3.1).

What is accepted is kept byte for byte; nothing is unquoted, folded, decoded or lower-cased, since
two programs that disagree about an address is how mail reaches the wrong mailbox. Three freedoms
are granted because real clients take them: white space around the path, a source route, which
RFC 5321, 4.1.1.3 tells us to drop, and an underscore inside a domain label, as Windows names have.

Everything is anchored regular expressions over bytes. Runs of characters are possessive and no two
alternatives begin alike, so a match never tries the same octets in another way: time is linear.

Non-ASCII addresses (RFC 6531) are told apart from wrong ones, so that the refusal can say why.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from mailshed.errors import AddressSyntaxError

LOCAL_PART_OCTETS_MAX = 64
DOMAIN_OCTETS_MAX = 255  # never reached by an address, whose path is shorter
PATH_OCTETS_MAX = 254  # RFC 5321, 4.5.3.1.3, erratum 1690: 256 with the angle brackets

_ATOM = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]++"
_QUOTED = rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]++|\\[\x20-\x7e])*"'
_LABEL = rb"[A-Za-z0-9]++(?:[_-]++[A-Za-z0-9]++)*"
_DOMAIN = _LABEL + rb"(?:\." + _LABEL + rb")*"
_LITERAL = rb"\[(?:[0-9.]{7,15}|IPv6:[0-9A-Fa-f:.]{2,45})\]"
_LOCAL = rb"(?:" + _ATOM + rb"(?:\." + _ATOM + rb")*|" + _QUOTED + rb")"
_ROUTE = rb"(?:@" + _DOMAIN + rb"(?:,@" + _DOMAIN + rb")*:)?"
_PATH = re.compile(
    rb"<"
    + _ROUTE
    + rb"(?P<local>"
    + _LOCAL
    + rb")@(?P<domain>"
    + _DOMAIN
    + rb"|"
    + _LITERAL
    + rb")>",
    re.IGNORECASE,
)
_POSTMASTER = re.compile(rb"<postmaster>", re.IGNORECASE)
# RFC 5321, 4.1.2: esmtp-keyword ["=" esmtp-value]; the value excludes '=', space and controls.
# Real ENVID and ORCPT values are xtext, which may not hold '=' either (RFC 3461, 4).
_PARAMETER = rb"[A-Za-z0-9][A-Za-z0-9-]*+(?:=[\x21-\x3c\x3e-\x7e]++)?"
_PARAMETERS = re.compile(rb"(?:[ \t]++" + _PARAMETER + rb")*[ \t]*")
# From '<' to the '>' that closes it; quoted strings may hold '>' and spaces.
_BRACKETED = re.compile(rb'<(?:[^">]++|"(?:[^"\\]++|\\.)*")*>', re.DOTALL)
_ROUTING = re.compile(rb"[%!@:]")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox as the client wrote it: `raw` is `local@domain`, or `Postmaster` alone."""

    raw: bytes
    domain: str
    """Lower case; empty for the bare `Postmaster` of RFC 5321, 4.1.1.3."""

    def __str__(self) -> str:
        return self.raw.decode("ascii")

    @property
    def is_routed(self) -> bool:
        """Whether the local part asks a server to route on (`user%elsewhere@here`, `a!b@here`).

        Many servers still rewrite such addresses, so a stranger could relay through a backend
        that trusts us.
        """
        if not self.domain:
            return False
        local = self.raw[: -len(self.domain) - 1]
        return _ROUTING.search(local) is not None


@dataclass(frozen=True, slots=True)
class PathArgument:
    """The argument of MAIL or RCPT: a mailbox (None for `<>`) and the parameters as they came."""

    mailbox: Mailbox | None
    parameters: tuple[bytes, ...]


def parse_mail_argument(argument: bytes) -> PathArgument:
    """Parse what follows the verb MAIL: `FROM:<reverse-path> [parameters]`.

    Raises AddressSyntaxError with a text that may be sent to the client.
    """
    path, parameters = _split(argument, b"FROM:")
    if path == b"<>":
        return PathArgument(None, parameters)
    return PathArgument(_parse_path(path), parameters)


def parse_rcpt_argument(argument: bytes) -> PathArgument:
    """Parse what follows the verb RCPT: `TO:<forward-path> [parameters]`; never the null path."""
    path, parameters = _split(argument, b"TO:")
    if _POSTMASTER.fullmatch(path):
        return PathArgument(Mailbox(path[1:-1], ""), parameters)
    return PathArgument(_parse_path(path), parameters)


def parse_mailbox(text: str) -> Mailbox:
    """Parse a bare `local@domain`, as configuration and command line have it: no route."""
    if text.startswith("@"):
        raise AddressSyntaxError("malformed address")
    return _parse_path(b"<" + text.encode("utf-8", "surrogateescape") + b">")


def is_non_ascii(argument: bytes) -> bool:
    """Whether a path was refused for RFC 6531 reasons rather than for its grammar."""
    return not argument.isascii()


def _split(argument: bytes, keyword: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    if argument[: len(keyword)].upper() != keyword:
        raise AddressSyntaxError(f"expected {keyword.decode()}<address>")
    rest = argument[len(keyword) :].strip(b" \t")
    end = _path_end(rest)
    path, tail = rest[:end], rest[end:]
    if tail and tail[:1] not in b" \t":
        raise AddressSyntaxError("expected a space after the address")
    if not _PARAMETERS.fullmatch(tail):
        raise AddressSyntaxError("malformed parameter")
    return path, tuple(tail.split())


def _path_end(text: bytes) -> int:
    """Index after the '>' that closes the path."""
    if not text.startswith(b"<"):
        raise AddressSyntaxError("the address must stand in <>")
    match = _BRACKETED.match(text, 0, PATH_OCTETS_MAX + 2)
    if match is None:
        if len(text) > PATH_OCTETS_MAX + 2:
            raise AddressSyntaxError("address too long")
        raise AddressSyntaxError("the address has no closing >")
    return match.end()


def _parse_path(path: bytes) -> Mailbox:
    if len(path) > PATH_OCTETS_MAX + 2:
        raise AddressSyntaxError("address too long")
    match = _PATH.fullmatch(path)
    if match is None:
        raise AddressSyntaxError("malformed address")
    local, domain = match["local"], match["domain"]
    if len(local) > LOCAL_PART_OCTETS_MAX:
        raise AddressSyntaxError("local part too long")
    if domain.startswith(b"["):
        _check_literal(domain[1:-1].decode("ascii"))
    return Mailbox(local + b"@" + domain, domain.decode("ascii").lower())


def _check_literal(text: str) -> None:
    """Refuse an address literal that is none, `0127.0.0.1` too: some would read it as octal."""
    is_v6 = text[:5].upper() == "IPV6:"
    try:
        IPv6Address(text[5:]) if is_v6 else IPv4Address(text)
    except AddressValueError:
        raise AddressSyntaxError("malformed address literal") from None
