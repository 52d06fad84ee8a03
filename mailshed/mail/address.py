"""Strict parser for the arguments of MAIL and RCPT (RFC 5321, 4.1.2; limits of 4.5.3.1).

What is accepted is kept byte for byte; nothing is unquoted, folded, decoded or lower-cased, since
two programs that disagree about an address is how mail reaches the wrong mailbox. Three freedoms
are granted because real clients take them: white space around the path, a source route, which
RFC 5321, 4.1.1.3 tells us to drop, and an underscore inside a domain label, as Windows names have.

Everything is anchored regular expressions over bytes. Runs of characters are possessive and no two
alternatives begin alike, so a match never tries the same octets in another way: time is linear.

Addresses of other scripts (RFC 6531) are parsed only for who asks for them (`is_utf8`); otherwise
they are told apart from wrong ones, so that the refusal can say why. Their octets must be strict
UTF-8 without the controls of Unicode and without what ends a line or a label somewhere else. A
domain of such an address is compared in its A-label form (`xn--...`), which is how configuration
and DNS write it, but only if the way back leads to the same name: the codec of the standard library
(IDNA 2003) takes `straße` for `strasse`, which today are two domains, and whoever owns the one must
not become us for the other. A name that does not survive is compared as it is written, and so is
in nobody's list.
"""

import re
import unicodedata
from encodings.idna import nameprep
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from mailshed.errors import AddressSyntaxError
from mailshed.values import value

LOCAL_PART_OCTETS_MAX = 64
DOMAIN_OCTETS_MAX = 255  # never reached by an address, whose path is shorter
PATH_OCTETS_MAX = 254  # RFC 5321, 4.5.3.1.3, erratum 1690: 256 with the angle brackets

_ATOM = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]++"
_QUOTED = rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]++|\\[\x20-\x7e])*"'
_LABEL = rb"[A-Za-z0-9]++(?:[_-]++[A-Za-z0-9]++)*"
_DOMAIN = _LABEL + rb"(?:\." + _LABEL + rb")*"
_LITERAL = rb"\[(?:[0-9.]{7,15}|IPv6:[0-9A-Fa-f:.]{2,45})\]"


def _path_pattern(atom: bytes, quoted: bytes, domain: bytes) -> re.Pattern[bytes]:
    local = rb"(?:" + atom + rb"(?:\." + atom + rb")*|" + quoted + rb")"
    route = rb"(?:@" + domain + rb"(?:,@" + domain + rb")*:)?"
    return re.compile(
        rb"<" + route + rb"(?P<local>" + local + rb")"
        rb"@(?P<domain>" + domain + rb"|" + _LITERAL + rb")>",
        re.IGNORECASE,
    )


_PATH = _path_pattern(_ATOM, _QUOTED, _DOMAIN)
# RFC 6531, 3.3: the same grammar, in which UTF-8 may stand wherever a letter may. That the octets
# are UTF-8 is looked at apart.
_UTF8_LABEL = rb"[A-Za-z0-9\x80-\xff]++(?:[_-]++[A-Za-z0-9\x80-\xff]++)*"
_UTF8_PATH = _path_pattern(
    rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]++",
    rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]++|\\[\x20-\x7e])*"',
    _UTF8_LABEL + rb"(?:\." + _UTF8_LABEL + rb")*",
)
# Beside what is no UTF-8 at all: C1 controls, and what Unicode takes for the end of a line.
_UNICODE_CONTROL = re.compile("[\x80-\x9f\u2028\u2029]")
# IDNA takes these for the dot between two labels (RFC 3490, 3.1).
_OTHER_DOT = re.compile("[\u3002\uff0e\uff61]")
_ACE = "xn--"
_LABEL_OCTETS_MAX = 63
_POSTMASTER = re.compile(rb"<postmaster>", re.IGNORECASE)
# Nearly all arguments are one of these, which one match reads in a third of the time: no parameter,
# no route, nothing quoted, nothing beyond ASCII. What it does not match is parsed in full.
_ORDINARY = rb"<(" + _ATOM + rb"(?:\." + _ATOM + rb")*@(" + _DOMAIN + rb"))>"
_ORDINARY_MAIL = re.compile(rb"FROM:" + _ORDINARY)
_ORDINARY_RCPT = re.compile(rb"TO:" + _ORDINARY)
# RFC 5321, 4.1.2: esmtp-keyword ["=" esmtp-value]; the value excludes '=', space and controls.
# Real ENVID and ORCPT values are xtext, which may not hold '=' either (RFC 3461, 4).
_PARAMETER = rb"[A-Za-z0-9][A-Za-z0-9-]*+(?:=[\x21-\x3c\x3e-\x7e]++)?"
_PARAMETERS = re.compile(rb"(?:[ \t]++" + _PARAMETER + rb")*[ \t]*")
# RFC 6531, 3.3: UTF-8 may stand in a value; whose, is judged where values are.
_UTF8_PARAMETERS = re.compile(
    rb"(?:[ \t]++[A-Za-z0-9][A-Za-z0-9-]*+(?:=[\x21-\x3c\x3e-\x7e\x80-\xff]++)?)*[ \t]*"
)
# From '<' to the '>' that closes it; quoted strings may hold '>' and spaces.
_BRACKETED = re.compile(rb'<(?:[^">]++|"(?:[^"\\]++|\\.)*")*>', re.DOTALL)
_ROUTING = re.compile(rb"[%!@:]")


