"""The ESMTP parameters of MAIL and RCPT as values, and the replies to those that say nothing.

Parameters travel as the octets that came (`Envelope.parameters`), so that what goes on is what the
client wrote; here they get a meaning beside that. Known are SIZE (RFC 1870), BODY (RFC 6152),
SMTPUTF8 (RFC 6531), RET, ENVID, NOTIFY and ORCPT (RFC 3461), AUTH (RFC 4954), MT-PRIORITY
(RFC 6710) and BY (RFC 2852). All others are 555 (RFC 5321, 4.1.1.11), REQUIRETLS among them: nobody
may believe a promise about the whole way of a message that we cannot keep.

Two freedoms: keywords and words in any case, and the hexadecimal digits of xtext in either. What
xtext stands for has to be printable ASCII (RFC 3461, 4.2 and 4.4), so that no address hides a line
end. BINARYMIME is a wrong value, since it is not offered.

The same parsers read what the spool has kept. BY counts from the arrival of the message; whoever
passes it on has to reckon it anew.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mailshed.errors import AddressSyntaxError
from mailshed.mail import reply
from mailshed.mail.address import parse_mailbox
from mailshed.mail.reply import Reply

PARAMETER_OCTETS_MAX = 1000
"""Of one command. At their longest, the values below add up to 900 octets for MAIL and 540 for
RCPT, and no client by the rules comes near that."""
ENVID_OCTETS_MAX = 100
"""RFC 3461, 4.4, of the decoded value."""
ORCPT_OCTETS_MAX = 500
"""RFC 3461, 4.2, with the address type."""
AUTH_OCTETS_MAX = 500
"""By so much RFC 4954 lets the parameter make MAIL longer."""
PRIORITY_MIN, PRIORITY_MAX = -9, 9


class Body(Enum):
    """What the client says of the octets of its mail data."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"


class Ret(Enum):
    """How much of the message a report of failure is to bring back."""

    FULL = "FULL"
    HDRS = "HDRS"


