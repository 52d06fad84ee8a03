"""What a client sends with AUTH, taken apart: PLAIN (RFC 4616), LOGIN and XOAUTH2.

A mechanism is a conversation of one or two challenges; the client's responses come in base64, a
line each (RFC 4954, 4). `decoded` undoes the base64, `credentials` reads the responses. Both are
strict: what two programs could read differently is refused and not mended, since another program
is asked whether the secret is right, and must be asked about the same name that we then go by.

- Base64 in its only form: alphabet, padding and unused bits as RFC 4648 has them.
- A name is UTF-8 of at most 255 octets (RFC 4616, 2), printable, without white space at its ends,
  and in normal form (NFKC, to which SASLprep of RFC 4013 would bring it). So there are no NUL, CR
  or LF in it, nothing that turns a line of a log around, and no two ways to write one user.
- An authorization identity (PLAIN's first field: act as somebody else) is refused unless it is the
  name itself: nothing here may act for others.

Names are compared without regard to case, as mail systems do; `login` is in lower case, the
responses are kept as they came. The secret is in them, so nothing shows them: no `repr`, no error.
"""

import base64
import binascii
import re
import unicodedata
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b

from mailshed.errors import CredentialsEncodingError, CredentialsError

RESPONSE_OCTETS_MAX = 12288
"""Octets of one response in base64, without CRLF: what RFC 4954, 4 asks servers to take."""
LOGIN_OCTETS_MAX = 255
"""Octets of a name: as many as RFC 4616, 2 asks servers to take."""
KEY_OCTETS = 32
"""Octets of a key for `Credentials.digest`."""
_DIGEST_OCTETS = 16

_OAUTH = re.compile(rb"user=([^\x01]+)\x01auth=[Bb]earer ([!-~]+)\x01\x01")


class Mechanism(Enum):
    """How a client says who it is; the values are SASL's names."""

    PLAIN = "PLAIN"
    LOGIN = "LOGIN"
    XOAUTH2 = "XOAUTH2"

    @property
    def challenges(self) -> tuple[bytes, ...]:
        """What the server asks, one after the other; the client may answer the first unasked."""
        return _LOGIN_CHALLENGES if self is Mechanism.LOGIN else (b"",)


# What clients expect to the letter; the mechanism has no standard.
_LOGIN_CHALLENGES = (b"Username:", b"Password:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a client has said: who it is, and the proof."""

    mechanism: Mechanism
    login: str
    """The name as people read it, in lower case."""
    responses: tuple[bytes, ...] = field(repr=False)
    """All that the client has said, octet for octet, without base64."""

    @property
    def encoded(self) -> tuple[bytes, ...]:
        """The responses as they came over the wire."""
        return tuple(base64.b64encode(each) for each in self.responses)

    def sayable(self, offered: Container[str]) -> "Credentials | None":
        """The same, said in a mechanism that is offered; None if there is none.

        In the client's own if possible; a name and a password may be said in two ways.
        """
        if self.mechanism.value in offered:
            return self
        other, said = _otherwise(self)
        if other is None or other.value not in offered:
            return None
        return Credentials(mechanism=other, login=self.login, responses=said)

    def digest(self, key: bytes) -> bytes:
        """What tells these credentials from others, and says nothing to who does not have `key`.

        A name and a password are the same in whichever mechanism they are said: many clients try
        all that are offered.
        """
        name, secret = _name_and_secret(self.mechanism, self.responses)
        kind = b"token" if self.mechanism is Mechanism.XOAUTH2 else b"password"
        said = b"%b %d %b%b" % (kind, len(name), name, secret)
        return blake2b(said, key=key, digest_size=_DIGEST_OCTETS).digest()


def _otherwise(credentials: Credentials) -> tuple[Mechanism | None, tuple[bytes, ...]]:
    """Another mechanism for the same name and password, and what is said in it."""
    match credentials.mechanism:
        case Mechanism.LOGIN:
            return Mechanism.PLAIN, (b"\0" + b"\0".join(credentials.responses),)
        case Mechanism.PLAIN:
            return Mechanism.LOGIN, tuple(credentials.responses[0].split(b"\0")[1:])
        case Mechanism.XOAUTH2:
            return None, ()


def mechanism_of(name: bytes) -> Mechanism | None:
    """The mechanism that a client asks for, whatever its case; None if we do not know it."""
    try:
        return Mechanism(name.upper().decode("ascii"))
    except ValueError:
        return None


def decoded(line: bytes) -> bytes:
    """Undo the base64 of one response; raises CredentialsEncodingError."""
    try:
        said = base64.b64decode(line, validate=True)
    except binascii.Error:
        raise CredentialsEncodingError("not base64") from None
    if base64.b64encode(said) != line:  # else there would be two lines for one response
        raise CredentialsEncodingError("unused bits of the base64 are set")
    return said


def credentials(mechanism: Mechanism, responses: Sequence[bytes]) -> Credentials:
    """Read the responses of a whole conversation; raises CredentialsError."""
    assert len(responses) == len(mechanism.challenges), "one response to each challenge"
    name, secret = _name_and_secret(mechanism, responses)
    if not secret:
        raise CredentialsError("no password")
    return Credentials(mechanism=mechanism, login=login_of(name), responses=tuple(responses))


def _name_and_secret(mechanism: Mechanism, responses: Sequence[bytes]) -> tuple[bytes, bytes]:
    match mechanism:
        case Mechanism.PLAIN:
            return _plain(responses[0])
        case Mechanism.LOGIN:
            name, secret = responses
            if b"\0" in secret:  # it could not be said as PLAIN, and means nothing anywhere
                raise CredentialsError("NUL in the password")
            return name, secret
        case Mechanism.XOAUTH2:
            return _oauth(responses[0])


def _plain(message: bytes) -> tuple[bytes, bytes]:
    fields = message.split(b"\0")
    if len(fields) != 3:
        raise CredentialsError(f"PLAIN has {len(fields) - 1} NUL instead of 2")
    identity, name, secret = fields
    if identity not in (b"", name):
        raise CredentialsError("the authorization identity is another than the name")
    return name, secret


def _oauth(message: bytes) -> tuple[bytes, bytes]:
    match = _OAUTH.fullmatch(message)
    if match is None:
        raise CredentialsError("malformed XOAUTH2 message")
    return match[1], match[2]


def login_of(name: bytes) -> str:
    """A user's name as we go by it; raises CredentialsError if it is none."""
    if not 0 < len(name) <= LOGIN_OCTETS_MAX:
        raise CredentialsError("the name is empty" if not name else "the name is too long")
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise CredentialsError("the name is not UTF-8") from None
    if not text.isprintable():
        raise CredentialsError("control characters in the name")
    if text.strip() != text:
        raise CredentialsError("white space around the name")
    if not unicodedata.is_normalized("NFKC", text):
        raise CredentialsError("the name is not in normal form")
    return text.lower()