@value()
class Mailbox:
    """One mailbox as the client wrote it: `raw` is `local@domain`, or `Postmaster` alone."""

    raw: bytes
    domain: str
    """Lower case, in A-labels (`comparable`); empty for the bare `Postmaster` of RFC 5321, 4.1.1.3.
    """

    def __str__(self) -> str:
        return self.raw.decode("utf-8", "backslashreplace")

    @property
    def is_ascii(self) -> bool:
        """Whether any server takes it; others only with SMTPUTF8 (RFC 6531)."""
        return self.raw.isascii()

    @property
    def folded(self) -> bytes:
        """The mailbox as lists compare it: without regard to case, the domain in A-labels."""
        if self.is_ascii:
            return self.raw.lower()
        local = self.raw.rpartition(b"@")[0].decode("utf-8", "backslashreplace")
        return f"{local.lower()}@{self.domain}".encode()

    @property
    def is_routed(self) -> bool:
        """Whether the local part asks a server to route on (`user%elsewhere@here`, `a!b@here`).

        Many servers still rewrite such addresses, so a stranger could relay through a backend
        that trusts us.
        """
        if not self.domain:
            return False
        local = self.raw.rpartition(b"@")[0]
        return _ROUTING.search(local) is not None


@value()
class PathArgument:
    """The argument of MAIL or RCPT: a mailbox (None for `<>`) and the parameters as they came."""

    mailbox: Mailbox | None
    parameters: tuple[bytes, ...]


def parse_mail_argument(argument: bytes, *, is_utf8: bool = False) -> PathArgument:
    """Parse what follows the verb MAIL: `FROM:<reverse-path> [parameters]`.

    Raises AddressSyntaxError with a text that may be sent to the client.
    """
    if (ordinary := _ordinary(_ORDINARY_MAIL, argument)) is not None:
        return ordinary
    path, parameters = _split(argument, b"FROM:", is_utf8=is_utf8)
    if path == b"<>":
        return PathArgument(None, parameters)
    return PathArgument(_parse_path(path, is_utf8=is_utf8), parameters)


def parse_rcpt_argument(argument: bytes, *, is_utf8: bool = False) -> PathArgument:
    """Parse what follows the verb RCPT: `TO:<forward-path> [parameters]`; never the null path."""
    if (ordinary := _ordinary(_ORDINARY_RCPT, argument)) is not None:
        return ordinary
    path, parameters = _split(argument, b"TO:", is_utf8=is_utf8)
    if _POSTMASTER.fullmatch(path):
        return PathArgument(Mailbox(path[1:-1], ""), parameters)
    return PathArgument(_parse_path(path, is_utf8=is_utf8), parameters)


def parse_mailbox(text: str, *, is_utf8: bool = False) -> Mailbox:
    """Parse a bare `local@domain`, as configuration and command line have it: no route."""
    return _parse_bare(text.encode("utf-8", "surrogateescape"), is_utf8=is_utf8)


def mailbox_of(raw: bytes) -> Mailbox:
    """Make the mailbox of a path that was parsed once, as envelopes and the spool keep it.

    One that cannot be parsed, as the bare `Postmaster`, has no domain. Never raises.
    """
    try:
        return _parse_bare(raw, is_utf8=True)
    except AddressSyntaxError:
        return Mailbox(raw, "")


def domain_of(raw: bytes) -> str:
    """The domain of such a path as it is compared; empty if there is none."""
    return comparable(raw.rpartition(b"@")[2].decode("utf-8", "replace")) if b"@" in raw else ""


def comparable(domain: str) -> str:
    """A domain as it is compared: lower case, in A-labels if they lead back to the same name."""
    lower = domain.lower()
    if lower.isascii():
        return lower
    return _in_a_labels(lower)


