r"""Addresses as a report names them (RFC 3464; RFC 6533, 3).

An address of ASCII is of type `rfc822`. Another is of type `utf-8`: as it is in a report of UTF-8,
with `\x{FC}` for a `ü` in one of ASCII, which any server can carry and any reader take apart.
ORCPT brings a type of its own, which comes back with it.

Pure.
"""

from collections.abc import Sequence

from mailshed.drain.dsn import of_rcpt
from mailshed.drain.mime import VALUE_OCTETS_MAX, clean
from mailshed.mail.parameters import OriginalRecipient

# RFC 6533, 3: what may stand for itself in utf-8-addr-xtext is QCHAR.
_ESCAPED = frozenset("+=\\")


def final_recipient(address: bytes, *, is_utf8: bool) -> str:
    """Whom the message was for: type and address."""
    if address.isascii():
        return f"rfc822; {clean(address.decode('ascii'))}"
    return f"utf-8; {_international(address.decode('utf-8', 'replace'), is_utf8=is_utf8)}"


def original_recipient(parameters: Sequence[bytes], *, is_utf8: bool) -> str | None:
    """Whom the sender wrote to, by its own account: type and address; None if it did not say."""
    match of_rcpt(parameters).orcpt:
        case None:
            return None
        case OriginalRecipient("utf-8", address):
            return f"utf-8; {_international(address, is_utf8=is_utf8)}"
        case OriginalRecipient(address_type, address):
            return f"{clean(address_type)}; {clean(address)}"


def for_people(address: bytes, *, is_utf8: bool) -> str:
    """An address in a text; what ASCII cannot show is escaped."""
    if address.isascii():
        return clean(address.decode("ascii"))
    return _international(address.decode("utf-8", "replace"), is_utf8=is_utf8)


def _international(address: str, *, is_utf8: bool) -> str:
    if is_utf8:
        return clean(address, is_utf8=True)
    escaped = (each if _is_plain(each) else f"\\x{{{ord(each):02X}}}" for each in address)
    shown = ""
    for each in escaped:
        if len(shown) + len(each) > VALUE_OCTETS_MAX:
            break
        shown += each
    return shown


def _is_plain(character: str) -> bool:
    return "!" <= character <= "~" and character not in _ESCAPED