class Notify(Enum):
    """What a recipient's sender wants to be told of."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """A deadline that the client has set (RFC 2852), in seconds from the arrival of the message."""

    seconds: int
    """Perhaps negative, on a message to be notified about: it was late before it came here."""
    is_returned: bool
    """Return the message when the time is up (`R`); else only say so (`N`)."""
    is_traced: bool = False
    """Every server on the way is to report (`T`); we do not."""


@dataclass(frozen=True, slots=True)
class OriginalRecipient:
    """Whom the sender wrote to (RFC 3461, 4.2); UTF-8 if `address_type` is `utf-8` (RFC 6533)."""

    address_type: str
    """Lower case."""
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MailParameters:
    """What MAIL says beside the reverse-path; None where it says nothing."""

    size: int | None = None
    body: Body | None = None
    is_utf8: bool = False
    ret: Ret | None = None
    envid: str | None = None
    """Decoded."""
    auth: str | None = None
    """Who has submitted the message; empty for `<>`, nobody knows."""
    priority: int | None = None
    deliver_by: DeliverBy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RcptParameters:
    """What RCPT says beside the forward-path."""

    notify: frozenset[Notify] | None = None
    """Empty for NEVER; None if nothing was said, which is for each server to choose."""
    orcpt: OriginalRecipient | None = None


NO_MAIL_PARAMETERS = MailParameters()
NO_RCPT_PARAMETERS = RcptParameters()


def parse_mail_parameters(parameters: Sequence[bytes]) -> MailParameters | Reply:
    """Read the parameters of MAIL; a reply says which one is wrong."""
    if not parameters:
        return NO_MAIL_PARAMETERS
    values = _values(parameters, _MAIL, UNKNOWN_MAIL_PARAMETER)
    return values if isinstance(values, Reply) else MailParameters(**values)


def parse_rcpt_parameters(
    parameters: Sequence[bytes], *, is_utf8: bool = False
) -> RcptParameters | Reply:
    """Read the parameters of RCPT; `is_utf8` if MAIL had SMTPUTF8."""
    if not parameters:
        return NO_RCPT_PARAMETERS
    values = _values(parameters, _RCPT_UTF8 if is_utf8 else _RCPT, UNKNOWN_RCPT_PARAMETER)
    return values if isinstance(values, Reply) else RcptParameters(**values)


def keyword_of(parameter: bytes) -> bytes:
    """The name of a parameter, in upper case."""
    return parameter.partition(b"=")[0].upper()


def without(parameters: Iterable[bytes], *keywords: bytes) -> tuple[bytes, ...]:
    """The parameters but for these, as they came."""
    return tuple(each for each in parameters if keyword_of(each) not in keywords)


def decode_xtext(text: bytes) -> bytes | None:
    """What xtext (RFC 3461, 4) stands for; None if it is none."""
    if not _XTEXT.fullmatch(text):
        return None
    return _HEX_PAIR.sub(lambda match: bytes((int(match[1], 16),)), text)


# Replies.

UNKNOWN_MAIL_PARAMETER = reply.make(555, "5.5.4 MAIL parameter not recognized")
UNKNOWN_RCPT_PARAMETER = reply.make(555, "5.5.4 RCPT parameter not recognized")
GIVEN_TWICE = reply.make(501, "5.5.4 Parameter given twice")
TOO_LONG = reply.make(501, f"5.5.4 Parameters are longer than {PARAMETER_OCTETS_MAX} octets")


def _wrong(syntax: str) -> Reply:
    return reply.make(501, f"5.5.4 Syntax: {syntax}")


_WRONG_SIZE = _wrong("SIZE=octets")
_WRONG_BODY = _wrong("BODY=7BIT or BODY=8BITMIME")
_WRONG_UTF8 = _wrong("SMTPUTF8, without a value")
_WRONG_RET = _wrong("RET=FULL or RET=HDRS")
_WRONG_ENVID = _wrong(f"ENVID=xtext, {ENVID_OCTETS_MAX} printable characters at most")
_WRONG_AUTH = _wrong("AUTH=mailbox in xtext, or AUTH=<>")
_WRONG_PRIORITY = _wrong(f"MT-PRIORITY={PRIORITY_MIN} to {PRIORITY_MAX}")
_WRONG_BY = _wrong("BY=seconds;N or BY=seconds;R, the seconds of R being positive")
_WRONG_NOTIFY = _wrong("NOTIFY=NEVER, or a list of SUCCESS, FAILURE and DELAY")
_WRONG_ORCPT = _wrong("ORCPT=type;address, the address in xtext")


# Reading. A reader is given the value, and gives back what it means, or what is wrong with it.

_XTEXT = re.compile(rb"(?:[!-*,-<>-~]++|\+[0-9A-Fa-f]{2})*+")
_HEX_PAIR = re.compile(rb"\+([0-9A-Fa-f]{2})")
_PRINTABLE = re.compile(rb"[\x20-\x7e]*")
_PRIORITY = re.compile(rb"-?[1-9]|0")
_BY = re.compile(rb"([+-]?[0-9]{1,9});([NR])(T?)", re.IGNORECASE)
_ADDRESS_TYPE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
# RFC 6533, 3: what is neither printable ASCII nor wanted as it is stands as \x{20AC}.
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


def _size(value: bytes) -> int | Reply:
    is_number = value.isdigit() and len(value) <= 20  # RFC 1870
    return int(value) if is_number else _WRONG_SIZE


def _body(value: bytes) -> Body | Reply:
    return _BODIES.get(value.upper(), _WRONG_BODY)


def _utf8(value: bytes) -> bool | Reply:
    return _WRONG_UTF8 if value else True


def _ret(value: bytes) -> Ret | Reply:
    return _RETS.get(value.upper(), _WRONG_RET)


def _envid(value: bytes) -> str | Reply:
    decoded = _printable(value)
    if not decoded or len(decoded) > ENVID_OCTETS_MAX:
        return _WRONG_ENVID
    return decoded


def _auth(value: bytes) -> str | Reply:
    if value == b"<>":
        return ""
    decoded = decode_xtext(value)
    if decoded is None or len(value) > AUTH_OCTETS_MAX:
        return _WRONG_AUTH
    try:
        return str(parse_mailbox(decoded.decode(), is_utf8=True))
    except (AddressSyntaxError, UnicodeDecodeError):
        return _WRONG_AUTH


def _priority(value: bytes) -> int | Reply:
    return int(value) if _PRIORITY.fullmatch(value) else _WRONG_PRIORITY


def _by(value: bytes) -> DeliverBy | Reply:
    match = _BY.fullmatch(value)
    if match is None:
        return _WRONG_BY
    seconds, is_returned = int(match[1]), match[2].upper() == b"R"
    if is_returned and seconds <= 0:
        return _WRONG_BY
    return DeliverBy(seconds, is_returned, is_traced=bool(match[3]))


def _notify(value: bytes) -> frozenset[Notify] | Reply:
    words = value.upper()
    if words == b"NEVER":
        return frozenset()
    wanted = [_NOTIFICATIONS.get(word) for word in words.split(b",")]
    known = frozenset(each for each in wanted if each is not None)
    return _WRONG_NOTIFY if None in wanted else known


def _orcpt(value: bytes) -> OriginalRecipient | Reply:
    return _original(value, is_utf8=False)


def _orcpt_utf8(value: bytes) -> OriginalRecipient | Reply:
    return _original(value, is_utf8=True)


def _original(value: bytes, *, is_utf8: bool) -> OriginalRecipient | Reply:
    address_type, _, encoded = value.partition(b";")
    if len(value) > ORCPT_OCTETS_MAX or not _ADDRESS_TYPE.fullmatch(address_type):
        return _WRONG_ORCPT
    name = address_type.decode("ascii").lower()
    address = _unicode(encoded, is_utf8=is_utf8) if name == "utf-8" else _printable(encoded)
    return OriginalRecipient(name, address) if address else _WRONG_ORCPT


def _printable(xtext: bytes) -> str | None:
    """What xtext stands for, if that is printable ASCII."""
    decoded = decode_xtext(xtext)
    if decoded is None or not _PRINTABLE.fullmatch(decoded):
        return None
    return decoded.decode("ascii")


def _unicode(encoded: bytes, *, is_utf8: bool) -> str | None:
    """RFC 6533, 3: ASCII with escapes, or UTF-8 itself where the transaction is one of UTF-8."""
    if not (is_utf8 or encoded.isascii()):
        return None
    try:
        text = encoded.decode()
    except UnicodeDecodeError:
        return None
    if "\\" in _EMBEDDED.sub("", text):
        return None
    points = [int(digits, 16) for digits in _EMBEDDED.findall(text)]
    if any(point > 0x10FFFF or 0xD800 <= point <= 0xDFFF for point in points):
        return None
    decoded = _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), text)
    return decoded if decoded.isprintable() else None


_BODIES: dict[bytes, Body] = {each.value.encode(): each for each in Body}
_RETS: dict[bytes, Ret] = {each.value.encode(): each for each in Ret}
_NOTIFICATIONS: dict[bytes, Notify] = {each.value.encode(): each for each in Notify}

_Readers = Mapping[bytes, tuple[str, Callable[[bytes], Any]]]
"""By keyword: the field it fills, and its reader."""
_MAIL: _Readers = {
    b"SIZE": ("size", _size),
    b"BODY": ("body", _body),
    b"SMTPUTF8": ("is_utf8", _utf8),
    b"RET": ("ret", _ret),
    b"ENVID": ("envid", _envid),
    b"AUTH": ("auth", _auth),
    b"MT-PRIORITY": ("priority", _priority),
    b"BY": ("deliver_by", _by),
}
_RCPT: _Readers = {b"NOTIFY": ("notify", _notify), b"ORCPT": ("orcpt", _orcpt)}
_RCPT_UTF8: _Readers = {**_RCPT, b"ORCPT": ("orcpt", _orcpt_utf8)}


def _values(
    parameters: Sequence[bytes], readers: _Readers, unknown: Reply
) -> dict[str, Any] | Reply:
    """The fields that the parameters fill, or the reply to the first that is wrong."""
    if sum(map(len, parameters)) > PARAMETER_OCTETS_MAX:
        return TOO_LONG
    values: dict[str, Any] = {}
    for parameter in parameters:
        keyword, _, value = parameter.partition(b"=")
        known = readers.get(keyword.upper())
        if known is None:
            return unknown
        name, read = known
        if name in values:
            return GIVEN_TWICE
        meaning = read(value)
        if isinstance(meaning, Reply):
            return meaning
        values[name] = meaning
    return values