@lru_cache(maxsize=1000)
def _in_a_labels(lower: str) -> str:
    """The same in A-labels, or as it is where they would lead back to another name, or to none.

    Strangers choose the name, so it is cheap first: the codec of the standard library takes tens of
    milliseconds for some names of a few letters, which are not in normal form, and nearly as long
    for names that are too long.
    """
    unicode = unicodedata.normalize("NFC", lower)
    if not unicodedata.is_normalized("NFKC", unicode) or _OTHER_DOT.search(unicode):
        return lower
    labels = unicode.removesuffix(".").split(".")
    octets = sum(len(each) + (0 if each.isascii() else len(_ACE)) + 1 for each in labels)
    if octets > DOMAIN_OCTETS_MAX + 1:
        return lower
    try:
        ascii_form = ".".join(map(_a_label, labels))
    except UnicodeError:
        return lower
    return ascii_form + unicode[len(unicode.removesuffix(".")) :]


def _a_label(label: str) -> str:
    """RFC 3490, 4.1, of what nameprep leaves as it is; raises UnicodeError."""
    if not 0 < len(label) <= _LABEL_OCTETS_MAX or label.startswith(_ACE):
        raise UnicodeError
    if label.isascii():
        return label
    if nameprep(label) != label:
        raise UnicodeError
    ascii_form = _ACE + label.encode("punycode").decode("ascii").lower()
    if len(ascii_form) > _LABEL_OCTETS_MAX:
        raise UnicodeError
    return ascii_form


def is_non_ascii(argument: bytes) -> bool:
    """Whether a path was refused for RFC 6531 reasons rather than for its grammar."""
    return not argument.isascii()


def _ordinary(pattern: re.Pattern[bytes], argument: bytes) -> PathArgument | None:
    """What an ordinary argument says, or None if it is none and has to be parsed in full."""
    match = pattern.fullmatch(argument)
    if match is None:
        return None
    raw, domain = match.group(1, 2)
    if len(raw) > PATH_OCTETS_MAX or len(raw) - len(domain) > LOCAL_PART_OCTETS_MAX + 1:
        return None
    return PathArgument(Mailbox(raw, domain.decode("ascii").lower()), ())


def _split(argument: bytes, keyword: bytes, *, is_utf8: bool) -> tuple[bytes, tuple[bytes, ...]]:
    if argument[: len(keyword)].upper() != keyword:
        raise AddressSyntaxError(f"expected {keyword.decode()}<address>")
    rest = argument[len(keyword) :].strip(b" \t")
    end = _path_end(rest)
    path, tail = rest[:end], rest[end:]
    if tail and tail[:1] not in b" \t":
        raise AddressSyntaxError("expected a space after the address")
    if not (_UTF8_PARAMETERS if is_utf8 else _PARAMETERS).fullmatch(tail):
        raise AddressSyntaxError("malformed parameter")
    if is_utf8 and not tail.isascii():
        _decoded(tail)
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


def _parse_bare(text: bytes, *, is_utf8: bool) -> Mailbox:
    if text.startswith(b"@"):
        raise AddressSyntaxError("malformed address")
    return _parse_path(b"<" + text + b">", is_utf8=is_utf8)


def _parse_path(path: bytes, *, is_utf8: bool) -> Mailbox:
    if len(path) > PATH_OCTETS_MAX + 2:
        raise AddressSyntaxError("address too long")
    is_ascii = path.isascii()
    match = (_PATH if is_ascii or not is_utf8 else _UTF8_PATH).fullmatch(path)
    if match is None:
        raise AddressSyntaxError("malformed address")
    local, domain = match["local"], match["domain"]
    if len(local) > LOCAL_PART_OCTETS_MAX:
        raise AddressSyntaxError("local part too long")
    if domain.startswith(b"["):
        _check_literal(domain[1:-1].decode("ascii"))
    if is_ascii:
        return Mailbox(local + b"@" + domain, domain.decode("ascii").lower())
    _decoded(path)
    name = domain.decode()
    if _OTHER_DOT.search(name):
        raise AddressSyntaxError("the domain has a dot that is none")
    return Mailbox(local + b"@" + domain, comparable(name))


def _decoded(octets: bytes) -> str:
    """The text of octets that must be UTF-8 without control characters."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise AddressSyntaxError("not UTF-8") from None
    if _UNICODE_CONTROL.search(text):
        raise AddressSyntaxError("control character")
    return text


def _check_literal(text: str) -> None:
    """Refuse an address literal that is none, `0127.0.0.1` too: some would read it as octal."""
    is_v6 = text[:5].upper() == "IPV6:"
    try:
        IPv6Address(text[5:]) if is_v6 else IPv4Address(text)
    except AddressValueError:
        raise AddressSyntaxError("malformed address literal") from None
