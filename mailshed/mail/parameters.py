"""The ESMTP parameters of MAIL and RCPT as values: what each may say, and what it is answered if not.

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
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

from mailshed.errors import AddressSyntaxError
from mailshed.mail import reply
from mailshed.mail.address import Mailbox, parse_mailbox
from mailshed.mail.reply import Reply

PARAMETER_OCTETS_MAX = 1000
"""Of one command. At their longest, the values below add up to 900 octets for MAIL and 540 for RCPT,
and no client by the rules comes near that."""
ENVID_OCTETS_MAX = 100
"""RFC 3461, 4.4, of the decoded value."""
ORCPT_OCTETS_MAX = 500
"""RFC 3461, 4.2, with the address type."""
AUTH_OCTETS_MAX = 500
"""RFC 4954, 3: by so much the parameter may make MAIL longer."""
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
    has_auth: bool = False
    auth: Mailbox | None = None
    """Who has submitted the message; None too for `<>`, nobody knows."""
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
    return _parsed(parameters, _MAIL, NO_MAIL_PARAMETERS, UNKNOWN_MAIL_PARAMETER)


def parse_rcpt_parameters(
    parameters: Sequence[bytes], *, is_utf8: bool = False
) -> RcptParameters | Reply:
    """Read the parameters of RCPT; `is_utf8` if MAIL had SMTPUTF8."""
    if not parameters:
        return NO_RCPT_PARAMETERS
    readers = _RCPT_UTF8 if is_utf8 else _RCPT
    return _parsed(parameters, readers, NO_RCPT_PARAMETERS, UNKNOWN_RCPT_PARAMETER)


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


# Reading. Each reader is given the value (None without `=`) and what was read so far.

_XTEXT = re.compile(rb"(?:[!-*,-<>-~]++|\+[0-9A-Fa-f]{2})*+")
_HEX_PAIR = re.compile(rb"\+([0-9A-Fa-f]{2})")
_PRINTABLE = re.compile(rb"[\x20-\x7e]*")
_PRIORITY = re.compile(rb"-?[1-9]|0")
_BY = re.compile(rb"([+-]?[0-9]{1,9});([NR])(T?)", re.IGNORECASE)
_ADDRESS_TYPE = re.compile(rb"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})")
# RFC 6533, 3: what is neither printable ASCII nor wanted as it is stands as \x{20AC}.
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_SURROGATES = range(0xD800, 0xE000)


def _size(value: bytes | None, so_far: MailParameters) -> MailParameters | Reply:
    if value is None or not value.isdigit() or len(value) > 20:  # RFC 1870, 3
        return _WRONG_SIZE
    return replace(so_far, size=int(value))


def _body(value: bytes | None, so_far: MailParameters) -> MailParameters | Reply:
    body = _BODIES.get((value or b"").upper())
    return _WRONG_BODY if body is None else replace(so_far, body=body)


def _utf8(value: bytes | None, so_far: MailParameters) -> MailParameters | Reply:
    return _WRONG_UTF8 if value is not None else replace(so_far, is_utf8=True)


def _ret(value: bytes | None, so_far: MailParameters) -> MailParameters | Reply:
    ret = _RETS.get((value or b"").upper())
    return _WRONG_RET if ret is None else replace(so_far, ret=ret)


def _envid(value: bytes | None, so_far: MailParameters) -> MailParameters | Reply:
    decoded = None if value is None else decode_xtext(value)
    if decoded is None or len(decoded) > ENVID_OCTETS_MAX or not _PRINTABLE.fullmatch(decoded):
        return _WRONG_ENVID
    return replace(so_far, envid=decoded.decode("ascii"))


def _auth(value: bytes | None, so_far: MailParameters) -> MailParameters | Reply:
    if value is None or len(value) > AUTH_OCTETS_MAX:
        return _WRONG_AUTH
    if value == b"<>":
        return replace(so_far, has_auth=True)
    decoded = decode_xtext(value)
    if decoded is None:
        return _WRONG_AUTH
    try:
        mailbox = parse_mailbox(decoded.decode(), is_utf8=True)
    except (AddressSyntaxError, UnicodeDecodeError):
        return _WRONG_AUTH
    return replace(so_far, has_auth=True, auth=mailbox)


def _priority(value: bytes | None, so_far: MailParameters) -> MailParameters | Reply:
    if value is None or not _PRIORITY.fullmatch(value):
        return _WRONG_PRIORITY
    return replace(so_far, priority=int(value))


def _by(value: bytes | None, so_far: MailParameters) -> MailParameters | Reply:
    match = _BY.fullmatch(value or b"")
    if match is None:
        return _WRONG_BY
    seconds, is_returned = int(match[1]), match[2].upper() == b"R"
    if is_returned and seconds <= 0:
        return _WRONG_BY
    return replace(so_far, deliver_by=DeliverBy(seconds, is_returned, bool(match[3])))


def _notify(value: bytes | None, so_far: RcptParameters) -> RcptParameters | Reply:
    words = (value or b"").upper()
    if words == b"NEVER":
        return replace(so_far, notify=frozenset())
    wanted = [_NOTIFICATIONS.get(word) for word in words.split(b",")]
    known = frozenset(each for each in wanted if each is not None)
    return _WRONG_NOTIFY if None in wanted else replace(so_far, notify=known)


def _orcpt(
    value: bytes | None, so_far: RcptParameters, *, is_utf8: bool
) -> RcptParameters | Reply:
    address_type, semicolon, encoded = (value or b"").partition(b";")
    if len(value or b"") > ORCPT_OCTETS_MAX or not semicolon or not encoded:
        return _WRONG_ORCPT
    if not _ADDRESS_TYPE.fullmatch(address_type):
        return _WRONG_ORCPT
    name = address_type.decode("ascii").lower()
    address = _utf8_address(encoded, is_utf8=is_utf8) if name == "utf-8" else _address(encoded)
    if address is None:
        return _WRONG_ORCPT
    return replace(so_far, orcpt=OriginalRecipient(name, address))


def _address(encoded: bytes) -> str | None:
    decoded = decode_xtext(encoded)
    if decoded is None or not _PRINTABLE.fullmatch(decoded):
        return None
    return decoded.decode("ascii")


def _utf8_address(encoded: bytes, *, is_utf8: bool) -> str | None:
    """RFC 6533, 3: ASCII with escapes, or UTF-8 itself where the transaction is one of UTF-8."""
    if not (is_utf8 or encoded.isascii()):
        return None
    text = encoded.decode()  # the parser of the command has looked at that
    points = [int(digits, 16) for digits in _EMBEDDED.findall(text)]
    if any(point > 0x10FFFF or point in _SURROGATES for point in points):
        return None
    if "\\" in _EMBEDDED.sub("", text):
        return None
    decoded = _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), text)
    return decoded if decoded.isprintable() else None


_BODIES = {each.value.encode(): each for each in Body}
_RETS = {each.value.encode(): each for each in Ret}
_NOTIFICATIONS = {each.value.encode(): each for each in Notify}

type _Reader[T] = Callable[[bytes | None, T], T | Reply]
