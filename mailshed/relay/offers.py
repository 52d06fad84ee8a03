"""What a server offered in its reply to EHLO, as far as a relay cares.

Read from the lines after the first: a keyword, and what follows it (RFC 5321, 4.1.1.1). Nothing in
there is trusted to be well formed. A value that cannot be read counts as not given, a keyword that
is no keyword as not offered: the worst that follows is that an extension is not used.

A server's lines before TLS say nothing about those after it (RFC 3207, 4.2), and the same goes for
XCLIENT; so an `Offers` is made anew from each reply, and never added to.

Pure.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
# ESMTP parameters that may be sent on, by the extension that brings them.
_PARAMETERS = {
    "8BITMIME": (b"BODY",),
    "DSN": (b"RET", b"ENVID", b"NOTIFY", b"ORCPT"),
    "SMTPUTF8": (b"SMTPUTF8",),
    "MT-PRIORITY": (b"MT-PRIORITY",),
    "DELIVERBY": (b"BY",),
    "REQUIRETLS": (b"REQUIRETLS",),
}
_NUMBER_DIGITS_MAX = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """The extensions of one session; empty for a server that has none."""

    pipelining: bool = False
    starttls: bool = False
    chunking: bool = False
    """Whether it takes BDAT (RFC 3030)."""
    size: bool = False
    size_max: int | None = None
    """Octets of the largest message it takes (RFC 1870); None if it does not say."""
    keywords: frozenset[bytes] = frozenset()
    """Keywords of ESMTP parameters that may be sent on, upper case."""
    mechanisms: frozenset[str] = frozenset()
    """Those of AUTH, upper case."""
    xclient: frozenset[str] = frozenset()
    """Attributes that XCLIENT takes, upper case; empty if it is not for us."""
    xforward: frozenset[str] = frozenset()
    """The same of XFORWARD."""
    mail_max: int | None = None
    """Mail transactions it takes in one session (RFC 9422, MAILMAX)."""
    rcpt_max: int | None = None
    """Recipients it takes in one transaction (RFC 9422, RCPTMAX)."""

    @classmethod
    def from_extensions(cls, extensions: Iterable[str]) -> "Offers":
        """Read the lines of a reply to EHLO without the first; any case, spaces as they come."""
        lines = as_mapping(extensions)
        keywords: set[bytes] = set()
        for name, parameters in _PARAMETERS.items():
            if name in lines:
                keywords.update(parameters)
        limits = _pairs(lines.get("LIMITS", ""))
        return cls(
            pipelining="PIPELINING" in lines,
            starttls="STARTTLS" in lines,
            chunking="CHUNKING" in lines,
            size="SIZE" in lines,
            size_max=_number(lines.get("SIZE", "")),
            keywords=frozenset(keywords),
            mechanisms=_words(lines, "AUTH"),
            xclient=_words(lines, "XCLIENT"),
            xforward=_words(lines, "XFORWARD"),
            mail_max=_number(limits.get("MAILMAX", "")),
            rcpt_max=_number(limits.get("RCPTMAX", "")),
        )


def as_mapping(extensions: Iterable[str]) -> dict[str, str]:
    """What follows each keyword, which is in upper case; a keyword twice has both.

    The form `AUTH=LOGIN PLAIN`, which is older than the standard, is read as AUTH.
    """
    found: dict[str, str] = {}
    for line in extensions:
        keyword, _, value = line.strip().partition(" ")
        keyword = keyword.upper()
        if keyword.startswith("AUTH="):
            keyword, value = "AUTH", f"{keyword[5:]} {value}"
        if _KEYWORD.fullmatch(keyword):
            found[keyword] = f"{found[keyword]} {value}" if keyword in found else value.strip()
    return found


def _words(lines: dict[str, str], keyword: str) -> frozenset[str]:
    return frozenset(lines.get(keyword, "").upper().split())


def _pairs(text: str) -> dict[str, str]:
    """The `NAME=VALUE` of LIMITS; others are of later standards."""
    pairs = (word.partition("=") for word in text.upper().split())
    return {name: value for name, equals, value in pairs if equals}


def _number(text: str) -> int | None:
    """A number above 0; SIZE 0 means that there is no fixed maximum (RFC 1870)."""
    digits = text.split(" ", 1)[0]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _NUMBER_DIGITS_MAX:
        return None
    return int(digits) or None
